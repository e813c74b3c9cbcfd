/**
 * What is left of a step in whose middle micro-batches have been dealt in another way. A stage comes to rest behind the
 * operation that it is carrying out, and goes on with what its new program has besides what it has done. What it has sent,
 * what has come, and what has been accumulated of its micro-batches stays; what members have added up does not, for they
 * are not the same any more.
 *
 * Micro-batches that somebody begins again come last, everywhere: nobody waits for them before that. All stages take what
 * is left in one order, that of their new programs but for this, so nothing can wait for itself.
 */

import { isOfMicroBatch, type MicroBatchOperation, type StageProgram } from "../scheduler/program.ts";
import type { StepRun } from "../step-run.ts";
import type { Chunk } from "./chunk.ts";
import { assignSlots, type Slots } from "./slots.ts";
import type { StageSpec } from "./spec.ts";
import type { StepUnderWay } from "./step.ts";

export interface Rest {
  readonly step: number;
  /** What has been carried out. */
  readonly done: readonly MicroBatchOperation[];
  /** What is left of the program, and which slots that uses. */
  readonly program: StageProgram;
  readonly slots: Slots;
  /** Null where the step has not been begun. */
  readonly run: StepRun | null;
}

/** A stage that is told of another dealing. */
export interface Standing {
  readonly step: number;
  /** As it was told before, and as it is told now. */
  readonly before: StageSpec;
  readonly spec: StageSpec;
  readonly chunks: readonly Chunk[];
  /** What it does of the step, or is to do; of one that it has not begun, neither. */
  readonly under: StepUnderWay | undefined;
  readonly rest: Rest | undefined;
  /** Micro-batches that somebody begins again. */
  readonly again: readonly number[];
}

/**
 * Comes to rest, and says how the step goes on.
 * @returns null where it cannot: something has failed, something was done that is another's now, or there is no memory.
 */
export async function restOfStep(standing: Standing): Promise<Rest | null> {
  const { step, before, spec, chunks, under, rest, again } = standing;
  if (!before.keepsSummands) return null;
  const done = under ? await under.breakOff() : (rest?.done ?? []);
  if (!done) return null;
  const program = programOfRest(spec.program, done, again);
  if (!program) return null;
  const left = new Set(program.operations.filter(isOfMicroBatch).map(({ microBatch }) => microBatch));
  const begun = done.map(({ microBatch }) => microBatch).filter((microBatch) => left.has(microBatch));
  const [chunk] = chunks;
  const slots = assignSlots(program, new Map(begun.map((each) => [each, chunk!.slotOf(each)])));
  try {
    chunk!.use(slots);
  } catch {
    return null;
  }
  return { step, done, program, slots, run: under?.run ?? rest?.run ?? null };
}

/** @returns null where something was done that the program does not have. */
export function programOfRest(
  program: StageProgram,
  done: readonly MicroBatchOperation[],
  again: readonly number[],
): StageProgram | null {
  const through = new Set(done.map(keyOf));
  const late = new Set(again);
  const own = program.operations.filter(isOfMicroBatch);
  const left = own.filter((operation) => !through.has(keyOf(operation)));
  if (own.length - left.length !== through.size) return null;
  const operations = [
    ...left.filter(({ microBatch }) => !late.has(microBatch)),
    ...left.filter(({ microBatch }) => late.has(microBatch)),
    ...program.operations.filter((operation) => !isOfMicroBatch(operation)),
  ];
  return { ...program, operations };
}

function keyOf({ op, microBatch, chunk = 0 }: MicroBatchOperation): string {
  return `${op}/${chunk}/${microBatch}`;
}
