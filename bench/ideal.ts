/**
 * How long a step would have taken if messages took no time and every kernel started as soon as its schedule allows:
 * the programs that ran, with the kernel times that were measured while they ran.
 *
 * Processes on one machine disturb each other: with more threads ready than there are cores the system makes them
 * take turns, so the time of one kernel includes others'. That can be looked at in two ways, and both are told:
 *
 * - Every kernel as long as it was: the critical path of each step, taking turns included. Whatever else the
 *   machine does, what is missing to the step's time was lost around the kernels: by messages, by the runtime, by
 *   threads that were ready and had to wait for a core.
 * - Kernel times as far as their thread was on a core, their means simulated by the scheduler's own model, which
 *   shares out the cores there are. That is what a machine with nothing else to do would allow, so what others took
 *   of this one counts as lost too.
 */

import { FREE_LINK } from "../actors/scheduler/cost.ts";
import type { StageProgram } from "../actors/scheduler/program.ts";
import type { RunCost } from "../actors/scheduler/run-cost.ts";
import type { OperationSpan, StepReport } from "../actors/stage.ts";
import { replay } from "./replay.ts";
import { median } from "./statistics.ts";

/** What stages reported of a step. */
type Reports = readonly Pick<StepReport, "spans">[];

export interface IdealStep {
  /** Milliseconds; means over the steps that were measured. */
  readonly measured: number;
  readonly ideal: number;
  /** Median over the steps of the share that is lost against each one's ideal. */
  readonly loss: number;
}

/** Each step against its own kernel times as they were. */
export function idealOfEach(
  programs: readonly StageProgram[],
  steps: readonly { readonly ms: number; readonly reports: Reports }[],
): IdealStep {
  const ideals = steps.map(({ reports }) => replay(programs, reports));
  return {
    measured: mean(steps.map(({ ms }) => ms)),
    ideal: mean(ideals),
    loss: median(steps.map(({ ms }, i) => 1 - ideals[i]! / ms)),
  };
}

/**
 * Costs of the positions of a pipeline with one stage at each, from the reports of some steps.
 * @param onCore by stage, from `shareOnCore`; 1 when left out.
 */
export function measuredCost(steps: readonly Reports[], onCore: readonly number[] = []): RunCost {
  const stages = steps[0]?.length ?? 0;
  const chunks = Array.from({ length: stages }, (_, stage) => {
    const spans = steps.flatMap((reports) => reports[stage]!.spans);
    const total = (op: OperationSpan["op"]) => {
      const own = spans.filter((span) => span.op === op);
      return { count: own.length, ms: own.reduce((sum, { kernelMs }) => sum + kernelMs, 0) };
    };
    const each = (op: OperationSpan["op"]) => {
      const { count, ms } = total(op);
      return count === 0 ? 0 : ms / count;
    };
    const scale = onCore[stage] ?? 1;
    const cost = {
      forwardMs: each("forward") * scale,
      backwardMs: (each("backward") + each("forward-backward")) * scale,
      // It runs twice in a step, for the sums of squares and for the update.
      stepMs: (total("update").ms / steps.length) * scale,
      outputBytes: 0,
      gradientBytes: 0,
    };
    return [cost];
  });
  return { chunks, link: () => FREE_LINK };
}

/**
 * The share of its kernels' time in which a stage was on a core.
 * @param runMs what the thread of the kernels was on a core in these steps.
 */
export function shareOnCore(spans: readonly OperationSpan[], runMs: number): number {
  const kernelMs = spans.reduce((sum, span) => sum + span.kernelMs, 0);
  return kernelMs === 0 ? 1 : Math.min(1, runMs / kernelMs);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
