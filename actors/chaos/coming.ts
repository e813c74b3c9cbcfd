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
  return (plan && whyNotBy(plan, fault)) ?? `${device} did nothing of the kind`;
}

/** Why no step by this plan has what a fault comes over; undefined where steps have it. */
function whyNotBy(plan: Plan, fault: Fault): string | undefined {
  const { device, phase, microBatch } = fault;
  const own = programsOf(plan, fault);
  if (own.length === 0) return `${device} has no part in the plan`;
  const does = (programs: readonly StageProgram[]) => programs.some((program) => has(program, { phase }));
  if (!does(own)) {
    if (phase === "backward") return `${device} makes no backward pass: it has nothing to train`;
    if (phase === "reduce") return `${device} adds up gradients with nobody: ${whyNoReduce(plan)}`;
    if (!does(planPrograms(plan))) return `by the plan nobody has to ${phase}: it has one stage`;
    return `by the plan ${device} has not to ${phase}`;
  }
  if (own.some((program) => has(program, fault))) return undefined;
  return `by the plan micro-batch ${microBatch} is not for ${device}`;
}

const whyNoReduce = ({ stages }: Plan) =>
  stages.some(({ sharing, members }) => sharing === "data" && members.length > 1)
    ? "it shares no stage's micro-batches"
    : "the plan has no stage whose devices share micro-batches";

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
