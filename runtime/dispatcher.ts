/**
 * When actors run. An actor with something to do runs in a microtask, which is as soon as its sender is done.
 * Actors take turns in the order they became ready, each for a slice of messages at a time, so that one that is
 * never done delays the others and does not stop them. Microtasks starve timers and sockets, so all actors of a
 * node share a budget of messages per turn of the event loop; when it is used up, the rest waits until input and
 * output has had its turn.
 */

import { Ring } from "../protocols/ring.ts";
import type { Clock } from "./clock.ts";

/** Messages per turn of the event loop: at a microsecond each, sockets wait a few milliseconds at most. */
const BUDGET = 4096;
/** Messages one actor handles while others wait for their turn. */
const SLICE = 256;

export interface Runnable {
  run(): void;
}

export class Dispatcher {
  private readonly clock: Clock;
  private readonly ready = new Ring<Runnable>();
  private left = BUDGET;
  /** The budget will be filled up. */
  private deferred = false;
  private scheduled = false;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** Runs `runnable` soon. The caller sees to it that it is not scheduled twice. */
  schedule(runnable: Runnable): void {
    this.ready.push(runnable);
    if (!this.scheduled && this.left > 0) this.plan();
  }

  /** How many messages a runnable may handle now; with none, it has to schedule itself. */
  allot(): number {
    if (!this.deferred) {
      this.deferred = true;
      this.clock.defer(this.refill);
    }
    return Math.min(this.left, SLICE);
  }

  /** A runnable has run, and handled so many messages. Running counts, so that endless starts and stops yield too. */
  spend(handled: number): void {
    this.left = Math.max(0, this.left - Math.max(1, handled));
  }

  private plan(): void {
    this.scheduled = true;
    queueMicrotask(this.drain);
  }

  private readonly drain = (): void => {
    this.scheduled = false;
    // Whoever becomes ready meanwhile waits for the next microtask: what was answered now is heard of first.
    try {
      for (let waiting = this.ready.length; waiting > 0 && this.left > 0; waiting--)
        this.ready.shift()!.run();
    } finally {
      // Also when one of them has failed: the others are not to wait for whoever comes next.
      if (this.ready.length > 0 && this.left > 0 && !this.scheduled) this.plan();
    }
  };

  private readonly refill = (): void => {
    this.deferred = false;
    this.left = BUDGET;
    if (!this.scheduled && this.ready.length > 0) this.drain();
  };
}
