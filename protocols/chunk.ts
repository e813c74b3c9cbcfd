/**
 * Chunking: how many messages share one pipe. A message with segments is cut into chunks; the streams that have
 * something to send take turns, one frame each, so a large tensor delays another stream by one chunk and no more.
 * Within a stream, which is keyed by (sender, receiver), messages go out one after the other: first in, first
 * out. Control frames go before all of them.
 *
 * A chunk never crosses the border of a segment, so its body has one place to go. The receiver learns all segment
 * lengths from the message's head and allocates each segment before its first byte comes.
 */

import type { Encoded } from "./codec.ts";
import { MESSAGE_OVERHEAD_BYTES, type SendWindow } from "./credit.ts";
import { ProtocolError } from "./errors.ts";
import { type FrameHeader, FrameKind } from "./frame.ts";
import type { Limits } from "./limits.ts";
import { Ring } from "./ring.ts";

export interface OutFrame {
  readonly kind: FrameKind;
  readonly message: number;
  readonly chunk: number;
  readonly body: Uint8Array;
}

/** In the chunk field of a `message` or `head` frame: this message spends credit. */
export const CHARGED = 1;

/** Bytes of credit a message with this header and these segments costs. */
export function creditCost(headerBytes: number, segmentBytes: number): number {
  return headerBytes + segmentBytes + MESSAGE_OVERHEAD_BYTES;
}

/** A message on its way out. */
export interface OutMessage {
  readonly encoded: Encoded;
  readonly segments: Uint8Array[];
  readonly cost: number;
  readonly charged: boolean;
  readonly stream: string;
  id: number;
  /** Next segment, the offset in it, and the next chunk number. */
  segment: number;
  offset: number;
  chunk: number;
  state: "waiting" | "sending" | "sent";
}

/** The sending half. */
export class Interleaver {
  private readonly chunkBytes: number;
  private readonly window: SendWindow;
  private readonly control: OutFrame[] = [];
  private controlHead = 0;
  private readonly streams = new Map<string, Ring<OutMessage>>();
  /** Streams with something to send, in the order of their turns. */
  private readonly turns: string[] = [];
  private nextId = 0;
  /** Messages of all streams that have not been sent whole. */
  waiting = 0;

  constructor(chunkBytes: number, window: SendWindow) {
    this.chunkBytes = chunkBytes;
    this.window = window;
  }

  /** A frame that waits for nothing but the control frames before it. */
  sendControl(kind: FrameKind, body: Uint8Array): void {
    this.control.push({ kind, message: 0, chunk: 0, body });
  }

  /** Queues a message behind those of its stream. Its segments are borrowed until its state is "sent". */
  send(stream: string, encoded: Encoded, charged: boolean): OutMessage {
    let bytes = 0;
    const segments = encoded.segments.filter((s) => s.byteLength > 0);
    for (const segment of segments) bytes += segment.byteLength;
    const cost = creditCost(encoded.header.byteLength, bytes);
    const message: OutMessage = {
      ...{ encoded, segments, cost, charged, stream, id: 0, segment: 0, offset: 0, chunk: 0 },
      state: "waiting",
    };
    this.waiting++;
    let queue = this.streams.get(stream);
    if (!queue) {
      queue = new Ring();
      this.streams.set(stream, queue);
      this.turns.push(stream);
    }
    queue.push(message);
    return message;
  }

  /** Its sender takes the segments back: unsent it is dropped (true), half sent the rest is copied (false). */
  cancel(message: OutMessage): boolean {
    if (message.state === "sent") return false;
    if (message.state === "waiting") {
      message.state = "sent"; // and passed over when its turn comes
      this.waiting--;
      return true;
    }
    for (let i = message.segment; i < message.segments.length; i++) {
      message.segments[i] = message.segments[i]!.slice();
    }
    return false;
  }

  /** The next frame to write, or undefined when there is nothing or everything waits for credit. */
  next(): OutFrame | undefined {
    if (this.controlHead < this.control.length) {
      const frame = this.control[this.controlHead++]!;
      if (this.controlHead === this.control.length) {
        this.control.length = 0;
        this.controlHead = 0;
      }
      return frame;
    }
    for (let i = 0; i < this.turns.length; ) {
      const stream = this.turns[i]!;
      const queue = this.streams.get(stream)!;
      while (queue.peek()?.state === "sent") queue.shift(); // cancelled
      const message = queue.peek();
      if (message?.state === "waiting" && message.charged && !this.window.trySpend(message.cost)) {
        i++;
        continue;
      }
      this.turns.splice(i, 1);
      const frame = message && (message.state === "waiting" ? this.start(message) : this.cut(message));
      if (message?.state === "sent") {
        queue.shift();
        this.waiting--;
      }
      if (queue.length > 0) this.turns.push(stream);
      else this.streams.delete(stream);
      if (frame) return frame;
    }
    return undefined;
  }

  private start(message: OutMessage): OutFrame {
    this.nextId = (this.nextId + 1) >>> 0;
    message.id = this.nextId;
    const chunk = message.charged ? CHARGED : 0;
    const { header, segments } = message.encoded;
    if (segments.length === 0) {
      message.state = "sent";
      return { kind: FrameKind.message, message: message.id, chunk, body: header };
    }
    message.state = message.segments.length === 0 ? "sent" : "sending";
    return { kind: FrameKind.head, message: message.id, chunk, body: encodeHead(message.encoded) };
  }

  private cut(message: OutMessage): OutFrame {
    const segment = message.segments[message.segment]!;
    const end = Math.min(message.offset + this.chunkBytes, segment.byteLength);
    const body = segment.subarray(message.offset, end);
    const frame = { kind: FrameKind.chunk, message: message.id, chunk: message.chunk++, body };
    message.offset = end;
    if (end === segment.byteLength) {
      message.segment++;
      message.offset = 0;
      if (message.segment === message.segments.length) message.state = "sent";
    }
    return frame;
  }
}

function encodeHead({ header, segments }: Encoded): Uint8Array {
  const lengths = 4 + 8 * segments.length;
  const body = new Uint8Array(lengths + header.byteLength);
  const view = new DataView(body.buffer);
  view.setUint32(0, segments.length, true);
  segments.forEach((s, i) => {
    view.setBigUint64(4 + 8 * i, BigInt(s.byteLength), true);
  });
  body.set(header, lengths);
  return body;
}

/** A message that has come whole. */
export interface InMessage {
  readonly header: Uint8Array;
  readonly segments: readonly Uint8Array[];
  /** Credit to give back once it is taken; 0 when it was not charged. */
  readonly cost: number;
}

interface OpenMessage extends InMessage {
  segment: number;
  offset: number;
  chunk: number;
}

/** Memory for a segment; its first byte 64-byte aligned where the platform allows. It becomes the receiver's. */
export type Allocate = (byteLength: number) => Uint8Array;

/** The receiving half. */
export class Assembler {
  private readonly limits: Limits;
  private readonly allocate: Allocate;
  private readonly charge: (cost: number) => void;
  private readonly open = new Map<number, OpenMessage>();

  /** @param charge told the cost of each charged message when it begins; may throw. */
  constructor(limits: Limits, allocate: Allocate, charge: (cost: number) => void) {
    this.limits = limits;
    this.allocate = allocate;
    this.charge = charge;
  }

  /** A `message` frame. `body` is borrowed, and so is the result's header. */
  whole(frame: FrameHeader, body: Uint8Array): InMessage {
    return { header: body, segments: [], cost: this.cost(frame, body.byteLength, 0) };
  }

  /** A `head` frame; `body` is borrowed. Returns the message if it is whole already (all segments empty). */
  begin(frame: FrameHeader, body: Uint8Array): InMessage | undefined {
    if (this.open.has(frame.message))
      throw new ProtocolError("BAD_CHUNK", `message ${frame.message} began twice`);
    if (this.open.size >= this.limits.openMessages) {
      throw exceeded("messages half received at once", this.open.size + 1, this.limits.openMessages);
    }
    const lengths = this.readLengths(body);
    let total = 0;
    for (const length of lengths) total += length;
    if (total > this.limits.messageBytes)
      throw exceeded("bytes of a message", total, this.limits.messageBytes);
    const header = body.slice(4 + 8 * lengths.length);
    const cost = this.cost(frame, header.byteLength, total);
    const segments = lengths.map((length) => this.allocate(length));
    const message: OpenMessage = { header, segments, cost, segment: 0, offset: 0, chunk: 0 };
    if (skipFull(message)) return message;
    this.open.set(frame.message, message);
    return undefined;
  }

  /** Where a chunk's bytes go. @throws ProtocolError BAD_CHUNK. */
  place(frame: FrameHeader): Uint8Array {
    const message = this.open.get(frame.message);
    if (!message)
      throw new ProtocolError("BAD_CHUNK", `a chunk of message ${frame.message}, which has not begun`);
    if (frame.chunk !== message.chunk) {
      throw new ProtocolError("BAD_CHUNK", `expected chunk ${message.chunk}, got ${frame.chunk}`);
    }
    const segment = message.segments[message.segment]!;
    const left = segment.byteLength - message.offset;
    if (frame.length === 0 || frame.length > left) {
      throw new ProtocolError("BAD_CHUNK", `expected a chunk of 1 to ${left} bytes, got ${frame.length}`);
    }
    return segment.subarray(message.offset, message.offset + frame.length);
  }

  /** The chunk is in its place. Returns the message when that was its last. */
  filled(frame: FrameHeader): InMessage | undefined {
    const message = this.open.get(frame.message)!;
    message.chunk++;
    message.offset += frame.length;
    if (!skipFull(message)) return undefined;
    this.open.delete(frame.message);
    return message;
  }

  /** Messages that have begun and are not complete. */
  get openMessages(): number {
    return this.open.size;
  }

  private cost(frame: FrameHeader, headerBytes: number, segmentBytes: number): number {
    if (headerBytes > this.limits.headerBytes) {
      throw exceeded("bytes of a message header", headerBytes, this.limits.headerBytes);
    }
    if (frame.chunk !== CHARGED) return 0;
    const cost = creditCost(headerBytes, segmentBytes);
    this.charge(cost);
    return cost;
  }

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
    return Array.from({ length: count }, (_, i) => Number(view.getBigUint64(4 + 8 * i, true)));
  }
}

/** Moves on over full (and empty) segments; true when none is left. */
function skipFull(message: OpenMessage): boolean {
  while (message.segment < message.segments.length) {
    if (message.offset < message.segments[message.segment]!.byteLength) return false;
    message.segment++;
    message.offset = 0;
  }
  return true;
}

function exceeded(what: string, got: number, limit: number): ProtocolError {
  return new ProtocolError("LIMIT_EXCEEDED", `${what}: at most ${limit}, got ${got}`);
}
