/**
 * What the workers of a plan come to on their devices. One device may have several, where it has taken over those of others: the
 * simulator takes them for as many devices, and memory is counted worker by worker.
 */

import { type Plan, planPrograms, workersOf } from "./plan.ts";
import type { PlanCost } from "./plan-cost.ts";
import { peakInFlight } from "./program.ts";
import type { Prediction } from "./simulate.ts";

/**
 * Milliseconds of a step, with what the simulator does not see. Kernels of one device run one after the other: what the busiest
 * worker is idle besides remains.
 */
export function stepMsOf(
  plan: Plan,
  { makespanMs, idleMs }: Pick<Prediction, "makespanMs" | "idleMs">,
  { controlMs }: Pick<PlanCost, "controlMs">,
): number {
  const busy = new Map<string, number>();
  for (const { worker, member } of workersOf(plan)) {
    busy.set(member.device, (busy.get(member.device) ?? 0) + makespanMs - idleMs[worker]!);
  }
  return Math.max(...busy.values()) + Math.min(...idleMs) + controlMs;
}

/** Bytes that each device needs for what it does in a plan, by its id. */
export function memoryOf(plan: Plan, { workers }: Pick<PlanCost, "workers">): ReadonlyMap<string, number> {
  const needs = new Map<string, number>();
  for (const { worker, member } of workersOf(plan)) {
    needs.set(member.device, (needs.get(member.device) ?? 0) + workers[worker]!.memoryBytes);
  }
  return needs;
}

/**
 * As `memoryOf`, where a step that was begun by another plan is gone on with by this one: what was in flight stays in its
 * place until it is done with, and no member has more in flight than micro-batches.
 * @param before it has the same workers, and others that are lost.
 */
export function memoryMidway(
  before: Plan,
  plan: Plan,
  cost: Pick<PlanCost, "workers" | "programs">,
): ReadonlyMap<string, number> {
  const needs = new Map(memoryOf(plan, cost));
  const here = new Set(plan.stages.flatMap(({ members }) => members.map(({ device }) => device)));
  const left = workersOf(before).filter(({ member }) => here.has(member.device));
  const programs = planPrograms(before);
  for (const { worker, member } of workersOf(plan)) {
    const begun = programs[left[worker]!.worker]!;
    const program = cost.programs[worker]!;
    const most = member.microBatches.length - peakInFlight(program);
    const more = Math.min(most, peakInFlight(begun));
    needs.set(member.device, needs.get(member.device)! + more * cost.workers[worker]!.keptBytes);
  }
  return needs;
}
