/**
 * Chunking, the sending half: how many messages share one pipe. A message with segments is cut into chunks; the
 * streams that have something to send take turns, one frame each, so a large tensor delays another stream by one
 * chunk and no more. A stream is all messages to one actor: they go out one after the other, first in, first out.
 * Control frames go before all of them.
 *
 * A chunk never crosses the border of a segment, so its body has one place to go. Where the pipe asks for whole
 * segments (its chunks are boundless) a segment is one chunk, and if its message gives the memory away and nothing
 * else lies in it, so may the pipe. The receiving half is `assemble.ts`.
 */

import type { Encoded } from "./codec.ts";
import type { Account, SendWindow } from "./credit.ts";
import { ProtocolError } from "./errors.ts";
import { FrameKind } from "./frame.ts";
import { Pace } from "./pace.ts";
import { Ring } from "./ring.ts";

/** A frame on its way out. */
export interface OutFrame {
  /** What it is for. */
  readonly kind: FrameKind;
  /** The message it belongs to; in a `read` frame, the bytes that were read. */
  readonly message: number;
  /** Of a chunk its number; of a message or head the stream that pays for it. */
  readonly chunk: number;
  /** Borrowed until the next frame is asked for, unless it is `owned`. */
  readonly body: Uint8Array;
  /** The body is all of its memory and is given away with it. */
  readonly owned: boolean;
  /** Whose chunk this is; its body is borrowed from it. */
  readonly of: OutMessage | undefined;
}

/** A message on its way out. */
export interface OutMessage {
  /** Msgpack; the message's own. */
  readonly header: Uint8Array;
  /** Tensors and byte strings, from where they are. */
  readonly segments: Uint8Array[];
  /** Bytes of header and segments. */
  readonly bytes: number;
  /** The number under which it spends credit; 0 if it is free. */
  readonly pays: number;
  /** Its segments' memory is the receiver's from now on. */
  readonly transferred: boolean;
  /** Its number on the link, from its first frame on. */
  id: number;
  /** Next segment, the offset in it, and the next chunk number. */
  segment: number;
  /** Bytes of that segment which have been given out. */
  offset: number;
  /** The number of the chunk that comes next. */
  chunk: number;
  /** Whether none, some or all of it has been given out. */
  state: "waiting" | "sending" | "sent";
  /** Called if it is not sent whole, because nothing more will be. */
  dropped: (() => void) | undefined;
}

class Stream implements Account {
  readonly key: number | string;
  readonly queue = new Ring<OutMessage>();
  outstanding = 0;
  /** In `turns` or `parked`. */
  queued = false;

  constructor(key: number | string) {
    this.key = key;
  }
}

/**
 * In how many messages on their way out a memory lies, on whatever link: only the last of them may give it away.
 * Within a process memory that is given away is gone for everybody else.
 */
const claims = new WeakMap<ArrayBufferLike, number>();
const NOTHING = new Uint8Array(0);

/** What one end of a link has to send, and in which order. */
export class Interleaver {
  private readonly chunkBytes: number;
  private readonly window: SendWindow;
  private readonly now: () => number;
  /** How far chunks may be ahead of the peer's reading. */
  readonly pace = new Pace();
  private readonly control = new Ring<OutFrame>();
  private readonly streams = new Map<number | string, Stream>();
  /** Streams with something to send, in the order of their turns. */
  private readonly turns = new Ring<Stream>();
  /** Streams whose next message waits for credit. */
  private parked: Stream[] = [];
  /** Streams in the middle of a message, whose next chunk waits until the peer has read more. */
  private ahead: Stream[] = [];
  private nextId = 0;
  /** Whose last chunk is being written. */
  private leaving: OutMessage | undefined;
  /** Messages of all streams that have not been sent whole. */
  waiting = 0;
  /** Bytes of those messages. */
  waitingBytes = 0;
  /** Bytes of the control frames that wait. */
  controlBytes = 0;

  /** Nothing waits yet. @param now the time in milliseconds. */
  constructor(chunkBytes: number, window: SendWindow, now: () => number) {
    this.chunkBytes = chunkBytes;
    this.window = window;
    this.now = now;
  }

  /** Queues a frame that waits for nothing but the control frames before it. It keeps `body`. */
  sendControl(kind: FrameKind, body: Uint8Array, message = 0): void {
    this.controlBytes += body.byteLength;
    this.control.push({ kind, message, chunk: 0, body, owned: false, of: undefined });
  }

  /**
   * Whether a small message that pays under this number may go out now, before `next` is asked again: nothing of
   * its stream waits and there is credit, which is spent.
   */
  passes(pays: number, bytes: number): boolean {
    if (this.control.length > 0) return false;
    const stream = this.stream(pays);
    if (stream.queue.length > 0 || !this.window.trySpend(stream, bytes)) {
      this.forget(stream);
      return false;
    }
    return true;
  }

  /** Control frames that wait. */
  get controlFrames(): number {
    return this.control.length;
  }

  /** Forgets all that waits. */
  clear(): void {
    for (const { queue } of this.streams.values()) {
      for (let message = queue.shift(); message; message = queue.shift()) {
        if (message.state === "sent") continue;
        unclaim(message);
        message.dropped?.();
      }
    }
    if (this.leaving) unclaim(this.leaving);
    this.leaving = undefined;
    this.streams.clear();
    while (this.turns.shift());
    while (this.control.shift());
    this.parked = [];
    this.ahead = [];
  }

  /** Whether a free frame may go out now, before `next` is asked again. */
  get isControlClear(): boolean {
    return this.control.length === 0;
  }

  /**
   * Queues a message behind those of its stream. It keeps the header; the segments are borrowed until its state
   * is "sent", or taken if they are transferred.
   * @param stream whose turn it shares; for a message that pays, the number under which it does.
   */
  send(stream: number | string, encoded: Encoded, transferred: boolean): OutMessage {
    const { header } = encoded;
    let bytes = header.byteLength;
    const segments: Uint8Array[] = [];
    for (const segment of encoded.segments) {
      bytes += segment.byteLength;
      segments.push(segment);
      claims.set(segment.buffer, (claims.get(segment.buffer) ?? 0) + 1);
    }
    const pays = typeof stream === "number" ? stream : 0;
    const message: OutMessage = {
      ...{ header, segments, bytes, pays, transferred, id: 0, segment: 0, offset: 0, chunk: 0 },
      state: "waiting",
      dropped: undefined,
    };
    this.waiting++;
    this.waitingBytes += bytes;
    const queue = this.stream(stream);
    queue.queue.push(message);
    if (!queue.queued) this.takeTurn(queue);
    return message;
  }

  /** Its sender takes the segments back: unsent it is dropped (true), half sent the rest is copied (false). */
  cancel(message: OutMessage): boolean {
    if (message.state === "sent") return false;
    if (message.state === "waiting") {
      this.sent(message); // and passed over when its turn comes
      unclaim(message);
      return true;
    }
    unclaim(message);
    for (let i = 0; i < message.segments.length; i++) {
      message.segments[i] = i < message.segment ? NOTHING : message.segments[i]!.slice();
    }
    return false;
  }

  /** Credit came back. @throws ProtocolError BAD_CREDIT. */
  refund(pays: number, bytes: number): void {
    const stream = this.streams.get(pays);
    this.window.refund(stream, bytes);
    if (stream) this.forget(stream);
    this.unpark();
  }

  /** Those who wait for credit try again. */
  unpark(): void {
    const { parked } = this;
    if (parked.length === 0) return;
    this.parked = [];
    for (const stream of parked) this.turns.push(stream);
  }

  /**
   * The next frame to write, or undefined when there is nothing or everything waits for credit. To ask is to say
   * that the one before is written.
   * @throws ProtocolError UNENCODABLE when a sender gave the memory of what it sent to somebody else.
   */
  next(): OutFrame | undefined {
    if (this.leaving) {
      unclaim(this.leaving);
      this.leaving = undefined;
    }
    const control = this.control.shift();
    if (control) {
      this.controlBytes -= control.body.byteLength;
      return control;
    }
    if (this.ahead.length > 0 && this.pace.isOpen) {
      for (const stream of this.ahead.splice(0)) this.turns.push(stream);
    }
    for (let stream = this.turns.shift(); stream; stream = this.turns.shift()) {
      const { queue } = stream;
      while (queue.peek()?.state === "sent") queue.shift(); // cancelled
      const message = queue.peek();
      if (!message) {
        stream.queued = false;
        this.forget(stream);
        continue;
      }
      const begins = message.state === "waiting";
      if (!begins && !this.pace.isOpen) {
        this.ahead.push(stream);
        continue;
      }
      if (begins && message.pays > 0 && !this.window.trySpend(stream, message.bytes)) {
        this.parked.push(stream);
        continue;
      }
      const frame = begins ? this.start(message) : this.cut(message);
      if ((message.state as string) === "sent") queue.shift();
      if (queue.length > 0) this.turns.push(stream);
      else {
        stream.queued = false;
        this.forget(stream);
      }
      return frame;
    }
    return undefined;
  }

  private stream(key: number | string): Stream {
    let stream = this.streams.get(key);
    if (!stream) {
      stream = new Stream(key);
      this.streams.set(key, stream);
    }
    return stream;
  }

  private takeTurn(stream: Stream): void {
    stream.queued = true;
    this.turns.push(stream);
  }

  /** Keeps nothing of a stream that has nothing to send and owes nothing. */
  private forget(stream: Stream): void {
    if (!stream.queued && stream.outstanding === 0) this.streams.delete(stream.key);
  }

  private sent(message: OutMessage): void {
    message.state = "sent";
    this.waiting--;
    this.waitingBytes -= message.bytes;
  }

  private start(message: OutMessage): OutFrame {
    this.nextId = (this.nextId + 1) >>> 0;
    message.id = this.nextId;
    const { header, segments, id: number, pays: chunk } = message;
    const rest = { message: number, chunk, owned: false, of: undefined };
    if (segments.length === 0) {
      this.sent(message);
      return { kind: FrameKind.message, body: header, ...rest };
    }
    let bytes = header.byteLength;
    for (const segment of segments) bytes += segment.byteLength;
    if (bytes !== message.bytes) throw givenAway();
    const body = encodeHead(header, segments);
    message.state = "sending";
    this.skipEmpty(message);
    return { kind: FrameKind.head, body, ...rest };
  }

  private cut(message: OutMessage): OutFrame {
    const segment = message.segments[message.segment]!;
    if (segment.byteLength === 0) throw givenAway();
    const end = Math.min(message.offset + this.chunkBytes, segment.byteLength);
    const whole = message.offset === 0 && end === segment.byteLength;
    const frame: OutFrame = {
      kind: FrameKind.chunk,
      message: message.id,
      chunk: message.chunk++,
      body: whole ? segment : segment.subarray(message.offset, end),
      owned: message.transferred && whole && isAlone(segment),
      of: message,
    };
    // What is not cut is passed on whole: it delays nothing behind it, and its receiver does not say what it has read.
    if (this.chunkBytes !== Number.POSITIVE_INFINITY) this.pace.sent(frame.body.byteLength, this.now());
    message.offset = end;
    this.skipEmpty(message);
    if (message.state === "sent") this.leaving = message;
    return frame;
  }

  /** Moves on over segments that are sent or empty. */
  private skipEmpty(message: OutMessage): void {
    const { segments } = message;
    while (message.segment < segments.length && message.offset === segments[message.segment]!.byteLength) {
      message.segment++;
      message.offset = 0;
    }
    if (message.segment === segments.length) this.sent(message);
  }
}

/** Whether the bytes are all of their memory, and in no other message. */
function isAlone({ byteLength, buffer }: Uint8Array): boolean {
  return byteLength === buffer.byteLength && claims.get(buffer) === 1;
}

/** Its segments are not its any more: written, or its sender's again. */
function unclaim(message: OutMessage): void {
  for (const { buffer } of message.segments) {
    const left = (claims.get(buffer) ?? 1) - 1;
    if (left > 0) claims.set(buffer, left);
    else claims.delete(buffer);
  }
}

function givenAway(): ProtocolError {
  const what = "the memory of a tensor that waits to be sent was given to somebody else";
  return new ProtocolError("UNENCODABLE", what);
}

/** The body of a `head` frame: u32 count, count × u64 lengths, header. */
function encodeHead(header: Uint8Array, segments: readonly Uint8Array[]): Uint8Array {
  const lengths = 4 + 8 * segments.length;
  const body = new Uint8Array(lengths + header.byteLength);
  const view = new DataView(body.buffer);
  view.setUint32(0, segments.length, true);
  for (let i = 0; i < segments.length; i++) {
    const length = segments[i]!.byteLength;
    view.setUint32(4 + 8 * i, length, true);
    view.setUint32(8 + 8 * i, Math.floor(length / 2 ** 32), true);
  }
  body.set(header, lengths);
  return body;
}
