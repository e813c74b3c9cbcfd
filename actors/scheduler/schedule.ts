/**
 * Pipeline schedules: pure generators of programs, one for each stage.
 *
 * All of them accumulate gradients in the same order, micro-batch 0, 1, 2, …, on every stage. Floating-point
 * addition is not associative, so that order, not the schedule or the number of stages, decides the bits of the
 * result; with it fixed, pipelining changes nothing.
 *
 * The last stage has the loss at hand and runs forward and backward of a micro-batch as one graph, which is 3–4 %
 * faster than stashing; it therefore never holds more than one micro-batch.
 */

import {
  type KernelKind,
  type MessageKind,
  type Operation,
  ProgramError,
  type StageProgram,
} from "./program.ts";

/**
 * Makes the programs of all stages; the index in the result is the stage. The first `forwardOnly` stages have nothing to
 * train and no gradient is sent to them. @throws ProgramError for counts under 1.
 */
export type ScheduleGenerator = (
  stages: number,
  microBatches: number,
  forwardOnly?: number,
) => readonly StageProgram[];

/**
 * GPipe (Huang et al., 2019): all forward passes, then all backward passes. Simple, and holds the stashes of every
 * micro-batch at once on all stages but the last.
 */
export const gpipe: ScheduleGenerator = (stages, microBatches, forwardOnly) =>
  pipeline(stages, microBatches, () => microBatches, forwardOnly);

/**
 * 1F1B (PipeDream-Flush; Narayanan et al., 2021): after a warm-up of `stages - stage - 1` forward passes, one
 * forward and one backward in turn. As fast as GPipe, and stage s holds at most `stages - s` stashes.
 */
export const oneFOneB: ScheduleGenerator = (stages, microBatches, forwardOnly) =>
  pipeline(stages, microBatches, (stage) => Math.min(stages - stage - 1, microBatches), forwardOnly);

export type ScheduleName = "gpipe" | "1f1b";

/** Every schedule there is, by the name it has on the command line. */
export const SCHEDULES: Readonly<Record<ScheduleName, ScheduleGenerator>> = { gpipe, "1f1b": oneFOneB };

/** One chunk per stage, `warmUp(stage)` forward passes ahead of the first backward. */
function pipeline(
  stages: number,
  microBatches: number,
  warmUp: (stage: number) => number,
  forwardOnly = 0,
): readonly StageProgram[] {
  requireCount("stages", stages);
  requireCount("micro-batches", microBatches);
  const range = (from: number, to: number) =>
    Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);

  return range(0, stages).map((stage) => {
    const first = stage === 0;
    const last = stage === stages - 1;
    // Where the gradients end.
    const bottom = stage === forwardOnly;
    const forward = (m: number) => [
      ...(first ? [] : [on("receive-activation", m)]),
      on("forward", m),
      on("send-activation", m),
    ];
    const backward = (m: number) => [
      on("receive-gradient", m),
      on("backward", m),
      ...(bottom ? [] : [on("send-gradient", m)]),
    ];
    const both = (m: number) => [
      ...(first ? [] : [on("receive-activation", m)]),
      on("forward-backward", m),
      ...(bottom ? [] : [on("send-gradient", m)]),
    ];

    const ahead = warmUp(stage);
    const inOneRun = stage < forwardOnly ? forward : last ? both : undefined;
    const operations: Operation[] = inOneRun
      ? range(0, microBatches).flatMap(inOneRun)
      : [
          ...range(0, ahead).flatMap(forward),
          ...range(ahead, microBatches).flatMap((m) => [...forward(m), ...backward(m - ahead)]),
          ...range(microBatches - ahead, microBatches).flatMap(backward),
        ];
    return { worker: stage, stage, positions: [stage], operations: [...operations, { op: "step" }] };
  });
}

function on(op: KernelKind | MessageKind, microBatch: number): Operation {
  return { op, microBatch };
}

function requireCount(what: string, count: number): void {
  if (!Number.isInteger(count) || count < 1) {
    throw new ProgramError(`a pipeline needs at least 1 of ${what}, ${count} given`);
  }
}
