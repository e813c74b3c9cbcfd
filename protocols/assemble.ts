/**
 * The receiving half of chunking: it learns all segment lengths of a message from its head, puts every chunk where
 * it belongs, and hands the message over when the last one is there. Memory for a segment is asked for when its
 * first byte has come; a piece that is a whole segment, and ours to keep, becomes the segment itself.
 */

import type { ReceiveWindow } from "./credit.ts";
import { ProtocolError } from "./errors.ts";
import type { FrameHeader } from "./frame.ts";
import type { Limits } from "./limits.ts";

/** A message that has come whole. */
export interface InMessage {
  /** Msgpack, in memory of its own. */
  readonly header: Uint8Array;
  /** Tensors and byte strings, each in the memory it was allocated, or came, in; the receiver's. */
  readonly segments: readonly Uint8Array[];
  /** The number under which it was charged; 0 when it was not. */
  readonly stream: number;
  /** Credit to give back once it is taken. */
  readonly cost: number;
}

interface OpenMessage extends InMessage {
  readonly segments: Uint8Array[];
  readonly lengths: readonly number[];
  segment: number;
  offset: number;
  chunk: number;
}

/** Memory for a segment; its first byte 64-byte aligned where the platform allows. It becomes the receiver's. */
export type Allocate = (byteLength: number) => Uint8Array;

const EMPTY = new Uint8Array(0);

/** The messages of one link that have begun and have not come whole. A link owns one. */
export class Assembler {
  private readonly limits: Limits;
  private readonly allocate: Allocate;
  private readonly window: ReceiveWindow;
  private readonly open = new Map<number, OpenMessage>();
  /** Bytes that the open messages will have. */
  private openBytes = 0;

  /** `allocate` is asked once for each segment that is not taken as it came. */
  constructor(limits: Limits, allocate: Allocate, window: ReceiveWindow) {
    this.limits = limits;
    this.allocate = allocate;
    this.window = window;
  }

  /**
   * A `head` frame; `body` is borrowed. Returns the message if it is whole already (all segments empty).
   * @throws ProtocolError LIMIT_EXCEEDED, MALFORMED_HEADER, BAD_CHUNK, BAD_CREDIT.
   */
  begin(frame: FrameHeader, body: Uint8Array): InMessage | undefined {
    const { limits } = this;
    if (this.open.has(frame.message)) {
      throw new ProtocolError("BAD_CHUNK", `message ${frame.message} began twice`);
    }
    if (this.open.size >= limits.openMessages) {
      throw exceeded("messages half received at once", this.open.size + 1, limits.openMessages);
    }
    const lengths = this.readLengths(body);
    let total = 0;
    for (const length of lengths) total += length;
    if (total > limits.messageBytes) throw exceeded("bytes of a message", total, limits.messageBytes);
    // An honest sender has queued no more than this; free messages, such as replies, are bounded by nothing else.
    const most = limits.queueBytes + limits.messageBytes;
    if (this.openBytes + total > most) {
      throw exceeded("bytes of messages half received at once", this.openBytes + total, most);
    }
    const header = body.slice(4 + 8 * lengths.length);
    if (header.byteLength > limits.headerBytes) {
      throw exceeded("bytes of a message header", header.byteLength, limits.headerBytes);
    }
    const stream = frame.chunk;
    const cost = stream === 0 ? 0 : this.window.receive(stream, header.byteLength + total);
    const segments = lengths.map(() => EMPTY);
    const message: OpenMessage = { header, segments, lengths, stream, cost, segment: 0, offset: 0, chunk: 0 };
    if (skipFull(message)) return message;
    this.open.set(frame.message, message);
    this.openBytes += total;
    return undefined;
  }

  /** A chunk is announced. @throws ProtocolError BAD_CHUNK when it is not the one that comes next. */
  expect(frame: FrameHeader): void {
    const message = this.open.get(frame.message);
    if (!message) {
      throw new ProtocolError("BAD_CHUNK", `a chunk of message ${frame.message}, which has not begun`);
    }
    if (frame.chunk !== message.chunk) {
      throw new ProtocolError("BAD_CHUNK", `expected chunk ${message.chunk}, got ${frame.chunk}`);
    }
    const left = message.lengths[message.segment]! - message.offset;
    if (frame.length === 0 || frame.length > left) {
      throw new ProtocolError("BAD_CHUNK", `expected a chunk of 1 to ${left} bytes, got ${frame.length}`);
    }
  }

  /** Where the bytes of a chunk go. It was expected. */
  place(frame: FrameHeader): Uint8Array {
    const message = this.open.get(frame.message)!;
    const { segment, offset } = message;
    if (offset === 0) message.segments[segment] = this.allocate(message.lengths[segment]!);
    return message.segments[segment]!.subarray(offset, offset + frame.length);
  }

  /** The bytes of a chunk, ours to keep. Returns whether they are a whole segment, and so have become it. */
  adopt(frame: FrameHeader, bytes: Uint8Array): boolean {
    const message = this.open.get(frame.message)!;
    if (message.lengths[message.segment] !== bytes.byteLength) return false;
    message.segments[message.segment] = bytes;
    return true;
  }

  /** The chunk is in its place. Returns the message when that was its last. */
  filled(frame: FrameHeader): InMessage | undefined {
    const message = this.open.get(frame.message)!;
    message.chunk++;
    message.offset += frame.length;
    if (!skipFull(message)) return undefined;
    this.open.delete(frame.message);
    for (const length of message.lengths) this.openBytes -= length;
    return message;
  }

  /** Messages that have begun and are not complete. */
  get openMessages(): number {
    return this.open.size;
  }

  /** Forgets all that was half received. */
  clear(): void {
    this.open.clear();
    this.openBytes = 0;
  }

  /** The lengths in a head. @throws ProtocolError LIMIT_EXCEEDED, MALFORMED_HEADER. */
  private readLengths(body: Uint8Array): number[] {
    const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
    const count = body.byteLength >= 4 ? view.getUint32(0, true) : 0;
    if (count > this.limits.segments) throw exceeded("segments of a message", count, this.limits.segments);
    if (count === 0 || body.byteLength < 4 + 8 * count) {
      throw new ProtocolError(
        "MALFORMED_HEADER",
        `a head of ${body.byteLength} bytes names ${count} segments`,
      );
    }
    const lengths: number[] = [];
    for (let at = 4; at < 4 + 8 * count; at += 8) {
      lengths.push(view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true));
    }
    return lengths;
  }
}

/** Moves on over full (and empty) segments; true when none is left. */
function skipFull(message: OpenMessage): boolean {
  while (message.segment < message.lengths.length) {
    if (message.offset < message.lengths[message.segment]!) return false;
    message.segment++;
    message.offset = 0;
  }
  return true;
}

function exceeded(what: string, got: number, limit: number): ProtocolError {
  return new ProtocolError("LIMIT_EXCEEDED", `${what}: at most ${limit}, got ${got}`);
}
