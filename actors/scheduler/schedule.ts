/**
 * Pipeline schedules: pure generators of programs, one for each worker of a pipeline of any shape.
 *
 * All of them accumulate gradients in the same order, micro-batch 0, 1, 2, …, on every chunk. Floating-point addition is
 * not associative, so that order, not the schedule or the number of stages, decides the bits of the result; with it fixed,
 * pipelining changes nothing.
 *
 * Whoever has the end of the model has the loss at hand and runs forward and backward of a micro-batch there as one graph,
 * which is 3–4 % faster than stashing; it therefore never holds more than one micro-batch. Where B and W are apart it
 * cannot.
 *
 * A schedule is three numbers for each lane of the pipeline (`Policy`): how far it runs ahead, how far W is behind B, and
 * after how many micro-batches its next chunk has a turn. Depths are counted in lanes of the stages in front and behind, so
 * that stages whose members take turns keep as many micro-batches in flight as there are workers to feed: PipeDream's 1F1B
 * with replicated stages. A pipeline of one stage needs no schedule, and all of these give it the same program: one
 * micro-batch after the other.
 */

import { ProgramError, type StageProgram } from "./program.ts";
import { type Lane, layoutOf } from "./schedules/layout.ts";
import { programsOf } from "./schedules/operations.ts";
import { orderOf, type Policy } from "./schedules/order.ts";
import type { PipelineShape } from "./schedules/shape.ts";

export { chainShape, type PipelineShape, type StageShape } from "./schedules/shape.ts";

/**
 * Makes the programs of all workers; the index in the result is the worker.
 * @throws ProgramError for a shape with gaps, or one that the schedule is not made for.
 */
export type ScheduleGenerator = (shape: PipelineShape) => readonly StageProgram[];

/**
 * GPipe (Huang et al., "GPipe: Efficient Training of Giant Neural Networks", 2019): all forward passes, then all backward
 * passes. Simple, and holds the stashes of every micro-batch at once on all stages but the last.
 */
export const gpipe: ScheduleGenerator = (shape) =>
  scheduled(shape, {
    group: shape.microBatches,
    limit: () => Number.POSITIVE_INFINITY,
    flush: true,
    lag: () => null,
  });

/**
 * 1F1B (PipeDream-Flush; Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters", 2021): one
 * forward and one backward pass in turn, each stage so far ahead as there are stages behind. As fast as GPipe, and stage s
 * of a chain holds at most `stages - s` stashes.
 */
export const oneFOneB: ScheduleGenerator = (shape) => {
  requireOneRun("1f1b", shape);
  return scheduled(shape, inTurn(shape));
};

/**
 * Eager 1F1B (Zhuang et al., "On Optimizing the Communication of Model Parallelism", MLSys 2023; Asteroid, Ye et al., 2024,
 * runs as far ahead): 1F1B with twice the warm-up. Activations and gradients then have a pass's time to travel in, and a
 * link that is slow to answer stops nobody; with messages that take no time it is 1F1B. Stage s of a chain holds up to
 * `2 * (stages - s) - 1` stashes.
 */
export const eagerOneFOneB: ScheduleGenerator = (shape) => {
  requireOneRun("eager-1f1b", shape);
  return scheduled(shape, { ...inTurn(shape), limit: (lane) => 1 + Math.ceil(own(lane, 2 * lane.behind)) });
};

/**
 * Interleaved 1F1B (Narayanan et al., 2021): stages of v chunks each, dealt round and round. The bubble is v times smaller
 * than that of 1F1B, and messages are v times as many. With one chunk to a stage it is 1F1B.
 */
export const interleaved: ScheduleGenerator = (shape) => {
  const count = layoutOf(shape).lanes.length;
  return scheduled(shape, {
    ...inTurn(shape),
    group: count,
    limit: (lane) =>
      1 +
      Math.ceil(
        own(lane, lane.runs.length === 1 ? lane.behind : 2 * lane.behind + (lane.runs.length - 1) * count),
      ),
  });
};

/**
 * ZB-H1 (Qi et al., "Zero Bubble Pipeline Parallelism", 2023): the gradient of a stage's input (B) is on its way before
 * those of its parameters (W) are computed, and W fills what would be a bubble. With F = B = W a third of the bubble of 1F1B
 * is left. W is the further behind the later the stage is, so that all of them hold as much as 1F1B's first; who takes too few
 * micro-batches of a stage to be behind has W right after B, so that all members compile the same, whatever they are dealt. The
 * optimiser stays behind the commit gate; there is no validation after the fact.
 */
export const zeroBubble: ScheduleGenerator = (shape) => {
  requireOneRun("zero-bubble", shape);
  const lag = (lane: Lane) => (lane.before > 0 ? Math.floor(own(lane, lane.before)) : null);
  return scheduled(shape, { ...inTurn(shape), lag });
};

/**
 * PipeDream (Narayanan et al., "PipeDream: Generalized Pipeline Parallelism for DNN Training", 2019): the order of 1F1B,
 * and an update after each backward pass, which uses the weights that its forward pass had. Not the same result as one
 * device's: micro-batches are steps, and later stages see newer weights than earlier ones.
 */
export const pipedream: ScheduleGenerator = (shape) => {
  requireOneRun("pipedream", shape);
  const shared = shape.stages.findIndex(({ members }) => members.length > 1);
  if (shared >= 0) {
    throw new ProgramError(
      `pipedream updates after each micro-batch, the members of stage ${shared} share theirs and update once a step: use 1f1b`,
    );
  }
  return scheduled(shape, inTurn(shape), true);
};

/** Every schedule there is, by the name it has on the command line. */
export const SCHEDULES = {
  gpipe,
  "1f1b": oneFOneB,
  "eager-1f1b": eagerOneFOneB,
  interleaved,
  "zero-bubble": zeroBubble,
  pipedream,
} as const satisfies Readonly<Record<string, ScheduleGenerator>>;

export type ScheduleName = keyof typeof SCHEDULES;

/** Whether weights change within a step, so that the result is not one device's. */
export function isAsynchronous(schedule: ScheduleName): boolean {
  return schedule === "pipedream";
}

function inTurn({ microBatches }: PipelineShape): Policy {
  return {
    group: microBatches,
    limit: (lane) => 1 + Math.ceil(own(lane, lane.behind)),
    flush: false,
    lag: () => null,
  };
}

/** How many of so many micro-batches are the lane's. */
function own({ microBatches, all }: Lane, count: number): number {
  return (count * microBatches.length) / all;
}

function scheduled(shape: PipelineShape, policy: Policy, update = false): readonly StageProgram[] {
  const layout = layoutOf(shape);
  return programsOf(shape, layout, orderOf(layout, policy), update);
}

function requireOneRun(name: string, shape: PipelineShape): void {
  for (const [stage, { positions }] of shape.stages.entries()) {
    const gap = positions.findIndex((position, chunk) => chunk > 0 && position !== positions[chunk - 1]! + 1);
    if (gap >= 0) {
      throw new ProgramError(
        `${name} wants the chunks of a stage side by side, stage ${stage} holds positions ` +
          `${positions.join(", ")}: use interleaved or gpipe`,
      );
    }
  }
}
