/**
 * The writing half of a link: takes frames in the order the interleaver gives them and offers them to the pipe.
 * Small frames are gathered into one write; the body of a large one is written from where it is. When the pipe is
 * full it waits for the drain.
 */

import { Interleaver, type OutMessage } from "../protocols/chunk.ts";
import type { Encoded } from "../protocols/codec.ts";
import type { SendWindow } from "../protocols/credit.ts";
import { encodeFrame, FRAME_HEADER_BYTES, type FrameKind, writeFrameHeader } from "../protocols/frame.ts";
import { RuntimeError } from "./errors.ts";
import { MAILBOX_CAPACITY } from "./mailbox.ts";
import type { Pipe } from "./transports/transport.ts";

const SCRATCH_BYTES = 64 * 1024;
/** Frames up to this size are gathered: below, copying is cheaper than a write of its own. */
const GATHER_BYTES = 8 * 1024;
const NO_BODY = new Uint8Array(0);

export class LinkWriter {
  private readonly pipe: Pipe;
  private readonly interleaver: Interleaver;
  private readonly scratch = new Uint8Array(SCRATCH_BYTES);
  private readonly scratchView = new DataView(this.scratch.buffer);
  /** Bytes to write, in order; the first may be partly written. */
  private out: Uint8Array[] = [];
  private scheduled = false;
  private blocked = false;
  private stopped = false;

  constructor(pipe: Pipe, chunkBytes: number, window: SendWindow) {
    this.pipe = pipe;
    this.interleaver = new Interleaver(chunkBytes, window);
  }

  /** A frame that goes before all messages. */
  control(kind: FrameKind, body: Uint8Array = NO_BODY): void {
    this.interleaver.sendControl(kind, body);
    this.schedule();
  }

  /** @throws RuntimeError MAILBOX_FULL. */
  send(stream: string, encoded: Encoded, charged: boolean): OutMessage {
    if (this.interleaver.waiting >= MAILBOX_CAPACITY) {
      const message = `${MAILBOX_CAPACITY} messages wait for ${this.pipe.peer} already`;
      throw new RuntimeError("MAILBOX_FULL", message);
    }
    const message = this.interleaver.send(stream, encoded, charged);
    this.schedule();
    return message;
  }

  /** The sender needs the memory of its tensors back: what is unsent of them is dropped or copied. */
  cancel(message: OutMessage): void {
    const lent = new Set(message.segments.map((segment) => segment.buffer));
    this.interleaver.cancel(message);
    if (lent.size > 0) this.out = this.out.map((bytes) => (lent.has(bytes.buffer) ? bytes.slice() : bytes));
  }

  /** Writes in a microtask, so that what is sent in one go is written in one go. */
  schedule(): void {
    if (this.scheduled || this.blocked || this.stopped) return;
    this.scheduled = true;
    queueMicrotask(() => {
      this.scheduled = false;
      this.pump();
    });
  }

  /** The pipe accepts bytes again. */
  drained(): void {
    this.blocked = false;
    this.pump();
  }

  /** Writes what can be written at once, then one last frame if the pipe is not in the middle of another. */
  finish(kind: FrameKind, body: Uint8Array): void {
    this.pump();
    if (this.out.length === 0) this.pipe.write(encodeFrame(kind, body));
    this.stop();
  }

  /** Writes nothing more. */
  stop(): void {
    this.stopped = true;
    this.out = [];
  }

  private pump(): void {
    while (!this.stopped && !this.blocked) {
      if (this.out.length === 0 && !this.gather()) return;
      this.flush();
    }
  }

  /** Fills `out` with the next frames; false when there is nothing to send. */
  private gather(): boolean {
    let used = 0;
    let body: Uint8Array | undefined;
    while (!body && used + FRAME_HEADER_BYTES + GATHER_BYTES <= SCRATCH_BYTES) {
      const frame = this.interleaver.next();
      if (!frame) break;
      const length = frame.body.byteLength;
      writeFrameHeader(this.scratchView, used, { ...frame, length });
      used += FRAME_HEADER_BYTES;
      if (length > GATHER_BYTES) body = frame.body;
      else {
        this.scratch.set(frame.body, used);
        used += length;
      }
    }
    if (used > 0) this.out.push(this.scratch.subarray(0, used));
    if (body) this.out.push(body);
    return used > 0;
  }

  private flush(): void {
    while (this.out.length > 0) {
      const bytes = this.out[0]!;
      const accepted = this.pipe.write(bytes);
      if (accepted < bytes.byteLength) {
        this.out[0] = bytes.subarray(accepted);
        this.blocked = true;
        return;
      }
      this.out.shift();
    }
  }
}
