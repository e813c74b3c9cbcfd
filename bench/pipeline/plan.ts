/**
 * The plan of the stand-in: every device holds as many chunks, dealt round in the order of the model, as the schedule
 * wants them.
 */

import { FREE_LINK } from "../../actors/scheduler/cost.ts";
import type { Plan, PlanStage } from "../../actors/scheduler/plan.ts";
import { planPrograms } from "../../actors/scheduler/plan.ts";
import type { RunCost } from "../../actors/scheduler/run-cost.ts";
import type { ScheduleName } from "../../actors/scheduler/schedule.ts";
import { simulate } from "../../actors/scheduler/simulate.ts";
import { digestFor } from "../digest.ts";
import { chainModel } from "./model.ts";
import type { KernelTimes } from "./times.ts";

export interface Pipeline {
  readonly stages: number;
  readonly microBatches: number;
  readonly schedule: ScheduleName;
  /** Chunks of every device. */
  readonly chunks: number;
}

/** Stage s holds segments s, s + stages, s + 2·stages, … */
export function dealtPlan({ stages, microBatches, schedule, chunks }: Pipeline): Plan {
  const names = Array.from({ length: stages }, (_, i) => `device-${i + 1}`);
  const all = Array.from({ length: microBatches }, (_, i) => i);
  return {
    ...{ digest: digestFor(chainModel(stages * chunks), microBatches), strategy: "pipeline", schedule },
    ...{ microBatches, forwardOnly: 0, localSteps: 1 },
    stages: names.map((deviceName, stage): PlanStage => {
      const ranges = Array.from({ length: chunks }, (_, chunk) => {
        const from = chunk * stages + stage;
        return { from, to: from + 1 };
      });
      const costs = { forwardMs: 0, backwardMs: 0, parameterBytes: 0, memoryBytes: 0 };
      const member = { device: `${stage}`, deviceName, share: 1, microBatches: all, ...costs };
      return { stage, ranges, sharing: null, members: [member], recompute: false };
    }),
    codecs: { activations: null, gradients: null },
    devices: names.map((name, i) => ({ id: `${i}`, name, used: true, reason: "" })),
    ...{ predictedStepMs: 0, bubbleFraction: 0, predictedJoules: null },
  };
}

/** What the schedule itself takes, with kernels of exactly these times, and messages of none. */
export function boundOf(plan: Plan, times: KernelTimes) {
  const { forwardMs, backwardInputMs, backwardWeightMs } = times;
  const programs = planPrograms(plan);
  const cost: RunCost = {
    chunks: programs.map(({ positions }) =>
      positions.map((position) => ({
        forwardMs,
        backwardMs: backwardInputMs + backwardWeightMs,
        // See `runMs`.
        backwardInputMs: position === 0 ? 0 : backwardInputMs,
        backwardWeightMs: backwardWeightMs + (position === 0 ? backwardInputMs : 0),
        ...{ stepMs: 0, outputBytes: 0, gradientBytes: 0 },
      })),
    ),
    link: () => FREE_LINK,
  };
  const { makespanMs, bubbleFraction } = simulate(programs, cost);
  return { makespanMs, bubbleFraction };
}
