/** Whether a plan has its devices do what a fault comes over, in every step; and why a fault has never come. Pure. */

import { type Plan, planPrograms, workersOf } from "../scheduler/plan.ts";
import { isOfMicroBatch, type StageProgram } from "../scheduler/program.ts";
import type { Fault } from "./fault.ts";
import { PHASES_OF } from "./injector.ts";
import { POINTS } from "./series.ts";

/** Whether every device that computes does this in every step, but for backward passes where there is nothing to train. */
export const isCertain = (phase: Fault["phase"]) => POINTS.includes(phase);

/** Whether the device of a fault surely does in a step by this plan what it comes over. */
export function comesBy(plan: Plan, fault: Fault): boolean {
  return isCertain(fault.phase) && programsOf(plan, fault).some((program) => has(program, fault));
}

/** Why a fault has not come over a device that is there, for people. @param plan the last one; undefined where there was none. */
export function whyNever(plan: Plan | undefined, fault: Fault): string {
  const { device, phase, step } = fault;
  const since = `from step ${step + 1} on`;
  if (phase === "recovery") {
    return (
      `${device} has fetched nothing ${since}: in a recovery that is done by who takes the place of another, ` +
      "and whoever stays where it is goes on with what it holds"
    );
  }
  if (phase === "copy")
    return `${device} has given nobody copies ${since}: it held nothing that others had not, or nobody was there for it`;
  const own = plan ? programsOf(plan, fault) : [];
  if (phase === "backward" && own.length > 0 && !own.some((program) => has(program, { phase })))
    return `${device} makes no backward pass: it has nothing to train`;
  return `${device} did nothing of the kind`;
}

function programsOf(plan: Plan, { device }: Fault): readonly StageProgram[] {
  const own = workersOf(plan).filter(({ member }) => member.deviceName === device);
  if (own.length === 0) return [];
  const programs = planPrograms(plan);
  return own.map(({ worker }) => programs[worker]!);
}

function has(
  { operations }: StageProgram,
  { phase, microBatch }: Pick<Fault, "phase" | "microBatch">,
): boolean {
  // All go through the commit gate.
  if (phase === "commit") return true;
  return operations.some(
    (operation) =>
      (phase === undefined || PHASES_OF[operation.op].includes(phase)) &&
      (microBatch === undefined || (isOfMicroBatch(operation) && operation.microBatch === microBatch)),
  );
}
