import { expect, test } from "bun:test";
import {
  type Assembler as A,
  Assembler,
  CHARGED,
  type InMessage,
  Interleaver,
  type OutFrame,
} from "../../protocols/chunk.ts";
import type { Encoded } from "../../protocols/codec.ts";
import { SendWindow } from "../../protocols/credit.ts";
import type { ProtocolError } from "../../protocols/errors.ts";
import { FrameKind } from "../../protocols/frame.ts";
import { DEFAULT_LIMITS } from "../../protocols/limits.ts";
import { seededRandom } from "../../runtime/random.ts";

const wide = () => new SendWindow(2 ** 40);
const text = (s: string) => new TextEncoder().encode(s);
const message = (name: string, ...sizes: number[]): Encoded => ({
  header: text(name),
  segments: sizes.map((size) => new Uint8Array(size).fill(name.charCodeAt(0))),
});

function drain(interleaver: Interleaver): OutFrame[] {
  const frames: OutFrame[] = [];
  for (let frame = interleaver.next(); frame; frame = interleaver.next()) frames.push(frame);
  return frames;
}

/** One letter per frame: the stream's own in capitals for a head or whole message, small for a chunk, . control. */
function order(frames: OutFrame[]): string {
  const names = new Map<number, string>();
  return frames
    .map((f) => {
      if (f.message === 0) return ".";
      if (f.kind === FrameKind.chunk) return names.get(f.message)!.toLowerCase();
      names.set(f.message, String.fromCharCode(f.body[f.kind === FrameKind.head ? f.body.length - 1 : 0]!));
      return names.get(f.message)!;
    })
    .join("");
}

const newAssembler = (charge = (_: number) => {}) =>
  new Assembler(DEFAULT_LIMITS, (bytes) => new Uint8Array(bytes), charge);

function feed(assembler: A, frame: OutFrame): InMessage | undefined {
  const header = {
    kind: frame.kind,
    message: frame.message,
    chunk: frame.chunk,
    length: frame.body.byteLength,
  };
  if (frame.kind === FrameKind.message) return assembler.whole(header, frame.body);
  if (frame.kind === FrameKind.head) return assembler.begin(header, frame.body);
  assembler.place(header).set(frame.body);
  return assembler.filled(header);
}

test("streams take turns, one frame each; a stream is first in, first out", () => {
  const out = new Interleaver(10, wide());
  out.send("1", message("A", 40), false);
  out.send("1", message("C"), false);
  out.send("2", message("B", 20), false);
  expect(order(drain(out))).toBe("ABababaaC");
});

test("control never waits behind a tensor that has begun", () => {
  const out = new Interleaver(10, wide());
  out.send("1", message("A", 30), false);
  const frames = [out.next()!, out.next()!];
  out.sendControl(FrameKind.ping, new Uint8Array(0));
  frames.push(...drain(out));
  expect(order(frames)).toBe("Aa.aa");
});

test("a small message of another stream waits for one chunk at most", () => {
  const out = new Interleaver(10, wide());
  out.send("1", message("A", 1000), false);
  const frames = [out.next()!, out.next()!];
  out.send("2", message("B"), false);
  frames.push(out.next()!, out.next()!);
  expect(order(frames)).toMatch(/^Aaa?B/);
});

test("charged messages wait for credit, others and begun ones do not", () => {
  const window = new SendWindow(300);
  const out = new Interleaver(10, window);
  out.send("1", message("A", 100), true);
  out.send("1", message("C", 10), true);
  out.send("2", message("B", 10), false);
  const frames = drain(out);
  expect(order(frames).replaceAll("a", "")).toBe("ABb");
  expect(order(frames).match(/a/g)).toHaveLength(10);
  window.refund(window.outstanding);
  expect(order(drain(out))).toBe("Cc");
});

test("chunks do not cross segments, and empty segments need none", () => {
  const out = new Interleaver(10, wide());
  out.send("1", message("A", 0, 15, 0, 4), false);
  const frames = drain(out);
  expect(frames.slice(1).map((f) => f.body.byteLength)).toEqual([10, 5, 4]);
  expect(frames.slice(1).map((f) => f.chunk)).toEqual([0, 1, 2]);
});

test("whatever the interleaving, messages arrive whole, in order within a stream, charged what they cost", () => {
  const random = seededRandom(3);
  const out = new Interleaver(7, wide());
  let charged = 0;
  const assembler = newAssembler((cost) => {
    charged += cost;
  });
  const sent = new Map<string, string[]>();
  const received = new Map<string, string[]>();
  let cost = 0;
  for (let i = 0; i < 200; i++) {
    const stream = String(random.integer(5));
    const name = `${String.fromCharCode(97 + random.integer(26))} ${stream} ${i}`;
    const sizes = Array.from({ length: random.integer(4) }, () => random.integer(30));
    cost += out.send(stream, message(name, ...sizes), true).cost;
    sent.set(stream, [...(sent.get(stream) ?? []), `${name} ${sizes}`]);
    for (let n = random.integer(12); n > 0; n--) step();
  }
  while (step());
  function step(): boolean {
    const frame = out.next();
    if (!frame) return false;
    const whole = feed(assembler, frame);
    if (whole) {
      const name = new TextDecoder().decode(whole.header);
      const stream = name.split(" ")[1]!;
      for (const s of whole.segments) expect(s.every((b) => b === name.charCodeAt(0))).toBe(true);
      const sizes = whole.segments.map((s) => s.byteLength);
      received.set(stream, [...(received.get(stream) ?? []), `${name} ${sizes}`]);
    }
    return true;
  }
  expect(received).toEqual(sent);
  expect(charged).toBe(cost);
  expect(assembler.openMessages).toBe(0);
});

test("a cancelled message is dropped if unsent, and lets go of its memory if half sent", () => {
  const out = new Interleaver(10, wide());
  const half = message("A", 30);
  const first = out.send("1", half, false);
  const second = out.send("1", message("B", 5), false);
  const frames = [out.next()!, out.next()!];
  expect(out.cancel(second)).toBe(true);
  expect(out.cancel(first)).toBe(false);
  half.segments[0]!.fill(0);
  frames.push(...drain(out));
  expect(order(frames)).toBe("Aaaa");
  expect(frames.slice(2).every((f) => f.body.every((b) => b === 65))).toBe(true);
});

test("chunks that do not fit what was announced are refused", () => {
  const code = (work: () => unknown) => {
    try {
      work();
    } catch (error) {
      return (error as ProtocolError).code;
    }
    return undefined;
  };
  const begin = () => {
    const out = new Interleaver(10, wide());
    out.send("1", message("A", 20), false);
    const assembler = newAssembler();
    feed(assembler, out.next()!);
    return { assembler, chunk: out.next()! };
  };
  const bad: Partial<OutFrame>[] = [
    { message: 5 },
    { chunk: 1 },
    { body: new Uint8Array(21) },
    { body: new Uint8Array(0) },
  ];
  for (const change of bad) {
    const { assembler, chunk } = begin();
    expect(code(() => feed(assembler, { ...chunk, ...change }))).toBe("BAD_CHUNK");
  }
});

test("heads beyond the limits are refused before anything is allocated", () => {
  let allocated = 0;
  const limits = { ...DEFAULT_LIMITS, segments: 3, messageBytes: 1000, openMessages: 2, headerBytes: 50 };
  const assembler = new Assembler(
    limits,
    (bytes) => {
      allocated += bytes;
      return new Uint8Array(bytes);
    },
    () => {},
  );
  const head = (encoded: Encoded) => {
    const out = new Interleaver(10, wide());
    out.send("", encoded, false);
    return out.next()!;
  };
  expect(() => feed(assembler, head(message("A", 1, 1, 1, 1)))).toThrow(
    "segments of a message: at most 3, got 4",
  );
  expect(() => feed(assembler, head(message("A", 500, 501)))).toThrow("at most 1000, got 1001");
  expect(() => feed(assembler, head(message("A".repeat(51), 5)))).toThrow("at most 50, got 51");
  expect(allocated).toBe(0);
  feed(assembler, { ...head(message("A", 5)), message: 1 });
  feed(assembler, { ...head(message("A", 5)), message: 2 });
  expect(() => feed(assembler, { ...head(message("A", 5)), message: 3 })).toThrow("at most 2, got 3");
  expect(() => feed(assembler, { ...head(message("A", 5)), chunk: CHARGED })).toThrow("began twice");
});
