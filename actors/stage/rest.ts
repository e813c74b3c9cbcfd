/**
 * What is left of a step in whose middle micro-batches have been dealt in another way. A stage comes to rest behind the
 * operation that it is carrying out, and goes on with what its new program has besides what it has done. What it has sent,
 * what has come, and what has been accumulated of its micro-batches stays; what members have added up does not, for they
 * are not the same any more.
 *
 * What is left is in the order of the new programs. Those come to their end by themselves, and what has been done waits for
 * nothing: so nothing that is left can wait for itself. Whoever begins a lost one's micro-batches again does so at once where
 * they are among those that others are through with, and nobody waits long for the rest of them. Behind or in front of all else
 * for everybody, steps take longer in simulations (`bench churn`): at the end they are waited for, or the others are.
 */

import { isOfMicroBatch, type MicroBatchOperation, type StageProgram } from "../scheduler/program.ts";
import type { StepRun } from "../step-run.ts";
import type { Chunk } from "./chunk.ts";
import { KIND_COUNT, kindOf } from "./packed.ts";
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
}

/**
 * Comes to rest, and says how the step goes on.
 * @returns null where it cannot: something has failed, something was done that is another's now, or there is no memory.
 */
export async function restOfStep(standing: Standing): Promise<Rest | null> {
  const { step, before, spec, chunks, under, rest } = standing;
  if (!before.keepsSummands) return null;
  const done = under ? await under.breakOff() : (rest?.done ?? []);
  if (!done) return null;
  const program = programOfRest(spec.program, done);
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
): StageProgram | null {
  const through = new Set(done.map(keyOf));
  const operations = program.operations.filter((operation) => {
    return !isOfMicroBatch(operation) || !through.has(keyOf(operation));
  });
  return program.operations.length - operations.length === through.size ? { ...program, operations } : null;
}

const MOST_CHUNKS = 2 ** 16;

/** As a number: a simulated run asks for millions of these. */
function keyOf({ op, microBatch, chunk = 0 }: MicroBatchOperation): number {
  return (microBatch * MOST_CHUNKS + chunk) * KIND_COUNT + kindOf(op);
}
