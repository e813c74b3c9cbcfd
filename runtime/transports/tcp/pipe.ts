/**
 * A pipe over a stream socket, whatever the platform calls its socket: when it is open, full, free again and gone,
 * and what it is encrypted by. An adapter says how to write, end and drop its own.
 *
 * A listener's encrypted pipe is handed out before TLS has shaken hands, so that strangers who never do are counted
 * and timed out where all strangers are; until then it accepts nothing.
 */

import { ProtocolError } from "../../../protocols/errors.ts";
import { encodeFrame, FrameKind } from "../../../protocols/frame.ts";
import { type Channel, encodeClose } from "../../../protocols/handshake.ts";
import type { Clock, Timer } from "../../clock.ts";
import type { Pipe, PipeHandlers } from "../transport.ts";

/** A chunk takes about 0.1 ms on loopback; larger ones are no faster. */
const CHUNK_BYTES = 256 * 1024;
/** How long the other end may take to read the last bytes and close its side, before the socket is dropped. */
const LINGER_MS = 10_000;

export interface SocketPipeOptions {
  readonly peer: string;
  readonly encrypted: boolean;
  readonly clock: Clock;
}

export abstract class SocketPipe implements Pipe {
  handlers!: PipeHandlers;
  readonly chunkBytes = CHUNK_BYTES;
  readonly peer: string;
  channel: Channel | undefined;
  private state: "opening" | "open" | "closed" = "opening";
  private short = false;
  private readonly encrypted: boolean;
  private greeted = false;
  private readonly clock: Clock;
  private linger: Timer | undefined;

  constructor({ peer, encrypted, clock }: SocketPipeOptions) {
    this.peer = peer;
    this.encrypted = encrypted;
    this.clock = clock;
  }

  /** Takes some of the bytes, from the front; how many. Nothing is kept of them. */
  protected abstract put(bytes: Uint8Array): number;
  /** Closes the socket once all that was taken is sent. */
  protected abstract end(): void;
  /** Closes the socket at once. */
  protected abstract drop(): void;

  write(bytes: Uint8Array): number {
    if (this.state === "closed") return 0;
    const accepted = this.state === "open" ? this.put(bytes) : 0;
    if (accepted < bytes.byteLength) this.short = true;
    return accepted;
  }

  close(error?: Error): void {
    if (this.state === "closed") return;
    const wasOpen = this.state === "open";
    this.state = "closed";
    if (wasOpen) this.finish();
    else this.drop();
    queueMicrotask(() => this.handlers.onClose(error));
  }

  // --- for the adapter -----------------------------------------------------------------------------------------

  /** Bytes may flow. */
  opened(channel?: Channel): void {
    if (this.state !== "opening") return;
    this.state = "open";
    this.channel = channel;
    this.drained();
  }

  /** There is room again. */
  drained(): void {
    if (!this.short || this.state !== "open") return;
    this.short = false;
    this.handlers.onDrain();
  }

  /** Bytes (borrowed) have come. */
  received(bytes: Uint8Array): void {
    if (this.state !== "open") return;
    if (!this.greeted && !this.encrypted && isTls(bytes)) {
      const error = new ProtocolError(
        "TLS_MISMATCH",
        `${this.peer} speaks TLS and this node plain text: give both the same join token, and --insecure to both or neither`,
      );
      this.put(encodeFrame(FrameKind.close, encodeClose(error.code, error.message)));
      this.state = "closed";
      this.finish();
      this.handlers.onClose(error);
      return;
    }
    this.greeted = true;
    this.handlers.onData(bytes);
  }

  /** Something is wrong with the connection: it ends here. */
  failed(error: Error): void {
    if (this.state === "closed") return;
    this.state = "closed"; // before the socket, which may tell of its end at once, and not why
    this.drop();
    this.handlers.onClose(error);
  }

  /** The connection is over. */
  ended(error?: Error): void {
    if (this.state === "closed") return;
    this.state = "closed";
    this.handlers.onClose(error);
  }

  /** The socket is closed, and nothing is left of it. */
  gone(): void {
    this.clock.clearTimer(this.linger);
    this.ended();
  }

  /** Ends the socket, and not only when the other end is so kind as to close it too. */
  private finish(): void {
    this.linger = this.clock.setTimer(() => this.drop(), LINGER_MS);
    this.end(); // may tell of its end at once
  }
}

/** Whether this is the beginning of a TLS record, of a handshake or an alert (RFC 8446, 5.1). */
function isTls(bytes: Uint8Array): boolean {
  return (bytes[0] === 0x16 || bytes[0] === 0x15) && bytes[1] === 0x03;
}
