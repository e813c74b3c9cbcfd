/**
 * Time, handed in. Everything in Troupe that waits or looks at the time does so through a `Clock`, so that a
 * whole cluster can live on a virtual one, where an hour passes when the test says so.
 */

/** A timer's handle, for `clearTimer`. */
export type Timer = unknown;

export interface Clock {
  /** Milliseconds since the epoch, with fractions; never goes back. */
  now(): number;
  /** Calls `callback` once, `ms` from now. */
  setTimer(callback: () => void, ms: number): Timer;
  /** Harmless when the timer has fired. */
  clearTimer(timer: Timer): void;
  /** Calls `callback` soon, after pending input and output has had its turn. */
  defer(callback: () => void): void;
  sleep(ms: number): Promise<void>;
}

const immediately: (callback: () => void) => void =
  typeof setImmediate === "function"
    ? (callback) => void setImmediate(callback)
    : (callback) => void setTimeout(callback, 0);

/** The machine's own clock. */
export const systemClock: Clock = {
  now: () => performance.timeOrigin + performance.now(),
  setTimer: (callback, ms) => setTimeout(callback, ms),
  clearTimer: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
  defer: immediately,
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
};

interface VirtualTimer {
  readonly at: number;
  readonly order: number;
  readonly callback: () => void;
}

/** A clock that moves only when told. Timers fire in order of time, then of their setting. */
export class VirtualClock implements Clock {
  private time: number;
  private order = 0;
  private readonly timers = new Set<VirtualTimer>();

  constructor(start = 0) {
    this.time = start;
  }

  now(): number {
    return this.time;
  }

  setTimer(callback: () => void, ms: number): Timer {
    const timer: VirtualTimer = { at: this.time + Math.max(0, ms), order: this.order++, callback };
    this.timers.add(timer);
    return timer;
  }

  clearTimer(timer: Timer): void {
    this.timers.delete(timer as VirtualTimer);
  }

  defer(callback: () => void): void {
    queueMicrotask(callback);
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.setTimer(resolve, ms));
  }

  /** Moves time on by `ms`; before, between and after timers everything that is ready runs to its end. */
  async advance(ms: number): Promise<void> {
    const end = this.time + ms;
    for (;;) {
      await this.settle();
      const next = this.earliest();
      if (!next || next.at > end) break;
      this.timers.delete(next);
      this.time = next.at;
      next.callback();
    }
    this.time = end;
  }

  /** Lets everything run that does not wait for time. */
  settle(): Promise<void> {
    return new Promise((resolve) => immediately(resolve));
  }

  private earliest(): VirtualTimer | undefined {
    let first: VirtualTimer | undefined;
    for (const timer of this.timers) {
      if (!first || timer.at < first.at || (timer.at === first.at && timer.order < first.order))
        first = timer;
    }
    return first;
  }
}
