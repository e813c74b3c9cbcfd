/**
 * Pace: how far the chunks of tensors may be ahead of the peer's reading. What is handed to a pipe cannot be
 * overtaken any more, and the buffers of two kernels hold tens of megabytes: a control frame behind them would wait
 * for as long as they take to be read. So the peer says how far it has read, and the sender stays close to that.
 *
 * How close depends on the link. A window of 1 MiB keeps a local link busy (a gigabyte per second passes through
 * it in a millisecond); a long one needs the product of its rate and its round trip. As in delay-based congestion
 * control (Brakmo and Peterson, "TCP Vegas", 1995) the window grows while a round trip takes hardly longer than
 * the shortest seen, and shrinks when the bytes ahead of each other are what makes it longer. It is no congestion
 * control, which is the transport's business; the worst it can do is to let a control frame wait longer.
 *
 * Pure: whoever owns the link says what time it is.
 */

import { ProtocolError } from "./errors.ts";
import { Ring } from "./ring.ts";

export const LEAST_PACE_BYTES = 2 ** 20;
export const MOST_PACE_BYTES = 64 * 2 ** 20;
/** The peer tells so often: a small part of the least window, and not each time a chunk has come. */
const READ_BYTES = LEAST_PACE_BYTES / 4;
/** A round trip up to this much longer than the shortest is one without a queue… */
const SHORT = { factor: 1.25, ms: 1 };
/** …and from here on there is one. */
const LONG = { factor: 1.5, ms: 2 };
const SHRINK = 7 / 8;
/** The shortest round trip is that of the last one or two of these: routes change. */
const EPOCH_MS = 10_000;

/** The sender's side. */
export class Pace {
  /** Bytes that may be ahead. */
  window = LEAST_PACE_BYTES;
  /** Bytes written and read since the link began. */
  private written = 0;
  private known = 0;
  private readonly marks = new Ring<{ readonly until: number; readonly at: number }>();
  private shortest = Number.POSITIVE_INFINITY;
  private shortestBefore = Number.POSITIVE_INFINITY;
  private epoch = Number.NEGATIVE_INFINITY;
  /** Shrunk already for all that is written up to here. */
  private shrunkUntil = 0;

  /** Whether another chunk may be written. */
  get isOpen(): boolean {
    return this.written - this.known < this.window;
  }

  /** A chunk of so many bytes is written. @param now milliseconds. */
  sent(bytes: number, now: number): void {
    this.written += bytes;
    this.marks.push({ until: this.written, at: now });
  }

  /** The peer has read so many bytes more. @throws ProtocolError BAD_CREDIT when there were not as many. */
  read(bytes: number, now: number): void {
    if (bytes > this.written - this.known) {
      throw new ProtocolError(
        "BAD_CREDIT",
        `the peer has read ${bytes} bytes, of ${this.written - this.known} that were written`,
      );
    }
    const limited = !this.isOpen;
    this.known += bytes;
    let at: number | undefined;
    for (let mark = this.marks.peek(); mark && mark.until <= this.known; mark = this.marks.peek()) {
      at = mark.at;
      this.marks.shift();
    }
    if (at !== undefined) this.adapt(now - at, bytes, limited, now);
  }

  private adapt(roundTrip: number, bytes: number, limited: boolean, now: number): void {
    if (now - this.epoch >= EPOCH_MS) {
      this.epoch = now;
      this.shortestBefore = this.shortest;
      this.shortest = roundTrip;
    }
    this.shortest = Math.min(this.shortest, roundTrip);
    const shortest = Math.min(this.shortest, this.shortestBefore);
    if (roundTrip <= shortest * SHORT.factor + SHORT.ms) {
      // As much as was read: twice the window in a round trip.
      if (limited) this.window = Math.min(this.window + bytes, MOST_PACE_BYTES);
    } else if (roundTrip > shortest * LONG.factor + LONG.ms && this.known >= this.shrunkUntil) {
      this.window = Math.max(this.window * SHRINK, LEAST_PACE_BYTES);
      this.shrunkUntil = this.written;
    }
  }
}

/** The receiver's side: how much it has read and not told. */
export class ReadMeter {
  private pending = 0;

  /** A chunk of so many bytes has come. Returns how many are to be told now, 0 for none. */
  read(bytes: number): number {
    this.pending += bytes;
    if (this.pending < READ_BYTES) return 0;
    const due = this.pending;
    this.pending = 0;
    return due;
  }
}
