/**
 * What is known of the devices of a run, for plans in the middle of it: their profiles, corrected by what steps have taken
 * since. It looks for the best plan for those that are there, and for what that would save; whether the run goes over to it is
 * decided elsewhere (`decision.ts`), and done elsewhere (`migration.ts`).
 *
 * Another plan must not make another result. A run that is a pipeline has one device's weights to the bit, and keeps them:
 * unless it was asked for devices that share stages, it goes over to pipelines only, of the same schedule. What depends on
 * the plan itself, members that train on their own and updates within a step, is never planned anew; nor is a plan for
 * the least energy, which is not sooner done.
 */

import {
  correctedProfile,
  type Drift,
  type DriftWatch,
  machineDrifts,
  NO_DRIFT,
  watchPlan,
} from "../drift.ts";
import type { ClusterProfile } from "../profile.ts";
import { type JoinedProfile, withJoined } from "../profile-join.ts";
import type { DeviceInfo, Profile, SegmentCost } from "../scheduler/cost.ts";
import { memoryMidway, memoryOf, stepMsOf } from "../scheduler/device-load.ts";
import { newcomersOf } from "../scheduler/newcomers.ts";
import { chunksOf, type Plan, type PlanDevice } from "../scheduler/plan.ts";
import { planCost } from "../scheduler/plan-cost.ts";
import { PlanError } from "../scheduler/plan-error.ts";
import { adaptPlan, makePlan, type PlanOptions } from "../scheduler/planner.ts";
import { isAsynchronous } from "../scheduler/schedule.ts";
import { predict } from "../scheduler/simulate.ts";
import type { OperationSpan } from "../stage.ts";
import { type Decision, decide, moveMs, startsStages, transfers } from "./decision.ts";
import { mostCut, UNREACHABLE, unreachablePairs } from "./links.ts";

/** Pipelines that are tried, each with a quarter less of the devices: a run does not wait long for a plan. */
const MOST_TRIES = 3;

/** With more devices a new plan takes longer to find than devices stay; the present one is adapted to those that are there. */
const MOST_SEARCHED = 64;

/** A plan to go over to, if there is one, and why. */
export interface Proposal {
  readonly next?: Plan;
  /** For people. */
  readonly why: string;
  /** Predicted, of a step; null where nobody knows. */
  readonly oldStepMs: number | null;
  readonly newStepMs: number | null;
  /** Decides again when its stages are ready, by the steps that are left then; left out where there is no plan. */
  readonly again?: (stepsLeft: number) => Decision;
}

export class Replanner {
  private readonly segments: readonly SegmentCost[];
  private readonly options: PlanOptions;
  private readonly devices = new Map<string, DeviceInfo>();
  /** By place. */
  private readonly keys: (string | undefined)[] = [];
  /** As the present plan was made from, or is watched by. */
  private base: Profile;
  private watch: DriftWatch | null = null;

  /** @param devices in the order in which they were measured. */
  constructor(
    { segments, profile, keys }: ClusterProfile,
    devices: readonly DeviceInfo[],
    options: PlanOptions,
  ) {
    this.segments = segments;
    this.options = options;
    this.base = profile;
    devices.forEach((device, i) => {
      this.devices.set(device.id, device);
      this.keys[Number(device.id)] = keys[i];
    });
  }

  /** The best plan to begin with. @throws PlanError in one line when there is none. */
  first(): Plan {
    const { strategy, schedule } = this.options;
    return this.planFor([...this.devices.keys()], strategy, schedule);
  }

  /** Goes by another plan from here on. */
  follow(plan: Plan): void {
    this.base = this.profile();
    this.watch = this.knowsAll(plan) ? watchPlan(plan, this.inputs()) : null;
  }

  /** Takes a step in. @returns ids of devices that are known by it not to be as fast as they were taken to be. */
  observe(spans: readonly (readonly OperationSpan[])[]): readonly string[] {
    return this.watch?.observe(spans) ?? [];
  }

  /** Since the present plan was made. */
  drift(id: string): Drift {
    return this.watch?.drifts[id] ?? NO_DRIFT;
  }

  /** What a device's profile is kept under. */
  key(id: string): string | undefined {
    return this.keys[Number(id)];
  }

  /** As it is now. */
  profile(): Profile {
    if (!this.watch) return this.base;
    return correctedProfile(this.base, machineDrifts(this.watch.drifts, this.base.hosts ?? {}));
  }

  /** A device has joined. */
  add(device: DeviceInfo, joined: JoinedProfile): void {
    this.base = withJoined(this.base, joined);
    this.devices.set(device.id, device);
    this.keys[Number(device.id)] = joined.key;
  }

  /** As measured, before anything drifted since the present plan was made. */
  measured(): Profile {
    return this.base;
  }

  /**
   * The best plan for these devices, where it is worth going over to it.
   * @param startMs that it takes until stages are there, where any is started.
   */
  propose(present: Plan, alive: readonly string[], stepsLeft: number, startMs: number): Proposal {
    const oldStepMs = this.stepMs(present);
    if (oldStepMs === null) {
      return { why: "devices of the present plan are not measured yet", oldStepMs, newStepMs: null };
    }
    let next: Plan;
    try {
      next = this.best(present, alive);
    } catch (error) {
      if (!(error instanceof PlanError)) throw error;
      return { why: error.message, oldStepMs, newStepMs: null };
    }
    const newStepMs = next.predictedStepMs;
    const figures = { oldStepMs, newStepMs };
    if (isSame(present, next)) return { ...figures, why: "the present plan is the best" };
    // Who is given what it holds while others work stops nobody.
    const newcomers = newcomersOf(present, next);
    const moves = transfers(present, next, this.segments).filter(({ to }) => !newcomers.has(to));
    const profile = this.profile();
    const decided = (left: number, ms: number) =>
      // In their first step they save nothing.
      decide({
        ...{ ...figures, stepsLeft: left - Math.min(1, newcomers.size) },
        moveMs: moveMs(moves, profile, ms),
      });
    const { moves: goes, why } = decided(stepsLeft, startsStages(present, next) ? startMs : 0);
    return { ...figures, why, ...(goes && { next, again: (left) => decided(left, 0) }) };
  }

  /** Milliseconds of a step by this plan; null where there is a device in it that has not been measured. */
  stepMs(plan: Plan): number | null {
    if (!this.knowsAll(plan)) return null;
    const cost = planCost(plan, { ...this.inputs(), profile: this.profile() });
    return stepMsOf(plan, predict(cost.programs, cost.run), cost);
  }

  /**
   * What a plan leaves too little memory for; null where everything fits, as far as it is known.
   * @param begun the plan that a step was begun by which is gone on with, for those of it who are left.
   */
  overfull(plan: Plan, begun: Plan | null = null): string | null {
    if (!this.knowsAll(plan)) return null;
    const cost = planCost(plan, { ...this.inputs(), profile: this.profile() });
    for (const [id, bytes] of begun ? memoryMidway(begun, plan, cost) : memoryOf(plan, cost)) {
      const { name, memoryBytes = Number.POSITIVE_INFINITY } = this.devices.get(id)!;
      if (bytes > memoryBytes)
        return `${name} has ${mebibytes(memoryBytes)}, and would need ${mebibytes(bytes)}`;
    }
    return null;
  }

  /** Whether other plans make the same result, and may be sooner done. */
  isFree(plan: Plan): boolean {
    return this.bound(plan) === null;
  }

  /** Why there is never another plan, for people; null where there may be. */
  bound({ stages, schedule }: Plan): string | null {
    const { objective = "time" } = this.options;
    if (objective !== "time") return `it is for the least ${objective}, which none is sooner done for`;
    if (stages.some(({ sharing }) => sharing === "local"))
      return "its devices train on their own, and have what no others have";
    if (isAsynchronous(schedule)) return `by another one ${schedule} would make another result`;
    return null;
  }

  /**
   * The best plan for these devices that makes the result of the present one.
   * @throws PlanError in one line when there is none.
   */
  best(present: Plan, alive: readonly string[]): Plan {
    const devices = alive.filter((id) => this.devices.has(id));
    if (!this.keepsBits(present)) {
      const { strategy, schedule } = this.options;
      const adapted = devices.length > MOST_SEARCHED ? this.adapted(present, devices) : null;
      return adapted ?? this.planFor(devices, strategy, schedule);
    }
    const using = inOrder(present).filter((id) => devices.includes(id));
    const all = [...using, ...devices.filter((id) => !using.includes(id))];
    const most = this.segments.length;
    const { schedule } = present;
    const found: Plan[] = [];
    let refused: unknown;
    /** @returns how long a step takes. */
    const attempt = (ids: readonly string[], strategy: string): number => {
      try {
        const plan = this.planFor(ids, strategy, schedule);
        if (isUnshared(plan)) found.push(plan);
        return plan.predictedStepMs;
      } catch (error) {
        if (!(error instanceof PlanError)) throw error;
        refused ??= error;
        return Number.POSITIVE_INFINITY;
      }
    };
    const { strategy } = this.options;
    if (strategy !== "single") {
      // Who is too slow for the rest is left out. Searching among all plans would take longer, for pipelines as good.
      let ids = [...all];
      let before = Number.POSITIVE_INFINITY;
      for (let tries = 0; tries < MOST_TRIES && ids.length > 0; tries++) {
        const ms = attempt(ids.slice(0, most), "pipeline");
        if (!(ms < before) && before < Number.POSITIVE_INFINITY) break;
        before = ms;
        const slow = ids.toSorted((a, b) => this.passMs(b) - this.passMs(a));
        const leaving = slow.slice(0, Math.ceil(ids.length / 4));
        ids = ids.filter((id) => !leaving.includes(id));
      }
      if (using.length > 0 && using.length < all.length) attempt(using.slice(0, most), "pipeline");
    }
    if (strategy !== "pipeline") attempt(devices, "single");
    if (found.length === 0) throw refused ?? new PlanError("there is no plan that makes the same result");
    return found.reduce((a, b) => (b.predictedStepMs < a.predictedStepMs ? b : a));
  }

  /** Of one micro-batch through the whole model. */
  private passMs(id: string): number {
    const { forwardMs, backwardMs } = this.base.devices[id]!;
    return [...forwardMs, ...backwardMs].reduce((sum, ms) => sum + ms, 0);
  }

  /** The present plan for these devices; null where it cannot be. */
  private adapted(present: Plan, ids: readonly string[]): Plan | null {
    const devices = ids.map((id) => this.devices.get(id)!);
    const { segments, options } = this;
    try {
      return adaptPlan({ segments, devices, profile: this.profile(), options }, present);
    } catch (error) {
      if (error instanceof PlanError) return null;
      throw error;
    }
  }

  private knowsAll({ stages }: Plan): boolean {
    return stages.every(({ members }) => members.every(({ device }) => this.devices.has(device)));
  }

  /** Whether the run has one device's weights to the bit, and was not asked for less. */
  private keepsBits(plan: Plan): boolean {
    const { strategy } = this.options;
    return isUnshared(plan) && (strategy === "auto" || strategy === "pipeline" || strategy === "single");
  }

  private planFor(ids: readonly string[], strategy: string, schedule: string): Plan {
    const options = { ...this.options, strategy, schedule };
    const profile = this.profile();
    const leftOut: PlanDevice[] = [];
    const among = [...ids];
    for (;;) {
      const devices = among.map((id) => this.devices.get(id)!);
      const plan = makePlan({ segments: this.segments, devices, profile, options });
      const pairs = plan.predictedStepMs < UNREACHABLE.latencyMs ? [] : unreachablePairs(among, profile);
      const id = mostCut(pairs);
      if (id === undefined) {
        return leftOut.length === 0 ? plan : { ...plan, devices: [...plan.devices, ...leftOut] };
      }
      // Neighbours in it do not reach each other, so there is no plan for all of these.
      among.splice(among.indexOf(id), 1);
      const names = pairs.filter((pair) => pair.includes(id)).map((pair) => pair.find((end) => end !== id)!);
      const others = names.map((other) => this.devices.get(other)!.name).join(", ");
      const { name } = this.devices.get(id)!;
      leftOut.push({ id, name, used: false, reason: `left out: it does not reach ${others}` });
    }
  }

  private inputs() {
    const { segments, base, options } = this;
    const { stashBytes = 0 } = options;
    return { segments, devices: [...this.devices.values()], profile: base, stashBytes };
  }
}

/** Whether both are the same to run. */
export function isSame(a: Plan, b: Plan): boolean {
  const carriedOut = ({ schedule, forwardOnly, stages }: Plan) =>
    JSON.stringify([
      schedule,
      forwardOnly,
      stages.map(({ ranges, sharing, members, recompute }) => [
        ...[ranges, sharing, recompute],
        members.map(({ device, share, microBatches }) => [device, share, microBatches]),
      ]),
    ]);
  return carriedOut(a) === carriedOut(b);
}

function isUnshared({ stages }: Plan): boolean {
  return stages.every(({ members }) => members.length === 1);
}

/** Devices of a plan in the order in which data passes them. */
function inOrder(plan: Plan): string[] {
  const ids = chunksOf(plan).flatMap((range) =>
    plan.stages.filter(({ ranges }) => ranges.includes(range)).flatMap(({ members }) => members),
  );
  return [...new Set(ids.map(({ device }) => device))];
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
