/**
 * How long a step would have taken if messages took no time and every kernel started as soon as its schedule allows
 * and a core is free: the programs that ran, simulated with the kernel times that were measured while they ran.
 *
 * Processes on one machine disturb each other in two ways. They share caches, memory and sometimes arithmetic
 * units: that is in the measured times and belongs there. And with more of them ready than there are cores the
 * system makes them take turns, so the time of one kernel includes others'. The simulation shares out cores itself,
 * so that part is taken out before, as far as the system tells how long the thread of the kernels was on a core.
 */

import type { PipelineCost } from "../actors/scheduler/simulate.ts";
import type { OperationSpan, StepReport } from "../actors/stage.ts";
import { median } from "./statistics.ts";

/**
 * Costs of the positions of a pipeline with one stage at each, from the reports of some steps.
 * @param steps by step, then by stage.
 * @param onCore by stage, from `shareOnCore`; 1 when left out.
 */
export function measuredCost(
  steps: readonly (readonly Pick<StepReport, "spans">[])[],
  cores: number,
  onCore: readonly number[] = [],
): PipelineCost {
  const stages = steps[0]?.length ?? 0;
  const positions = Array.from({ length: stages }, (_, stage) => {
    const scale = onCore[stage] ?? 1;
    const spans = steps.flatMap((reports) => reports[stage]!.spans);
    const typical = (op: string) => {
      const times = spans.filter((span) => span.op === op).map(({ kernelMs }) => kernelMs);
      return times.length === 0 ? 0 : median(times) * scale;
    };
    const updates = steps.map((reports) =>
      reports[stage]!.spans.filter(({ op }) => op === "update").reduce((sum, span) => sum + span.kernelMs, 0),
    );
    return {
      forwardMs: typical("forward"),
      backwardMs: typical("backward") + typical("forward-backward"),
      stepMs: median(updates) * scale,
      activationBytes: 0,
    };
  });
  return { positions, cores };
}

/**
 * The share of its kernels' time in which a stage was on a core.
 * @param runMs what the thread of the kernels was on a core in these steps.
 */
export function shareOnCore(spans: readonly OperationSpan[], runMs: number): number {
  const kernelMs = spans.reduce((sum, span) => sum + span.kernelMs, 0);
  return kernelMs === 0 ? 1 : Math.min(1, runMs / kernelMs);
}
