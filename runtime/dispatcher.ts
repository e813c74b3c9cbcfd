/**
 * When actors run. An actor with something to do runs in a microtask, which is as soon as its sender is done.
 * Microtasks starve timers and sockets, so all actors of a node share a budget of messages per turn of the event
 * loop; when it is used up, the rest waits until input and output has had its turn.
 */

import type { Clock } from "./clock.ts";

/** Messages per turn of the event loop: at a microsecond each, sockets wait a few milliseconds at most. */
const BUDGET = 4096;

export interface Runnable {
  run(): void;
}

export class Dispatcher {
  private readonly clock: Clock;
  private ready: Runnable[] = [];
  private left = BUDGET;
  private scheduled = false;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** Runs `runnable` soon. The caller sees to it that it is not scheduled twice. */
  schedule(runnable: Runnable): void {
    this.ready.push(runnable);
    if (this.scheduled) return;
    this.scheduled = true;
    if (this.left > 0) queueMicrotask(this.drain);
  }

  /** Takes one message from the budget; false when it is used up and the caller has to schedule itself. */
  spend(): boolean {
    if (this.left === 0) return false;
    if (this.left-- === BUDGET) this.clock.defer(this.refill);
    return true;
  }

  private readonly drain = (): void => {
    this.scheduled = false;
    const ready = this.ready;
    this.ready = [];
    for (const runnable of ready) runnable.run();
  };

  private readonly refill = (): void => {
    this.left = BUDGET;
    if (this.scheduled) this.drain();
  };
}
