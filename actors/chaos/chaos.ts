/**
 * The faults of a run, from outside: arms whoever is there with what is to come over them, and whoever comes back with what is
 * still to come; deals those out that go by the time; and knows for whom it is over. What a fault does is the device's
 * (`injector.ts`).
 *
 * Each is told when its step begins, if the device then has such operations to do; where the operation is one that may not be
 * there, a recovery or a copy, it is told when it has come. What did not come is known at the end, also of those that go by
 * the time (`offers.ts`).
 *
 * A fault comes once: not again when its step is made again, nor over the same device when that is back.
 */

import type { Clock, Ref, Timer } from "../../runtime/index.ts";
import type { Device } from "../device.ts";
import type { Plan } from "../scheduler/plan.ts";
import { comesBy, isCertain, whyNever } from "./coming.ts";
import { type Fault, isSame } from "./fault.ts";
import { type MissedFault, Offers } from "./offers.ts";
import { type FaultSeries, faultsOf, type Victims } from "./series.ts";

export interface ChaosWorld {
  readonly clock: Clock;
  /** Whoever has this name now. */
  device(name: string): Ref<Device> | undefined;
  /** Hears of each fault that is about to come, or has come. @param isLoss whether that is known by a loss, now. */
  told(fault: Fault, isLoss: boolean): void;
}

export interface ChaosOptions {
  readonly faults: readonly Fault[];
  readonly series: readonly FaultSeries[];
  readonly victims: Victims;
  /**
   * Steps that are done, and where the run ends. Faults of steps that are done have come, or were missed, where another
   * coordinator led the run.
   */
  readonly done: number;
  readonly steps: number;
}

export class Chaos {
  private readonly world: ChaosWorld;
  private readonly series: readonly FaultSeries[];
  private readonly victims: Victims;
  /** Those that are to come or have come, but for those that somebody was lost with. */
  private faults: Fault[];
  /** Those that go by steps: what came of each, if anything did yet. */
  private readonly known = new Map<Fault, "waits" | "told" | "missed">();
  /** Devices whose loss was heard of. */
  private readonly gone = new Set<string>();
  private readonly timers = new Map<FaultSeries, Timer>();
  private readonly offers: Offers;
  private readonly steps: number;
  /** The step that is under way. */
  private step: number;
  /** By which it is made, once there is one. */
  private plan: Plan | undefined;
  private closed = false;

  constructor({ faults, series, victims, done, steps }: ChaosOptions, world: ChaosWorld) {
    this.world = world;
    this.offers = new Offers(world.clock);
    this.steps = steps;
    this.series = series;
    this.victims = victims;
    this.step = done;
    const random: Fault[] = [];
    for (const each of series.filter(({ every }) => "steps" in every)) {
      for (const fault of faultsOf(each, victims)) {
        if (fault.step >= steps) break;
        random.push(fault);
      }
    }
    this.faults = [...faults, ...random].filter(({ step }) => step >= done);
    for (const fault of this.faults) this.known.set(fault, "waits");
  }

  /** Arms everyone. @throws FaultsRefused of a device that does not let itself be broken. */
  async begin(): Promise<void> {
    const names = this.series.length > 0 ? this.victims.names : this.faults.map(({ device }) => device);
    for (const name of new Set(names)) {
      await this.world.device(name)?.ask.arm(this.faults.filter(({ device }) => device === name));
    }
  }

  /** The run goes on by this plan: who computes, and what. */
  planned(plan: Plan): void {
    this.plan = plan;
    this.tellDue();
  }

  /** So many steps are done. */
  reached(done: number): void {
    if (done <= this.step) return;
    this.step = done;
    this.tellDue();
    this.lookFor(this.waiting().filter(({ step }) => step < done)).catch(() => {});
    // Before the first step it would depend on the machine what they find.
    for (const each of this.series) {
      if ("ms" in each.every && !this.timers.has(each)) this.deal(each, faultsOf(each, this.victims));
    }
  }

  /** A device is there, or there again. */
  joined(name: string): void {
    this.gone.delete(name);
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
    this.gone.add(name);
    // The next step may have begun.
    const has = ({ device, step, action }: Fault) =>
      device === name && action !== "slow" && step <= this.step + 1;
    const all = this.faults.filter(has).sort((a, b) => b.step - a.step);
    this.faults = this.faults.filter((fault) => !has(fault));
    // The last one that was told explains it, or the first that nobody knows of yet, of those that surely come rather.
    const isTold = (fault: Fault) => this.known.get(fault) === "told" && fault.step >= this.step - 1;
    const waiting = all.filter((fault) => this.known.get(fault) === "waits");
    const likely = waiting.findLast(({ phase }) => isCertain(phase)) ?? waiting.at(-1);
    const cause = this.offers.lost(name) || all.some(isTold) ? undefined : likely;
    for (const fault of waiting) {
      if (fault === cause) this.tell(fault, true);
      else this.known.set(fault, "missed");
    }
    const began = ({ device, step }: Fault) => device === name && step <= this.step;
    for (const fault of this.waiting().filter(began)) this.known.set(fault, "missed");
    return all[0]?.forMs;
  }

  /** Those that have not come, at the end of the run: devices are still there. */
  async missed(): Promise<readonly MissedFault[]> {
    const toCome = await this.lookFor([...this.known.keys()]);
    const bySteps = [...this.known].flatMap(([fault, what]) => {
      if (toCome.includes(fault)) return { fault, why: whyNever(this.plan, fault) };
      return what === "told" ? [] : { fault, why: `${fault.device} was not there` };
    });
    return [...bySteps, ...(await this.offers.end())];
  }

  close(): void {
    this.closed = true;
    this.offers.stop();
    for (const timer of this.timers.values()) this.world.clock.clearTimer(timer);
  }

  private waiting(): Fault[] {
    return [...this.known].flatMap(([fault, what]) => (what === "waits" ? [fault] : []));
  }

  private tell(fault: Fault, isLoss = false): void {
    if (this.known.get(fault) === "told") return;
    this.known.set(fault, "told");
    this.world.told(fault, isLoss);
  }

  /** The step that is under way has begun. */
  private tellDue(): void {
    for (const fault of this.waiting().filter(({ step }) => step === this.step)) {
      const isThere = this.world.device(fault.device) !== undefined;
      // Of one that is just being lost it is this fault that it may have been lost with: that is told with the loss.
      if (!isThere && this.gone.has(fault.device)) this.known.set(fault, "missed");
      else if (isThere && this.comes(fault)) this.tell(fault);
    }
  }

  /** Whether its device surely does in this step what it comes over. */
  private comes(fault: Fault): boolean {
    return this.plan !== undefined && comesBy(this.plan, fault);
  }

  /** Asks devices that are there which of these are still to come over them, and tells the others. */
  private async lookFor(faults: readonly Fault[]): Promise<readonly Fault[]> {
    const toCome: Fault[] = [];
    for (const [name, own] of Map.groupBy(faults, ({ device }) => device)) {
      const armed = await this.world
        .device(name)
        ?.ask.armed()
        .catch(() => undefined);
      if (!armed) continue;
      for (const fault of own) {
        if (armed.some((other) => isSame(other, fault))) toCome.push(fault);
        else if (this.known.get(fault) === "waits") this.tell(fault);
      }
    }
    return toCome;
  }

  /** Has faults of a series come when it is time. Over one that is not there, or has nothing to do, none comes. */
  private deal(series: FaultSeries, faults: Generator<Fault>): void {
    const { clock } = this.world;
    const next = () => {
      // Behind the last step there is none that it could come in.
      if (this.closed || this.step >= this.steps) return;
      const fault = { ...(faults.next().value as Fault), step: this.step, forMs: series.forMs };
      const device = this.world.device(fault.device);
      if (device && this.comes(fault)) {
        this.faults.push(fault);
        this.world.told(fault, false);
        this.offers.offer(fault, device);
      }
      this.timers.set(series, clock.setTimer(next, (series.every as { ms: number }).ms));
    };
    this.timers.set(series, clock.setTimer(next, (series.every as { ms: number }).ms));
  }
}
