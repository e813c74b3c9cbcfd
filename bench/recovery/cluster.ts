/**
 * Emulated devices on which a run is carried out until one of them is killed: opened anew for every measurement, since a
 * process that is killed does not come back.
 */

import { DataSource } from "../../actors/data/source.ts";
import { profileCluster } from "../../actors/profile.ts";
import type { Plan } from "../../actors/scheduler/plan.ts";
import { makePlan, type PlanRequest } from "../../actors/scheduler/planner.ts";
import { type RecoveryOptions, Scheduler } from "../../actors/scheduler/scheduler.ts";
import type { initialState } from "../../actors/train.ts";
import { findSegments } from "../../nn/segments.ts";
import type { Ref } from "../../runtime/index.ts";
import type { Training } from "../strategies/run.ts";
import { type BedSpec, openTestbed, type Testbed, type TestbedKind } from "../testbed/testbed.ts";

/** Where a run is measured. */
export interface Place {
  readonly name: string;
  readonly about: string;
  readonly specs: readonly BedSpec[];
  /** Where it can be had; shaped lines otherwise. */
  readonly kind: TestbedKind;
}

/** Milliseconds of runs that devices are profiled for. */
const PROFILE_MS = 4000;

export class RecoveryCluster {
  readonly bed: Testbed;
  private readonly training: Training;
  private readonly stops: (() => Promise<void>)[] = [];

  private constructor(bed: Testbed, training: Training) {
    this.bed = bed;
    this.training = training;
  }

  static async open({ specs, kind }: Place, training: Training): Promise<RecoveryCluster> {
    return new RecoveryCluster(await openTestbed(specs, { kind }), training);
  }

  /** What the planner has to know of the devices. Ids are their places. */
  async request(): Promise<Omit<PlanRequest, "options">> {
    const { model, microBatches, optimizer } = this.training;
    const devices = this.bed.devices.map(({ ref }) => ref);
    const descriptions = await Promise.all(devices.map((device) => device.ask.describe()));
    const { profile, segments } = await profileCluster(devices, descriptions, {
      ...{ model, microBatches, optimizer, segments: findSegments(model), budgetMs: PROFILE_MS },
      ...{ split: false, sharings: [], now: () => performance.now() },
    });
    const infos = descriptions.map(({ name, memoryBytes }, i) => ({ id: `${i}`, name, memoryBytes }));
    return { profile, segments, devices: infos };
  }

  /** A scheduler for a plan, deployed with these values. @param places of its devices among all. */
  async deploy(
    plan: Plan,
    places: readonly number[],
    values: Awaited<ReturnType<typeof initialState>>,
    recovery?: RecoveryOptions,
  ): Promise<Ref<Scheduler>> {
    const { model, feed, optimizer, seed, microBatches } = this.training;
    const { node } = this.bed;
    const data = await node.spawn(DataSource, [feed]);
    const { strategy, schedule } = plan;
    const options = { strategy, schedule, recompute: false, microBatches, model, optimizer, seed, plan };
    const scheduler = await node.spawn(Scheduler, [
      places.map((place) => this.bed.devices[place]!.ref),
      data,
      { ...options, ...(recovery && { recovery }) },
    ]);
    this.stops.push(async () => {
      await node.stop(scheduler);
      await node.stop(data);
    });
    await scheduler.ask.plan();
    await scheduler.ask.deploy(values);
    return scheduler;
  }

  /** Ends the run that was deployed last. */
  async stop(): Promise<void> {
    await this.stops.pop()?.();
  }

  kill(device: number): void {
    process.kill(this.bed.devices[device]!.pid, "SIGKILL");
  }

  async close(): Promise<void> {
    try {
      while (this.stops.length > 0) await this.stop();
    } finally {
      await this.bed.close();
    }
  }
}

/** The best plan that divides the model. @param copies of what each device holds, with others. */
export function planFor(request: Omit<PlanRequest, "options">, microBatches: number, copies = 0): Plan {
  const options = { strategy: "hybrid", schedule: "auto", microBatches, recompute: false, copies };
  return makePlan({ ...request, options });
}

/** The same without a device; ids are places among those that are left. */
export function without(
  { profile, segments, devices }: Omit<PlanRequest, "options">,
  lost: number,
): Omit<PlanRequest, "options"> {
  const left = devices.filter((_, i) => i !== lost);
  const named = new Map(left.map(({ id }, i) => [id, `${i}`]));
  const renamed = <T>(record: Readonly<Record<string, T>>): Record<string, T> =>
    Object.fromEntries(
      Object.entries(record).flatMap(([id, value]) => (named.has(id) ? [[named.get(id)!, value]] : [])),
    );
  return {
    segments,
    devices: left.map((device) => ({ ...device, id: named.get(device.id)! })),
    profile: {
      ...profile,
      devices: renamed(profile.devices),
      links: renamed(
        Object.fromEntries(Object.entries(profile.links).map(([id, row]) => [id, renamed(row)])),
      ),
      ...(profile.hosts && { hosts: renamed(profile.hosts) }),
      ...(profile.controlMs && { controlMs: renamed(profile.controlMs) }),
    },
  };
}
