/** Plans in a simulation of churn: which one a run goes on with, and what the undisturbed one would go by. */

import { decide, moveMs, transfers } from "../../actors/recovery/decision.ts";
import type { Plan } from "../../actors/scheduler/plan.ts";
import { PlanError } from "../../actors/scheduler/plan-error.ts";
import { adaptPlan, makePlan } from "../../actors/scheduler/planner.ts";
import { among, type ChurnWorld } from "./world.ts";

/** Undefined where there is no plan. */
export function planned(make: () => Plan): Plan | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof PlanError) return undefined;
    throw error;
  }
}

/** Nobody knows how long a run on such devices goes on: as long as an hour of steps. */
const STEPS_LEFT = 100;

export function outlook(present: Plan, next: Plan) {
  return { oldStepMs: present.predictedStepMs, newStepMs: next.predictedStepMs, stepsLeft: STEPS_LEFT };
}

export interface Moving {
  readonly present: Plan;
  readonly next: Plan;
  /** Until stages are there. */
  readonly startMs: number;
  /** Whether the run stands still for what a device is given; for all, when left out. */
  readonly isWaitedFor?: ((to: string) => boolean) | undefined;
}

/** What has to move to go over to another plan, and for how long the run stands still for that. */
export function moving({ request }: ChurnWorld, { present, next, startMs, isWaitedFor }: Moving) {
  const all = transfers(present, next, request.segments);
  const moves = isWaitedFor ? all.filter(({ to }) => isWaitedFor(to)) : all;
  return { moves, costMs: moves.length > 0 ? moveMs(moves, request.profile, startMs) : 0 };
}

/** Among so many devices a run looks for the best plan whenever they change, and adapts the present one else (`recovery/replanner.ts`). */
const MOST_SEARCHED = 64;

export function isSearched(devices: { readonly size: number }): boolean {
  return devices.size <= MOST_SEARCHED;
}

/** Whether plans have the same stages is whether this is the same. */
export function cutsOf({ stages }: Plan): string {
  return JSON.stringify(stages.map(({ ranges }) => ranges));
}

/** By those that are there. Runs by other rules on the same devices look for the same. */
const known = new WeakMap<ChurnWorld["request"], Map<string, Plan | undefined>>();

/** The best plan for them; undefined where there is none. */
export function searched(world: ChurnWorld, isThere: (id: string) => boolean): Plan | undefined {
  const request = among(world, isThere);
  const key = request.devices.map(({ id }) => id).join();
  const own = known.get(world.request) ?? new Map<string, Plan | undefined>();
  known.set(world.request, own);
  if (!own.has(key)) {
    own.set(
      key,
      planned(() => makePlan(request)),
    );
  }
  return own.get(key);
}

/**
 * The present plan for those that are ready, or another one: where few are there, it is looked for the best, and gone over to
 * where that pays; else where the present one cannot be. Undefined where they cannot hold the model.
 */
export function nextPlan(
  world: ChurnWorld,
  present: Plan,
  isReady: (id: string) => boolean,
  startMs: number,
): Plan | undefined {
  const request = among(world, isReady);
  const adapted = planned(() => adaptPlan(request, present));
  if (adapted && !isSearched({ size: request.devices.length })) return adapted;
  const found = searched(world, isReady);
  if (!adapted || !found) return adapted ?? found;
  const { costMs } = moving(world, { present, next: found, startMs });
  return decide({ ...outlook(adapted, found), moveMs: costMs }).moves ? found : adapted;
}

/** The best that is known to be planned for all devices that are there. */
export function undisturbed(
  world: ChurnWorld,
  there: ReadonlySet<string>,
  plans: readonly Plan[],
): Plan | undefined {
  const request = among(world, (id) => there.has(id));
  const found = plans.flatMap((plan) => planned(() => adaptPlan(request, plan)) ?? []);
  return found.length === 0
    ? undefined
    : found.reduce((a, b) => (b.predictedStepMs < a.predictedStepMs ? b : a));
}
