/**
 * A pipe over something that carries messages and says how many bytes it still buffers: what the W3C's WebSocket
 * and RTCDataChannel have in common. Message borders mean nothing here; bytes are cut and gathered as it suits the
 * carrier. Bytes below `messageBytes` wait for the end of the turn, so that a frame's header and body, written one
 * after the other, leave as one message.
 *
 * Such a carrier accepts everything and sends it later: the bound on memory is kept here. Neither of them has an
 * event for "room again" that every platform delivers (a WebSocket has none, @roamhq/wrtc never fires
 * `bufferedamountlow`), so a pipe that refused bytes looks again every millisecond, and also when it is told.
 */

import type { Channel } from "../../protocols/handshake.ts";
import type { Clock, Timer } from "../clock.ts";
import type { Pipe, PipeHandlers } from "./transport.ts";

/** What a pipe needs of a WebSocket or RTCDataChannel. `send` copies. */
export interface MessageCarrier {
  readonly bufferedAmount: number;
  send(bytes: Uint8Array<ArrayBuffer>): void;
}

export interface MessagePipeOptions {
  readonly carrier: MessageCarrier;
  readonly clock: Clock;
  readonly peer: string;
  /** The certificates of an encrypted carrier, where they can be seen. */
  readonly channel?: Channel | undefined;
  readonly chunkBytes: number;
  /** The most bytes of one message. */
  readonly messageBytes: number;
  /** Bytes the carrier may buffer; one message more at most. */
  readonly capacityBytes: number;
  /** How often to look for room again; undefined if `look` is always called when there is some. */
  readonly pollMs: number | undefined;
  /** Closes the carrier once what it buffers is sent; it calls `ended` when it is closed, or never. */
  shut(): void;
  /** Closes the carrier at once. */
  abort(): void;
}

/** What a fast link sends while a timer of a busy machine is late (10 ms at 100 MB/s). */
export const CAPACITY_BYTES = 1024 * 1024;
/** The shortest timer that platforms keep to. */
export const POLL_MS = 1;
/** How long a closing carrier may take to send what it buffers. */
const LINGER_MS = 5_000;

export class MessagePipe implements Pipe {
  handlers!: PipeHandlers;
  readonly chunkBytes: number;
  readonly peer: string;
  readonly channel: Channel | undefined;
  private readonly options: MessagePipeOptions;
  /** Bytes of the next message that wait for the end of the turn. */
  private readonly gathered: Uint8Array<ArrayBuffer>;
  private gatheredBytes = 0;
  /** Bytes the carrier buffers at most: what it said last, and all that was sent since. */
  private buffered = 0;
  private scheduled = false;
  /** A write was short, and room is looked for. */
  private short = false;
  private poll: Timer;
  private linger: Timer | undefined;
  private state: "open" | "closing" | "closed" = "open";

  constructor(options: MessagePipeOptions) {
    this.options = options;
    this.chunkBytes = options.chunkBytes;
    this.peer = options.peer;
    this.channel = options.channel;
    this.gathered = new Uint8Array(options.messageBytes);
  }

  write(bytes: Uint8Array): number {
    const { messageBytes, capacityBytes } = this.options;
    let at = 0;
    while (at < bytes.byteLength && this.state === "open") {
      if (this.buffered + this.gatheredBytes >= capacityBytes && !this.hasRoom()) {
        this.flush();
        if (!this.short) this.wait();
        this.short = true;
        break;
      }
      const piece = bytes.subarray(at, at + messageBytes - this.gatheredBytes);
      at += piece.byteLength;
      if (piece.byteLength === messageBytes) this.send(piece);
      else this.gather(piece);
    }
    return at;
  }

  /** The carrier may have room again. */
  readonly look = (): void => {
    if (!this.short || this.state !== "open") return;
    this.options.clock.clearTimer(this.poll);
    if (this.hasRoom()) {
      this.short = false;
      this.handlers.onDrain();
    } else this.wait();
  };

  /** Whether half of the capacity is free. Asked rarely: @roamhq/wrtc takes 0.2 ms to answer. */
  private hasRoom(): boolean {
    const { carrier, capacityBytes } = this.options;
    this.buffered = carrier.bufferedAmount;
    return this.buffered <= capacityBytes / 2;
  }

  private wait(): void {
    const { clock, pollMs } = this.options;
    if (pollMs !== undefined) this.poll = clock.setTimer(this.look, pollMs);
  }

  /** The carrier received a message, whose memory it gives away. */
  received(bytes: Uint8Array): void {
    if (this.state === "open") this.handlers.onData(bytes, true);
  }

  close(error?: Error): void {
    if (this.state !== "open") return;
    this.flush();
    this.closed("closing");
    this.linger = this.options.clock.setTimer(() => this.options.abort(), LINGER_MS);
    this.options.shut();
    queueMicrotask(() => this.handlers.onClose(error));
  }

  /** The carrier is closed; with an error, unless in good order. */
  ended(error?: Error): void {
    this.options.clock.clearTimer(this.linger);
    const told = this.state !== "open";
    this.closed("closed");
    if (!told) this.handlers.onClose(error);
  }

  private closed(state: "closing" | "closed"): void {
    this.state = state;
    this.options.clock.clearTimer(this.poll);
  }

  private gather(piece: Uint8Array): void {
    this.gathered.set(piece, this.gatheredBytes);
    this.gatheredBytes += piece.byteLength;
    if (this.gatheredBytes === this.gathered.byteLength) this.flush();
    else if (!this.scheduled) {
      this.scheduled = true;
      queueMicrotask(() => {
        this.scheduled = false;
        if (this.state === "open") this.flush();
      });
    }
  }

  private flush(): void {
    const bytes = this.gatheredBytes;
    this.gatheredBytes = 0;
    if (bytes > 0) this.send(this.gathered.subarray(0, bytes));
  }

  /** A carrier that refuses to send is at its end, whether or not it says so. */
  private send(bytes: Uint8Array): void {
    this.buffered += bytes.byteLength;
    try {
      this.options.carrier.send(bytes as Uint8Array<ArrayBuffer>);
    } catch (error) {
      this.options.abort();
      queueMicrotask(() => this.ended(error as Error));
    }
  }
}
