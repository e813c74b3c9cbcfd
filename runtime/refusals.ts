/**
 * The log of refused connections. Whoever can reach a port can have as many connections refused as it likes, and
 * must not be able to fill a disk or hide a real message that way: a few lines per second are written, the rest
 * is counted and the count written when the second is over.
 */

import type { Clock, Timer } from "./clock.ts";
import type { Log } from "./log.ts";

/** Enough to see what is going on. */
const LINES_PER_WINDOW = 5;
const WINDOW_MS = 1000;

export class Refusals {
  private readonly clock: Clock;
  private readonly log: Log;
  private lines = 0;
  private left = 0;
  private timer: Timer | undefined;

  constructor(clock: Clock, log: Log) {
    this.clock = clock;
    this.log = log;
  }

  refused(from: string, error: Error): void {
    this.timer ??= this.clock.setTimer(this.windowEnds, WINDOW_MS);
    if (this.lines++ < LINES_PER_WINDOW) {
      this.log({ level: "warn", message: `refused a connection from ${from}`, error });
    } else this.left++;
  }

  /** Writes the count that is open and sets no more timers. */
  close(): void {
    if (this.timer === undefined) return;
    this.clock.clearTimer(this.timer);
    this.windowEnds();
  }

  private readonly windowEnds = (): void => {
    if (this.left > 0) {
      this.log({ level: "warn", message: `refused ${this.left} more connections in the last second` });
    }
    this.timer = undefined;
    this.lines = 0;
    this.left = 0;
  };
}
