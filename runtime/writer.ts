/**
 * The writing half of a link. Small messages that nothing holds up are written into one batch, which goes to the
 * pipe at the end of the turn; everything else waits in the interleaver and is taken in the order it gives. The
 * body of a large frame is written from where it is. When the pipe is full it waits for the drain; what a peer
 * that does not read may make it hold is bounded.
 */

import { Interleaver, type OutMessage } from "../protocols/chunk.ts";
import type { Encoded } from "../protocols/codec.ts";
import type { SendWindow } from "../protocols/credit.ts";
import { ProtocolError } from "../protocols/errors.ts";
import { encodeFrame, FRAME_HEADER_BYTES, FrameKind, writeFrameHeader } from "../protocols/frame.ts";
import type { Clock } from "./clock.ts";
import { RuntimeError } from "./errors.ts";
import { MAILBOX_CAPACITY } from "./mailbox.ts";
import type { Pipe } from "./transports/transport.ts";

/** Of a link that is not ready: the handshake needs no more, and strangers should not cost much. */
const FIRST_BATCH_BYTES = 2 * 1024;
const BATCH_BYTES = 64 * 1024;
/** Frames up to this size are gathered: below, copying is cheaper than a write of its own. */
const GATHER_BYTES = 8 * 1024;
/**
 * Bytes of large frames written in one turn of the event loop. A pipe that takes all it is offered would keep the
 * turn for as long as a tensor lasts, and what is sent meanwhile, or comes, would wait for its end.
 */
const TURN_BYTES = 1024 * 1024;
/** Replies, signals and the like that may wait for a peer. They are few and small, unless it does not read. */
const MOST_CONTROL_BYTES = 64 * 1024 * 1024;
const MOST_CONTROL_FRAMES = 2 ** 20;
const NO_BODY = new Uint8Array(0);

export interface LinkWriterOptions {
  readonly pipe: Pipe;
  readonly clock: Clock;
  readonly window: SendWindow;
  readonly chunkBytes: number;
  /** Bytes of messages that may wait before another is refused. */
  readonly queueBytes: number;
  /** Something that cannot be sent, where nobody called. */
  onError(error: Error): void;
}

export class LinkWriter {
  private readonly options: LinkWriterOptions;
  private readonly pipe: Pipe;
  private readonly interleaver: Interleaver;
  /** Kept beside its view: to ask a view for its memory takes longer than to write a header. */
  private batchMemory = new ArrayBuffer(FIRST_BATCH_BYTES);
  private batch = new Uint8Array(this.batchMemory);
  private batchView = new DataView(this.batchMemory);
  /** What of the batch is to be written: `batch[from, to)`. */
  private from = 0;
  private to = 0;
  /** A body that is written from where it is; its header ends the batch, or is written already. */
  private body: Uint8Array | undefined;
  private bodyOf: OutMessage | undefined;
  private bodyOwned = false;
  /** The batch up to the body's header is written: the body goes before what is in the batch now. */
  private bodyNext = false;
  private scheduled = false;
  private blocked = false;
  private resting = false;
  private stopped = false;
  /** Counts up whenever the pipe takes something. */
  progress = 0;

  constructor(options: LinkWriterOptions) {
    this.options = options;
    this.pipe = options.pipe;
    this.interleaver = new Interleaver(options.chunkBytes, options.window, () => options.clock.now());
  }

  /**
   * A frame that goes before all messages; it keeps nothing of `body`.
   * @throws ProtocolError LIMIT_EXCEEDED when the peer has not read too many of them already.
   */
  control(kind: FrameKind, body: Uint8Array = NO_BODY, message = 0): void {
    if (this.stopped) return;
    const { interleaver } = this;
    if (!interleaver.isControlClear || !this.append(kind, message, 0, body)) {
      if (interleaver.controlBytes > MOST_CONTROL_BYTES || interleaver.controlFrames >= MOST_CONTROL_FRAMES) {
        throw new ProtocolError(
          "LIMIT_EXCEEDED",
          `${this.pipe.peer} does not read: at most ${MOST_CONTROL_BYTES} bytes and ${MOST_CONTROL_FRAMES} answers and signals may wait for it`,
        );
      }
      if (this.batch.byteLength < BATCH_BYTES) this.enlarge(); // it is taken from there only when there is room
      interleaver.sendControl(kind, body.slice(), message);
    }
    this.schedule();
  }

  /**
   * A message, behind those of its stream; a number is the stream that pays for it.
   * @returns what may be cancelled, or undefined if it is written already.
   * @throws RuntimeError MAILBOX_FULL.
   */
  send(stream: number | string, encoded: Encoded, transferred: boolean): OutMessage | undefined {
    const { interleaver } = this;
    const { header, segments } = encoded;
    if (typeof stream === "number" && segments.length === 0 && this.takes(header)) {
      if (interleaver.passes(stream, header.byteLength)) {
        this.append(FrameKind.message, 0, stream, header);
        this.schedule();
        return undefined;
      }
    }
    const { queueBytes } = this.options;
    if (interleaver.waiting >= MAILBOX_CAPACITY || interleaver.waitingBytes >= queueBytes) {
      const what = `${interleaver.waiting} messages of ${interleaver.waitingBytes} bytes wait for ${this.pipe.peer} already`;
      const most = `at most ${MAILBOX_CAPACITY} messages and ${queueBytes} bytes may`;
      throw new RuntimeError("MAILBOX_FULL", `${what}; ${most}`);
    }
    const message = interleaver.send(stream, { header: header.slice(), segments }, transferred);
    this.schedule();
    return message;
  }

  /** Credit came back. @throws ProtocolError BAD_CREDIT. */
  refund(stream: number, bytes: number): void {
    this.interleaver.refund(stream, bytes);
    this.schedule();
  }

  /** The peer has read so many bytes of chunks. @throws ProtocolError BAD_CREDIT. */
  read(bytes: number): void {
    this.interleaver.pace.read(bytes, this.options.clock.now());
    this.schedule();
  }

  /** There is a window now: what waited for it may go. */
  opened(): void {
    if (this.batch.byteLength < BATCH_BYTES) this.enlarge();
    this.interleaver.unpark();
    this.schedule();
  }

  /** The sender needs the memory of its tensors back: what is unsent of them is dropped or copied. */
  cancel(message: OutMessage): void {
    this.interleaver.cancel(message);
    if (this.body && this.bodyOf === message) this.body = this.body.slice();
  }

  /** Whether there is something that the pipe does not take. */
  get isBlocked(): boolean {
    return this.blocked;
  }

  /** The pipe accepts bytes again. */
  drained(): void {
    this.blocked = false;
    this.progress++;
    this.guardedPump();
  }

  /** Writes what can be written at once, then one last frame if the pipe is not in the middle of another. */
  finish(kind: FrameKind, body: Uint8Array): void {
    if (this.stopped) return;
    while (!this.blocked && this.flush() && this.fill());
    if (!this.blocked && !this.stopped) this.pipe.write(encodeFrame(kind, body));
    this.stop();
  }

  /** Writes nothing more and lets go of everything. */
  stop(): void {
    this.stopped = true;
    this.body = undefined;
    this.bodyOf = undefined;
    this.from = 0;
    this.to = 0;
    this.interleaver.clear();
  }

  /** Writes in a microtask, so that what is sent in one go is written in one go. */
  private schedule(): void {
    if (this.scheduled || this.blocked || this.stopped) return;
    this.scheduled = true;
    queueMicrotask(this.pumpScheduled);
  }

  private readonly pumpScheduled = (): void => {
    this.scheduled = false;
    this.guardedPump();
  };

  private readonly rested = (): void => {
    this.resting = false;
    this.guardedPump();
  };

  private guardedPump(): void {
    try {
      this.pump();
    } catch (error) {
      this.options.onError(error as Error);
    }
  }

  private pump(): void {
    let turn = 0;
    while (!this.stopped && !this.blocked) {
      // What is given away takes no time to write, whatever its size.
      const bytes = this.body && !this.bodyOwned ? this.body.byteLength : 0;
      if (!this.flush() || this.resting) return;
      turn += bytes;
      if (turn >= TURN_BYTES) {
        this.resting = true;
        this.options.clock.defer(this.rested);
        return;
      }
      if (!this.fill()) return;
    }
  }

  /** Takes frames from the interleaver, up to one that is written from where it is; false when there are none. */
  private fill(): boolean {
    while (!this.body && this.to + FRAME_HEADER_BYTES + GATHER_BYTES <= this.batch.byteLength) {
      const frame = this.interleaver.next();
      if (!frame) break;
      const { kind, body, message, chunk } = frame;
      const { byteLength } = body;
      writeFrameHeader(this.batchView, this.to, kind, byteLength, message, chunk);
      this.to += FRAME_HEADER_BYTES;
      if (byteLength > GATHER_BYTES) {
        this.body = body;
        this.bodyOf = frame.of;
        this.bodyOwned = frame.owned;
        this.bodyNext = false;
      } else {
        this.batch.set(body, this.to);
        this.to += byteLength;
      }
    }
    return this.to > this.from;
  }

  /** Offers what there is to the pipe; false when it does not take it all. */
  private flush(): boolean {
    for (;;) {
      if (this.body && this.bodyNext) {
        const taken = this.pipe.write(this.body, this.bodyOwned);
        if (this.stopped) return false;
        if (taken < this.body.byteLength) {
          if (taken > 0) {
            this.body = this.body.subarray(taken);
            this.bodyOwned = false;
          }
          return this.block(taken);
        }
        this.body = undefined;
        this.bodyOf = undefined;
        this.progress++;
      }
      if (this.from < this.to) {
        const length = this.to - this.from;
        const taken = this.pipe.write(new Uint8Array(this.batchMemory, this.from, length));
        if (this.stopped) return false;
        if (taken < length) {
          this.from += taken;
          return this.block(taken);
        }
        this.progress++;
      }
      this.from = 0;
      this.to = 0;
      if (!this.body) return true;
      this.bodyNext = true;
    }
  }

  private block(taken: number): false {
    this.blocked = true;
    if (taken > 0) this.progress++;
    return false;
  }

  /** Whether a frame with this body can be written behind what is in the batch. */
  private takes(body: Uint8Array): boolean {
    if (body.byteLength > GATHER_BYTES || (this.body && !this.bodyNext)) return false;
    const needed = FRAME_HEADER_BYTES + body.byteLength;
    if (this.to + needed <= this.batch.byteLength) return true;
    if (this.batch.byteLength < BATCH_BYTES) this.enlarge();
    else if (!this.blocked && !this.body) this.flush();
    return !this.stopped && this.to + needed <= this.batch.byteLength;
  }

  private append(kind: FrameKind, message: number, chunk: number, body: Uint8Array): boolean {
    if (!this.takes(body)) return false;
    writeFrameHeader(this.batchView, this.to, kind, body.byteLength, message, chunk);
    this.batch.set(body, this.to + FRAME_HEADER_BYTES);
    this.to += FRAME_HEADER_BYTES + body.byteLength;
    return true;
  }

  private enlarge(): void {
    const written = this.batch.subarray(0, this.to);
    this.batchMemory = new ArrayBuffer(BATCH_BYTES);
    this.batch = new Uint8Array(this.batchMemory);
    this.batch.set(written);
    this.batchView = new DataView(this.batchMemory);
  }
}
