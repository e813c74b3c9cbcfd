/** Frames of real sessions, and what a fuzzer makes of them. */

import { FRAME_HEADER_BYTES, FrameKind, MAGIC, PROTOCOL_VERSION } from "../../protocols/frame.ts";
import type { Random } from "../../runtime/random.ts";

/** The frames in a stream of bytes, each whole with its header. */
export function framesOf(pieces: readonly Uint8Array[]): Uint8Array[] {
  const bytes = new Uint8Array(pieces.reduce((sum, { byteLength }) => sum + byteLength, 0));
  let end = 0;
  for (const piece of pieces) {
    bytes.set(piece, end);
    end += piece.byteLength;
  }
  const view = new DataView(bytes.buffer);
  const frames: Uint8Array[] = [];
  for (let at = 0; at + FRAME_HEADER_BYTES <= end; ) {
    const next = at + FRAME_HEADER_BYTES + view.getUint32(at + 4, true);
    if (next > end) break;
    frames.push(bytes.slice(at, next));
    at = next;
  }
  return frames;
}

const LAST_KIND = FrameKind.name;
/** Numbers at the edges of what a field may hold. */
const EDGES = [0, 1, 2, 15, 255, 256, 65_535, 65_536, 2 ** 20, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1];
const MOST_RANDOM_BYTES = 300;

function any<T>(random: Random, choices: readonly T[]): T {
  return choices[random.integer(choices.length)]!;
}

type Mutation = (random: Random, corpus: readonly Uint8Array[]) => Uint8Array;

/** A frame whose header is right and whose body is `body`. */
function framed(random: Random, body: Uint8Array): Uint8Array {
  const frame = new Uint8Array(FRAME_HEADER_BYTES + body.byteLength);
  const view = new DataView(frame.buffer);
  view.setUint16(0, MAGIC, true);
  frame[2] = PROTOCOL_VERSION;
  frame[3] = 1 + random.integer(LAST_KIND);
  view.setUint32(4, body.byteLength, true);
  view.setUint32(8, random.integer(20), true);
  view.setUint32(12, random.integer(4), true);
  frame.set(body, FRAME_HEADER_BYTES);
  return frame;
}

export const MUTATIONS: Readonly<Record<string, Mutation>> = {
  valid: (random, corpus) => any(random, corpus),
  noise: (random) => random.bytes(1 + random.integer(MOST_RANDOM_BYTES)),
  "noise in a frame": (random) => framed(random, random.bytes(random.integer(MOST_RANDOM_BYTES))),
  "body of another kind": (random, corpus) =>
    framed(random, any(random, corpus).subarray(FRAME_HEADER_BYTES)),
  truncated: (random, corpus) => {
    const frame = any(random, corpus);
    return frame.slice(0, random.integer(frame.byteLength));
  },
  "truncated body": (random, corpus) => {
    const frame = any(random, corpus);
    return framed(
      random,
      frame.subarray(FRAME_HEADER_BYTES, Math.max(FRAME_HEADER_BYTES, random.integer(frame.byteLength))),
    );
  },
  "flipped bits": (random, corpus) => {
    const frame = any(random, corpus).slice();
    const flips = 1 + random.integer(4);
    for (let i = 0; i < flips; i++) frame[random.integer(frame.byteLength)]! ^= 1 << random.integer(8);
    return frame;
  },
  "flipped bits in the body": (random, corpus) => {
    const frame = any(random, corpus).slice();
    const body = frame.byteLength - FRAME_HEADER_BYTES;
    if (body > 0) frame[FRAME_HEADER_BYTES + random.integer(Math.min(body, 64))]! ^= 1 << random.integer(8);
    return frame;
  },
  spliced: (random, corpus) => {
    const [head, tail] = [any(random, corpus), any(random, corpus)];
    const from = head.subarray(0, random.integer(head.byteLength));
    const to = tail.subarray(random.integer(tail.byteLength));
    const frame = new Uint8Array(from.byteLength + to.byteLength);
    frame.set(from);
    frame.set(to, from.byteLength);
    return frame;
  },
  "a field at its edge": (random, corpus) => {
    const frame = any(random, corpus).slice();
    new DataView(frame.buffer).setUint32(4 * (1 + random.integer(3)), any(random, EDGES), true);
    return frame;
  },
};
const NAMES = Object.keys(MUTATIONS);

/** One more frame to try, by chance. */
export function mutant(random: Random, corpus: readonly Uint8Array[]): Uint8Array {
  return MUTATIONS[any(random, NAMES)]!(random, corpus);
}
