/**
 * The faults of a run, from outside: arms whoever is there with what is to come over them, and whoever comes back with what is
 * still to come; deals those out that go by the time; and knows for whom it is over. What a fault does is the device's
 * (`injector.ts`).
 */

import type { Clock, Ref, Timer } from "../../runtime/index.ts";
import type { Device } from "../device.ts";
import type { Fault } from "./fault.ts";
import { type FaultSeries, faultsOf, type Victims } from "./series.ts";

export interface ChaosWorld {
  readonly clock: Clock;
  /** Whoever has this name now. */
  device(name: string): Ref<Device> | undefined;
  /** Hears of each fault of a series when it is about to come. */
  told(fault: Fault): void;
}

export interface ChaosOptions {
  readonly faults: readonly Fault[];
  readonly series: readonly FaultSeries[];
  readonly victims: Victims;
  /** Steps that are done, and where the run ends. */
  readonly done: number;
  readonly steps: number;
}

export class Chaos {
  private readonly world: ChaosWorld;
  private readonly series: readonly FaultSeries[];
  private readonly victims: Victims;
  /** Those that are to come or have come, but for those that somebody was lost with. */
  private faults: Fault[];
  /** Of series that go by steps. */
  private readonly random = new Set<Fault>();
  private readonly timers = new Map<FaultSeries, Timer>();
  /** The step that is under way. */
  private step: number;
  private closed = false;

  constructor({ faults, series, victims, done, steps }: ChaosOptions, world: ChaosWorld) {
    this.world = world;
    this.series = series;
    this.victims = victims;
    this.step = done;
    for (const each of series.filter(({ every }) => "steps" in every)) {
      for (const fault of faultsOf(each, victims)) {
        if (fault.step >= steps) break;
        if (fault.step >= done) this.random.add(fault);
      }
    }
    this.faults = [...faults, ...this.random];
  }

  /** Arms everyone. @throws FaultsRefused of a device that does not let itself be broken. */
  async begin(): Promise<void> {
    const names = this.series.length > 0 ? this.victims.names : this.faults.map(({ device }) => device);
    for (const name of new Set(names)) {
      await this.world.device(name)?.ask.arm(this.faults.filter(({ device }) => device === name));
    }
    this.tellRandom();
  }

  /** So many steps are done. */
  reached(done: number): void {
    if (done <= this.step) return;
    this.step = done;
    this.tellRandom();
    // Before the first step it would depend on the machine what they find.
    for (const each of this.series) {
      if ("ms" in each.every && !this.timers.has(each)) this.deal(each, faultsOf(each, this.victims));
    }
  }

  /** A device is there, or there again. */
  joined(name: string): void {
    const further = this.faults.filter(({ device, step }) => device === name && step > this.step);
    // One that was started by others may not let itself be broken, and was told so when the run began.
    if (further.length > 0)
      this.world
        .device(name)
        ?.ask.arm(further)
        .catch(() => {});
  }

  /** A device is gone. @returns milliseconds until it may be there again; undefined where that was not said. */
  lost(name: string): number | undefined {
    // The next step may have begun.
    const has = ({ device, step, action }: Fault) =>
      device === name && action !== "slow" && step <= this.step + 1;
    const [last] = this.faults.filter(has).sort((a, b) => b.step - a.step);
    this.faults = this.faults.filter((fault) => !has(fault));
    return last?.forMs;
  }

  close(): void {
    this.closed = true;
    for (const timer of this.timers.values()) this.world.clock.clearTimer(timer);
  }

  private tellRandom(): void {
    for (const fault of this.random) if (fault.step === this.step) this.world.told(fault);
  }

  /** Has faults of a series come when it is time. Over one that is not there none comes. */
  private deal(series: FaultSeries, faults: Generator<Fault>): void {
    const { clock } = this.world;
    const next = () => {
      const fault = { ...(faults.next().value as Fault), step: this.step };
      const device = this.world.device(fault.device);
      if (device) {
        this.faults.push(fault);
        this.world.told(fault);
        device.ask.arm([fault], true).catch(() => {});
      }
      if (!this.closed) this.timers.set(series, clock.setTimer(next, (series.every as { ms: number }).ms));
    };
    this.timers.set(series, clock.setTimer(next, (series.every as { ms: number }).ms));
  }
}
