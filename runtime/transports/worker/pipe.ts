/**
 * A pipe between two threads over a MessagePort. Memory that the writer gives away is transferred, never copied;
 * anything else is copied once, by the writer, and the copy is transferred. All that is written in one turn travels
 * as one message. The receiver may keep what it gets.
 *
 * Memory shared between threads (SharedArrayBuffer) is copied like any other. Passing it by reference would be
 * free, but would hand the receiver memory that the sender can still change: whoever asks only lends a tensor, and
 * may use it again as soon as the answer or the timeout has come. Whoever wants no copy gives an ArrayBuffer away.
 *
 * A port takes whatever is posted, so the pipe itself counts what the other end has not yet acknowledged, and is
 * full beyond `WINDOW_BYTES`.
 */

import type { Pipe, PipeHandlers } from "../transport.ts";

/**
 * Posted and not yet acknowledged. Two tensors of 4 MiB: one is worked on while the next is under way. A larger one
 * that is given away goes whole; it is there anyway, and passing it on takes no memory.
 */
const WINDOW_BYTES = 8 * 1024 * 1024;
/** Acknowledged at a time: seldom enough to cost nothing, often enough that the writer never stands still. */
const ACKNOWLEDGED_BYTES = WINDOW_BYTES / 4;

/** What is posted: bytes, pieces of bytes, an acknowledgement of so many bytes, or the close. */
type Posted = Uint8Array | Uint8Array[] | number | null;

export class PortPipe implements Pipe {
  handlers!: PipeHandlers;
  /** Nothing is gained by cutting what is passed on by reference. */
  readonly chunkBytes = Number.POSITIVE_INFINITY;
  readonly reportsDeath = true;
  readonly peer: string;
  private readonly port: MessagePort;
  private open = true;
  private readonly left: () => void;
  private out: Uint8Array<ArrayBuffer>[] = [];
  private unacknowledged = 0;
  private received = 0;
  private short = false;

  /** @param left called once when the pipe is closed, by whomever. */
  constructor(port: MessagePort, peer: string, left: () => void) {
    this.port = port;
    this.peer = peer;
    this.left = left;
  }

  /** Takes messages from now on; the handlers are set. */
  start(): void {
    this.port.onmessage = ({ data }: MessageEvent<Posted>) => this.message(data);
  }

  write(bytes: Uint8Array, owned = false): number {
    if (!this.open) return 0;
    const room = WINDOW_BYTES - this.unacknowledged;
    const given = owned && room > 0 && isWhole(bytes);
    const accepted = given ? bytes.byteLength : Math.max(0, Math.min(bytes.byteLength, room));
    if (accepted < bytes.byteLength) this.short = true;
    if (accepted === 0) return 0;
    if (this.out.length === 0) queueMicrotask(() => this.flush());
    this.out.push(given ? bytes : copyOf(bytes, accepted));
    this.unacknowledged += accepted;
    return accepted;
  }

  close(error?: Error): void {
    if (!this.open) return;
    this.flush();
    this.port.postMessage(null);
    this.leave();
    queueMicrotask(() => this.handlers.onClose(error));
  }

  /** The other end is gone, or has closed the pipe. */
  ended(error?: Error): void {
    if (!this.open) return;
    this.leave();
    this.handlers.onClose(error);
  }

  private flush(): void {
    const { out } = this;
    if (out.length === 0 || !this.open) return;
    this.out = [];
    const post = (pieces: Uint8Array<ArrayBuffer>[]) =>
      this.port.postMessage(
        pieces.length === 1 ? pieces[0] : pieces,
        pieces.map(({ buffer }) => buffer),
      );
    try {
      post(out);
    } catch {
      // Memory of WebAssembly may not be passed on, and says so only now.
      post(out.map((piece) => piece.slice()));
    }
  }

  private message(data: Posted): void {
    if (!this.open) return;
    if (data === null) this.ended();
    else if (typeof data === "number") this.acknowledged(data);
    else if (Array.isArray(data)) for (const piece of data) this.deliver(piece);
    else this.deliver(data);
  }

  private deliver(piece: Uint8Array): void {
    if (!this.open) return;
    // Before it is delivered, for whoever gets it may pass it on to yet another thread.
    this.received += piece.byteLength;
    this.handlers.onData(piece, true);
    if (this.received < ACKNOWLEDGED_BYTES || !this.open) return;
    this.port.postMessage(this.received);
    this.received = 0;
  }

  private acknowledged(bytes: number): void {
    this.unacknowledged -= bytes;
    if (!this.short || this.unacknowledged > WINDOW_BYTES / 2) return;
    this.short = false;
    this.handlers.onDrain();
  }

  private leave(): void {
    this.open = false;
    this.port.onmessage = null;
    this.port.close();
    this.left();
  }
}

/** Whether the bytes are all of a buffer that can be passed on. */
function isWhole(bytes: Uint8Array): bytes is Uint8Array<ArrayBuffer> {
  return bytes.buffer instanceof ArrayBuffer && bytes.buffer.byteLength === bytes.byteLength;
}

function copyOf(bytes: Uint8Array, byteLength: number): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(byteLength);
  copy.set(byteLength === bytes.byteLength ? bytes : bytes.subarray(0, byteLength));
  return copy;
}
