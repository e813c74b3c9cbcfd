/** Plans written by hand: who holds what and shares what, and no costs. For tests. */

import { segmentSizes } from "../../actors/scheduler/parts.ts";
import type { Plan, PlanCodecs, PlanMember, PlanStage, Sharing } from "../../actors/scheduler/plan.ts";
import { modelDigest } from "../../actors/scheduler/planner/digest.ts";
import type { ScheduleName } from "../../actors/scheduler/schedule.ts";
import type { Trainable } from "../../nn/model.ts";
import { DEFAULT_ADAMW } from "../../nn/optim/adamw.ts";
import { findSegments } from "../../nn/segments.ts";

export interface HandStage {
  /** Where each of its ranges ends; a range begins where the one before it in the model ended. */
  readonly to: readonly number[];
  readonly sharing?: Sharing;
  /** Micro-batches of each member, where they are dealt; the number of members otherwise; one when left out. */
  readonly members?: readonly (readonly number[])[] | number;
  /** By member; equal when left out. */
  readonly shares?: readonly number[];
  readonly recompute?: boolean;
}

export interface HandPlan {
  readonly stages: readonly HandStage[];
  readonly microBatches: number;
  readonly schedule?: ScheduleName;
  readonly localSteps?: number;
  readonly codecs?: PlanCodecs;
}

/** Devices are 0, 1, 2, … by worker. */
export function planOf(model: Trainable, given: HandPlan): Plan {
  const { microBatches, schedule = "1f1b", localSteps = 1 } = given;
  const segments = findSegments(model);
  const ends = given.stages.flatMap(({ to }) => to).sort((a, b) => a - b);
  const all = Array.from({ length: microBatches }, (_, m) => m);
  let devices = 0;
  const stages = given.stages.map((hand, stage): PlanStage => {
    const { sharing = null, members = 1, shares, recompute = false } = hand;
    const dealt = typeof members === "number" ? new Array<readonly number[]>(members).fill(all) : members;
    return {
      ...{ stage, sharing, recompute },
      ranges: hand.to.map((to) => ({ from: ends[ends.indexOf(to) - 1] ?? 0, to })),
      members: dealt.map((own, rank): PlanMember => {
        const device = `${devices++}`;
        return {
          ...{ device, deviceName: `device-${device}`, share: shares?.[rank] ?? 1, microBatches: own },
          ...{ forwardMs: 0, backwardMs: 0, parameterBytes: 0, memoryBytes: 0 },
        };
      }),
    };
  });
  const untrained = ends.findIndex((to) => segments[to]?.inputTrained ?? true);
  return {
    digest: modelDigest(
      segments.map((segment) => ({
        ...{ name: `segment ${segment.index}`, stashBytes: 0 },
        ...segmentSizes(model, segment, { ...DEFAULT_ADAMW, warmup: 0, steps: 1 }),
      })),
      microBatches,
    ),
    ...{ strategy: "hybrid", schedule, microBatches, stages },
    forwardOnly: Math.max(untrained, 0),
    localSteps,
    codecs: given.codecs ?? { activations: null, gradients: null },
    devices: stages.flatMap(({ members }) =>
      members.map(({ device, deviceName }) => ({ id: device, name: deviceName, used: true, reason: "" })),
    ),
    ...{ predictedStepMs: 0, bubbleFraction: 0, predictedJoules: null },
  };
}
