/**
 * Plans before a run, or without one: what a planner is asked about devices that are there and have been measured, and
 * about a cluster that is imagined; and a plan, made or given, with the timeline of a step as it is predicted.
 */

import type { Model } from "../nn/model.ts";
import type { OptimizerConfig } from "../nn/optim/optimizer.ts";
import { findSegments } from "../nn/segments.ts";
import type { Ref } from "../runtime/index.ts";
import type { Device } from "./device.ts";
import { measuredFor, profileCluster, shardKindsOf } from "./profile.ts";
import type { ProfileCache } from "./profile-cache.ts";
import type { Cluster } from "./scheduler/cluster.ts";
import { clusterProfile } from "./scheduler/cluster-profile.ts";
import type { DeviceInfo } from "./scheduler/cost.ts";
import { DEVICE_CLASSES } from "./scheduler/device-classes.ts";
import { memoryOf, stepMsOf } from "./scheduler/device-load.ts";
import { imaginedSegments } from "./scheduler/imagine.ts";
import type { Plan } from "./scheduler/plan.ts";
import { requirePlan } from "./scheduler/plan-check.ts";
import { type PlanCost, planCost } from "./scheduler/plan-cost.ts";
import { PlanError } from "./scheduler/plan-error.ts";
import { copiesThatFit } from "./scheduler/planner/copies.ts";
import { planJoules, withPredictions } from "./scheduler/planner/draft.ts";
import { makePlan, type PlanOptions, type PlanRequest } from "./scheduler/planner.ts";
import { type Simulation, simulate } from "./scheduler/simulate.ts";

export interface Planned {
  readonly request: PlanRequest;
  readonly plan: Plan;
  /** A step of it, as it is predicted. */
  readonly simulation: Simulation;
  /** Predicted, with what the simulator does not see. */
  readonly stepMs: number;
}

/** What is planned for: a model, and how it is to be trained. */
export interface PlanSubject {
  readonly model: Model;
  readonly optimizer: OptimizerConfig;
  readonly options: PlanOptions;
}

/**
 * Measures devices and their links. Ids are the devices' places, as text.
 * @param cache profiles of earlier runs; devices are measured every time when left out.
 * @throws what a device or its engine fails with.
 */
export async function measuredRequest(
  devices: readonly Ref<Device>[],
  { model, optimizer, options }: PlanSubject,
  now: () => number,
  cache?: ProfileCache,
): Promise<PlanRequest> {
  const descriptions = await Promise.all(devices.map((device) => device.ask.describe()));
  const { segments, profile } = await profileCluster(devices, descriptions, {
    ...{ model, optimizer, now, segments: findSegments(model), microBatches: options.microBatches },
    ...measuredFor(options),
    ...(cache && { cache }),
  });
  const infos = descriptions.map(({ name, memoryBytes, class: own }, i) => {
    return { id: `${i}`, name, memoryBytes, power: DEVICE_CLASSES[own].power };
  });
  return { segments, devices: infos, profile, options };
}

/** The same for a cluster that is not there: times from operations and bytes, ids as its file has them. */
export function imaginedRequest(cluster: Cluster, { model, optimizer, options }: PlanSubject): PlanRequest {
  const segments = imaginedSegments(model, findSegments(model), {
    ...{ optimizer, microBatches: options.microBatches },
    sharings: shardKindsOf(options.strategy),
  });
  return { segments, devices: cluster.devices, profile: clusterProfile(cluster, segments), options };
}

/**
 * The best plan, or the given one, and how a step of it goes.
 * @throws PlanError in one line: no plan fits, or the given one is not for this model or these devices.
 */
export function planned(request: PlanRequest, given: Plan | null = null): Planned {
  const { segments, devices, options } = request;
  if (given) {
    const ids = devices.map(({ id }) => id);
    requirePlan(given, { segments, microBatches: options.microBatches, devices: ids });
  }
  const plan = given ?? makePlan(request);
  const { copies: asked = 0, stashBytes = 0 } = options;
  const costWith = (copies: number | undefined) => {
    return planCost(plan, { ...request, stashBytes, ...(copies !== undefined && { copies }) });
  };
  if (given) requireMemory(plan, costWith(0), devices);
  const copies =
    given && asked > 0 ? copiesThatFit(given, costWith(asked), { ...request, copies: asked }) : null;
  const cost = costWith(given ? (copies?.said.count ?? 0) : undefined);
  const simulation = simulate(cost.programs, cost.run);
  const stepMs = stepMsOf(plan, simulation, cost);
  if (!given) return { request, plan, simulation, stepMs };
  // What the file says was predicted before it was edited, or of other devices.
  const joules = planJoules(request, given, cost, simulation, stepMs);
  const renewed = withPredictions(given, cost, simulation, joules);
  const used = new Set(given.stages.flatMap(({ members }) => members.map(({ device }) => device)));
  const said = given.devices.map(({ id, name }) => {
    const reason = used.has(id) ? "as the plan has it" : "left out by the plan";
    const copyBytes = copies ? copies.bytes.get(id) : undefined;
    return { ...{ id, name, used: used.has(id), reason }, ...(copyBytes ? { copyBytes } : {}) };
  });
  const { copies: _before, ...rest } = renewed;
  const renewedPlan = {
    ...rest,
    predictedStepMs: stepMs,
    devices: said,
    ...(copies && { copies: copies.said }),
  };
  return { request, plan: renewedPlan, simulation, stepMs };
}

/** @throws PlanError naming the device that a plan asks too much of. */
function requireMemory(plan: Plan, cost: PlanCost, devices: readonly DeviceInfo[]): void {
  const infos = new Map(devices.map((device) => [device.id, device]));
  for (const [id, bytes] of memoryOf(plan, cost)) {
    const { name, memoryBytes: limit = Number.POSITIVE_INFINITY } = infos.get(id)!;
    if (bytes <= limit) continue;
    const stages = plan.stages.filter(({ members }) => members.some(({ device }) => device === id));
    const which = stages.map(({ stage }) => stage).join(" and ");
    throw new PlanError(
      `${stages.length > 1 ? "stages" : "stage"} ${which} of the plan ${stages.length > 1 ? "need" : "needs"} ` +
        `${mebibytes(bytes)} on ${name}, which has ${mebibytes(limit)}: give it less, or recompute`,
    );
  }
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
