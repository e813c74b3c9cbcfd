/**
 * A device's progress lease. A device may answer and yet get nothing done: a kernel that never ends, a thread that hangs, a
 * machine that swaps. Heartbeats do not see that. What its engine is asked for, and what of that has ended, does: each end
 * renews the lease, and one that runs out says that the device is stuck. Nothing is sent for it. The device looks at its own
 * lease, for whoever answers heartbeats can look at a clock, and where it has run out the device ends itself, which everyone
 * who watches it is told at once (`Device`).
 *
 * A slow device is not a stuck one. The lease runs only while the engine has something to do, so what a stage waits for from
 * others costs it nothing. It lasts for some patiences, and for many times as long as the longest kernel that was seen, if
 * that is more; and longer for what has not ended before, since nobody knows how long that takes. Time in which the device
 * itself stood still is not counted, as nowhere (`runtime/detector.ts`).
 */

import type { Engine } from "../../nn/engine/engine.ts";
import { wrapped } from "../../nn/engine/wrapped.ts";
import type { Clock, Timer, Times } from "../../runtime/index.ts";

/** A device that answers, and gets nothing done. */
export class DeviceStuck extends Error {
  readonly code = "DEVICE_STUCK";
  override readonly name = "DeviceStuck";
  /** Milliseconds since anything was done. */
  readonly silentMs: number;

  constructor(silentMs: number, slowestMs: number) {
    const before = slowestMs > 0 ? `: kernels took ${seconds(slowestMs)} at most until then` : "";
    super(`its engine has done nothing of what it was asked for in ${seconds(silentMs)}${before}`);
    this.silentMs = silentMs;
  }
}

/** So many times as slow as ever before is not slow any more. */
const MULTIPLE = 10;
/** Looks at a lease while it lasts. */
const LOOKS = 10;

export class Lease {
  private readonly clock: Clock;
  private readonly times: Pick<Times, "leaseMs" | "firstLeaseMs">;
  private readonly expired: (stuck: DeviceStuck) => void;
  /** Operations that were asked for and have not ended, and those of them that have not ended before. */
  private under = 0;
  private unknown = 0;
  /** When the one that runs began. */
  private since = 0;
  /** Of the time since then, that in which nobody looked. */
  private stoodMs = 0;
  private slowestMs = 0;
  private timer: Timer;
  private lookedAt = 0;
  private closed = false;

  /** @param expired called once, when the lease has run out. */
  constructor(
    clock: Clock,
    times: Pick<Times, "leaseMs" | "firstLeaseMs">,
    expired: (stuck: DeviceStuck) => void,
  ) {
    this.clock = clock;
    this.times = times;
    this.expired = expired;
  }

  /** The engine is asked for something. @param isKnown whether it has ended before. @returns what says that it has ended. */
  began(isKnown: boolean): () => void {
    if (this.under++ === 0) this.renew();
    if (!isKnown) this.unknown++;
    if (this.timer === undefined && !this.closed) this.lookLater();
    return () => {
      this.under--;
      if (isKnown) this.slowestMs = Math.max(this.slowestMs, this.clock.now() - this.since);
      else this.unknown--;
      this.renew();
    };
  }

  /** Nobody looks any more. */
  close(): void {
    this.closed = true;
    this.clock.clearTimer(this.timer);
    this.timer = undefined;
  }

  private renew(): void {
    this.since = this.clock.now();
    this.stoodMs = 0;
  }

  private get lastsMs(): number {
    const { leaseMs, firstLeaseMs } = this.times;
    return Math.max(this.unknown > 0 ? firstLeaseMs : leaseMs, MULTIPLE * this.slowestMs);
  }

  private lookLater(): void {
    this.lookedAt = this.clock.now();
    this.timer = this.clock.setTimer(() => this.look(), this.times.leaseMs / LOOKS);
  }

  private look(): void {
    this.timer = undefined;
    if (this.under === 0) return;
    const now = this.clock.now();
    this.stoodMs += Math.max(0, now - this.lookedAt - this.times.leaseMs / LOOKS);
    const silentMs = now - this.since - this.stoodMs;
    if (silentMs < this.lastsMs) {
      this.lookLater();
      return;
    }
    this.close();
    this.expired(new DeviceStuck(silentMs, this.slowestMs));
  }
}

/** The same engine, whose runs and compilations renew a lease when they end. */
export function leased(engine: Engine, lease: Lease): Engine {
  const during = <T>(isKnown: boolean, work: Promise<T>): Promise<T> => work.finally(lease.began(isKnown));
  return wrapped(
    engine,
    (run) => {
      let isKnown = false;
      return async () => {
        const ms = await during(isKnown, run());
        isKnown = true;
        return ms;
      };
    },
    (graph, options) => during(false, engine.compile(graph, options)),
  );
}

function seconds(ms: number): string {
  return `${Number((ms / 1000).toPrecision(2))} s`;
}
