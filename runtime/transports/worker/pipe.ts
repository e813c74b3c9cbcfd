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

import type { Clock } from "../../clock.ts";
import type { Pipe, PipeHandlers } from "../transport.ts";

/**
 * Posted and not yet acknowledged: eight tensors of 4 MiB, so that a thread that is given work finds the next piece
 * there. One that is given away goes whole, if it is the first beyond that; passing it on takes no memory.
 */
const WINDOW_BYTES = 32 * 1024 * 1024;
/** Acknowledged at a time: seldom enough to cost nothing, often enough that the writer never stands still. */
const ACKNOWLEDGED_BYTES = WINDOW_BYTES / 4;

/**
 * What is posted: pieces of bytes, perhaps after an acknowledgement of so many bytes; alone, or several; or the close.
 * Bare buffers, because under Bun passing on a view of one takes half as long again.
 */
type Piece = ArrayBuffer | number;
type Posted = Piece | Piece[] | null;

export class PortPipe implements Pipe {
  handlers!: PipeHandlers;
  /** Nothing is gained by cutting what is passed on by reference. */
  readonly chunkBytes = Number.POSITIVE_INFINITY;
  readonly reportsDeath = true;
  readonly peer: string;
  private readonly port: MessagePort;
  private open = true;
  private readonly clock: Clock;
  private readonly left: () => void;
  private out: ArrayBuffer[] = [];
  private unacknowledged = 0;
  private received = 0;
  private acknowledging = false;
  private short = false;

  /** @param left called once when the pipe is closed, by whomever. */
  constructor(port: MessagePort, peer: string, clock: Clock, left: () => void) {
    this.port = port;
    this.peer = peer;
    this.clock = clock;
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
    this.out.push(given ? bytes.buffer : copyOf(bytes, accepted));
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

  /** Posts what was written, and with it what there is to acknowledge. */
  private flush(): void {
    if (this.out.length === 0 || !this.open) return;
    const pieces = this.out;
    this.out = [];
    try {
      this.post(pieces);
    } catch {
      // Memory of WebAssembly may not be passed on, and says so only now.
      this.post(pieces.map((piece) => piece.slice(0)));
    }
    this.received = 0;
  }

  private post(pieces: readonly ArrayBuffer[]): void {
    const message: Piece[] = this.received > 0 ? [this.received, ...pieces] : [...pieces];
    this.port.postMessage(message.length === 1 ? message[0] : message, [...pieces]);
  }

  private message(data: Posted): void {
    if (data === null) this.ended();
    else if (Array.isArray(data)) for (const piece of data) this.piece(piece);
    else this.piece(data);
  }

  private piece(piece: Piece): void {
    if (!this.open) return;
    if (typeof piece === "number") {
      this.acknowledged(piece);
      return;
    }
    // Before it is delivered, for whoever gets it may pass it on to yet another thread.
    this.received += piece.byteLength;
    this.handlers.onData(new Uint8Array(piece), true);
    if (this.received < ACKNOWLEDGED_BYTES || this.acknowledging) return;
    // Not at once: every message wakes the other thread, and an answer may follow that takes this one along.
    this.acknowledging = true;
    this.clock.defer(this.acknowledge);
  }

  private readonly acknowledge = (): void => {
    this.acknowledging = false;
    if (this.received < ACKNOWLEDGED_BYTES || !this.open) return;
    this.port.postMessage(this.received);
    this.received = 0;
  };

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

function copyOf(bytes: Uint8Array, byteLength: number): ArrayBuffer {
  const copy = new Uint8Array(byteLength);
  copy.set(byteLength === bytes.byteLength ? bytes : bytes.subarray(0, byteLength));
  return copy.buffer;
}
