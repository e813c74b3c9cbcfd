/**
 * A pipe whose bytes arrive later than they were written, in the same order: the part that the decorators `shaped`
 * and `faulty` share. It wraps one end of a pipe and holds back what that end writes; what it receives passes
 * through. When each piece arrives is for the decorator to say, through a `Course`.
 *
 * It keeps the contract of pipes: bytes accepted and not yet delivered are bounded, a short write is followed by a
 * drain, and what was accepted before a close still arrives before it.
 */

import { Ring } from "../../protocols/ring.ts";
import type { Clock, Timer } from "../clock.ts";
import type { Pipe, PipeHandlers, Transport } from "./transport.ts";

/** What happens to the bytes of one pipe in one direction. */
export interface Course {
  /** Bytes that may be under way at once. */
  readonly capacityBytes: number;
  /** The most bytes that travel as one piece; at most `capacityBytes`. */
  readonly pieceBytes: number;
  /**
   * When a piece arrives that is written now, in milliseconds of the clock; `Infinity` for never. Asked once per
   * piece, in order; it must not go back. The course may change the bytes, which are its own copy.
   */
  arrival(piece: Uint8Array): number;
}

interface Piece {
  bytes: Uint8Array;
  readonly at: number;
}

export class DelayedPipe implements Pipe {
  handlers!: PipeHandlers;
  readonly inner: Pipe;
  private readonly clock: Clock;
  private readonly course: Course;
  private readonly pieces = new Ring<Piece>();
  private underWay = 0;
  private timer: Timer;
  private short = false;
  private innerFull = false;
  /** Nothing more is accepted, and nothing received is passed on. */
  private closed = false;
  private closing: { readonly error: Error | undefined } | undefined;

  constructor(inner: Pipe, clock: Clock, course: Course) {
    this.inner = inner;
    this.clock = clock;
    this.course = course;
  }

  get chunkBytes(): number {
    return this.inner.chunkBytes;
  }

  get peer(): string {
    return this.inner.peer;
  }

  get channel(): Pipe["channel"] {
    return this.inner.channel;
  }

  /** For the wrapped pipe. */
  readonly received: PipeHandlers = {
    onData: (bytes, owned) => {
      if (!this.closed) this.handlers.onData(bytes, owned);
    },
    onDrain: () => {
      this.innerFull = false;
      this.progress();
    },
    onClose: (error) => this.gone(error),
  };

  write(bytes: Uint8Array): number {
    if (this.closed) return 0;
    const { capacityBytes, pieceBytes } = this.course;
    const accepted = Math.min(bytes.byteLength, Math.max(0, capacityBytes - this.underWay));
    for (let at = 0; at < accepted; at += pieceBytes) {
      const piece = bytes.slice(at, Math.min(at + pieceBytes, accepted));
      this.underWay += piece.byteLength;
      this.pieces.push({ bytes: piece, at: this.course.arrival(piece) });
    }
    this.flush();
    if (accepted < bytes.byteLength) {
      this.short = true;
      // Whatever is under way leads to a drain when it arrives; nothing would.
      if (this.underWay === 0) queueMicrotask(() => this.progress());
    }
    return accepted;
  }

  /** What was accepted still arrives before the other end hears of it, unless it never would. */
  close(error?: Error): void {
    if (this.closed) return;
    this.closed = true;
    this.closing = { error };
    queueMicrotask(() => this.handlers.onClose(error));
    const first = this.pieces.peek();
    if (!first || first.at === Number.POSITIVE_INFINITY) this.inner.close(error);
  }

  /** Closes at once; what is under way is lost. */
  cut(error: Error): void {
    this.drop();
    this.close(error);
  }

  /** The wrapped pipe is closed. */
  private gone(error: Error | undefined): void {
    this.drop();
    if (this.closed) return;
    this.closed = true;
    this.handlers.onClose(error);
  }

  private drop(): void {
    this.clock.clearTimer(this.timer);
    this.timer = undefined;
    while (this.pieces.shift());
  }

  private progress(): void {
    this.flush();
    const { capacityBytes, pieceBytes } = this.course;
    if (this.closed || !this.short || this.underWay > capacityBytes - pieceBytes) return;
    this.short = false;
    this.handlers.onDrain();
  }

  /** Everything that is due goes on, and a timer is set for what is not. Timers may be late. */
  private flush(): void {
    const now = this.clock.now();
    for (let first = this.pieces.peek(); first && first.at <= now; first = this.pieces.peek()) {
      if (this.innerFull) return;
      const accepted = this.inner.write(first.bytes, true);
      this.underWay -= accepted;
      if (accepted < first.bytes.byteLength) {
        first.bytes = first.bytes.slice(accepted);
        this.innerFull = true;
        return;
      }
      this.pieces.shift();
    }
    const next = this.pieces.peek();
    if (!next && this.closing) this.inner.close(this.closing.error);
    if (!next || this.timer !== undefined || next.at === Number.POSITIVE_INFINITY) return;
    this.timer = this.clock.setTimer(() => {
      this.timer = undefined;
      this.progress();
    }, next.at - now);
  }
}

/** A transport whose pipes are wrapped at both of its ends. @param wrap called once for each pipe. */
export function wrapping(transport: Transport, wrap: (pipe: Pipe) => DelayedPipe): Transport {
  const wrapped = (inner: Pipe, handlers: (pipe: Pipe) => PipeHandlers): DelayedPipe => {
    const pipe = wrap(inner);
    pipe.handlers = handlers(pipe);
    return pipe;
  };
  return {
    scheme: transport.scheme,
    listen: (address, accept) => transport.listen(address, (inner) => wrapped(inner, accept).received),
    async connect(address, handlers) {
      let pipe: DelayedPipe | undefined;
      await transport.connect(address, (inner) => {
        pipe = wrapped(inner, handlers);
        return pipe.received;
      });
      return pipe!;
    },
    ...(transport.attach ? { attach: (carrier) => transport.attach!(carrier) } : {}),
  };
}
