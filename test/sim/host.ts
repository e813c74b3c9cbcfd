/**
 * A simulated machine: the world's clock as one machine sees it. It can stand still for a while (a stopped process, a
 * laptop's lid), so that its timers and what the network brings it come late and all at once, and it can be gone,
 * and then nothing of it runs any more.
 */

import type { Clock, Timer, VirtualClock } from "../../runtime/clock.ts";

interface HostTimer {
  fired: boolean;
  inner: Timer;
}

export class Host implements Clock {
  readonly name: string;
  /** Of this start of the machine and no other. */
  readonly life: string;
  private readonly clock: VirtualClock;
  private readonly timers = new Set<HostTimer>();
  private backlog: (() => void)[] = [];
  private frozen = false;
  alive = true;

  constructor(name: string, clock: VirtualClock) {
    this.name = name;
    this.life = `${name}@${clock.now()}`;
    this.clock = clock;
  }

  now(): number {
    return this.clock.now();
  }

  setTimer(callback: () => void, ms: number): Timer {
    const timer: HostTimer = { fired: false, inner: undefined };
    if (!this.alive) return timer;
    this.timers.add(timer);
    timer.inner = this.clock.setTimer(() => {
      this.enter(() => {
        // It may have been cleared while it waited for a frozen machine.
        if (this.timers.delete(timer)) callback();
      });
    }, ms);
    return timer;
  }

  clearTimer(timer: Timer): void {
    if (!timer) return;
    this.timers.delete(timer as HostTimer);
    this.clock.clearTimer((timer as HostTimer).inner);
  }

  defer(callback: () => void): void {
    this.clock.defer(() => this.alive && callback());
  }

  /** An actor may sleep on when its life is over; that is no timer its node has to clear. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.clock.setTimer(() => this.enter(resolve), ms));
  }

  /** Runs something on this machine: at once, when it thaws, or never when it is gone. */
  enter(work: () => void): void {
    if (!this.alive) return;
    if (this.frozen || this.backlog.length > 0) this.backlog.push(work);
    else work();
  }

  freeze(): void {
    this.frozen = true;
  }

  /** What has piled up happens in order, before anything else. */
  thaw(): void {
    this.frozen = false;
    if (this.backlog.length > 0) this.clock.setTimer(this.catchUp, 0);
  }

  get isFrozen(): boolean {
    return this.frozen;
  }

  /** Nothing of it runs any more. */
  die(): void {
    this.alive = false;
    this.frozen = false;
    this.backlog = [];
    for (const timer of this.timers) this.clock.clearTimer(timer.inner);
    this.timers.clear();
  }

  private readonly catchUp = (): void => {
    if (this.frozen) return;
    this.backlog.shift()?.();
    this.thaw();
  };

  /** Timers its node has set and not cleared. */
  get pending(): number {
    return this.timers.size;
  }
}
