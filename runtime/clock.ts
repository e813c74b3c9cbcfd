/**
 * Time, handed in. Everything in Troupe that waits or looks at the time does so through a `Clock`, so that a
 * whole cluster can live on a virtual one, where an hour passes when the test says so.
 */

import { Ring } from "../protocols/ring.ts";
import { Heap, type HeapItem } from "./heap.ts";

/** A timer's handle, for `clearTimer`. */
export type Timer = unknown;

/** The time and its timers, as the runtime takes them: `systemClock`, or a `VirtualClock` in tests. */
export interface Clock {
  /** Milliseconds since the epoch, with fractions; never goes back. */
  now(): number;
  /** Calls `callback` once, `ms` from now. */
  setTimer(callback: () => void, ms: number): Timer;
  /** Harmless when the timer has fired. */
  clearTimer(timer: Timer): void;
  /** Calls `callback` soon, after pending input and output has had its turn. */
  defer(callback: () => void): void;
  /** Resolves `ms` milliseconds from now. */
  sleep(ms: number): Promise<void>;
}

const immediately: (callback: () => void) => void =
  typeof setImmediate === "function"
    ? (callback) => void setImmediate(callback)
    : (callback) => void setTimeout(callback, 0);

/** Engines fire a timer at once that is longer than this. */
const LONGEST = 2 ** 31 - 1;

/** The machine's own clock. A timer of more than 24.8 days fires after 24.8 days. */
export const systemClock: Clock = {
  now: () => performance.timeOrigin + performance.now(),
  setTimer: (callback, ms) => setTimeout(callback, Math.min(ms, LONGEST)),
  clearTimer: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
  defer: immediately,
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, Math.min(ms, LONGEST))),
};

interface VirtualTimer extends HeapItem {
  readonly at: number;
  readonly order: number;
  readonly callback: () => void;
}

/**
 * A clock that moves only when told. Timers fire in order of time, then of their setting. Between two timers
 * everything runs to its end that does not wait for time: first all microtasks, then what was deferred, one by
 * one. The only real thing it waits for is a turn of the event loop (1.5 µs), which is how microtasks are known to
 * be exhausted; what happens in which order depends on nothing real.
 */
export class VirtualClock implements Clock {
  private time: number;
  private order = 0;
  private readonly timers = new Heap<VirtualTimer>((a, b) =>
    a.at === b.at ? a.order < b.order : a.at < b.at,
  );
  private readonly deferred = new Ring<() => void>();

  /** Its time is `start`, in milliseconds since the epoch, until somebody moves it. */
  constructor(start = 0) {
    this.time = start;
  }

  now(): number {
    return this.time;
  }

  setTimer(callback: () => void, ms: number): Timer {
    const timer: VirtualTimer = {
      // As the machine's timers, at once for what is no number; a time that is none would have no place in the heap.
      ...{ at: this.time + Math.max(0, ms || 0), order: this.order++, callback },
      place: -1,
    };
    this.timers.push(timer);
    return timer;
  }

  clearTimer(timer: Timer): void {
    if (timer) this.timers.remove(timer as VirtualTimer);
  }

  /** Calls back once microtasks are exhausted, at the same virtual time; also when nobody moves the clock. */
  defer(callback: () => void): void {
    this.deferred.push(callback);
    immediately(this.runDeferred);
  }

  /** Resolves when the clock has been moved on by `ms`. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.setTimer(resolve, ms));
  }

  /**
   * Moves time on by `ms`, or only as far as it takes until `enough`, which is asked whenever everything that is
   * ready has run. Rejected with what a timer throws.
   */
  async advance(ms: number, enough: () => boolean = () => false): Promise<void> {
    const end = this.time + ms;
    let stopped = false;
    await this.turns(() => {
      stopped = enough();
      const next = this.timers.first;
      if (stopped || !next || next.at > end) return false;
      this.timers.remove(next);
      this.time = next.at;
      next.callback();
      return true;
    });
    if (!stopped) this.time = Math.max(this.time, end);
  }

  /** Lets everything run that does not wait for time. */
  settle(): Promise<void> {
    return this.turns(() => false);
  }

  /** How many timers are set. */
  get pending(): number {
    return this.timers.size;
  }

  /** When the next timer fires, in milliseconds; undefined when none is set. */
  get next(): number | undefined {
    return this.timers.first?.at;
  }

  /** Calls `step` whenever nothing else is ready, until it returns false. */
  private turns(step: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const turn = () => {
        try {
          if (this.runDeferred() || step()) immediately(turn);
          else resolve();
        } catch (error) {
          reject(error);
        }
      };
      immediately(turn);
    });
  }

  /** Runs one deferred callback; false when there is none. */
  private readonly runDeferred = (): boolean => {
    const callback = this.deferred.shift();
    callback?.();
    return callback !== undefined;
  };
}
