/**
 * What programs say of their pipeline: which stage holds which position, who its workers are, and whether they take some of
 * the micro-batches each or all of them together. Read from the operations alone, and proven to be of one piece.
 */

import { isBackward, isOfMicroBatch, ProgramError, type StageProgram } from "../program.ts";

export interface StagePlace {
  readonly stage: number;
  readonly positions: readonly number[];
  /** By rank. */
  readonly workers: readonly StageProgram[];
  /** Whether all workers take every micro-batch, and share the work inside. */
  readonly together: boolean;
}

export interface Places {
  readonly stages: readonly StagePlace[];
  /** By position. */
  readonly holders: readonly StagePlace[];
  readonly microBatches: number;
  /** The first position that computes gradients: those before it have nothing to train. 0 when there is none. */
  readonly bottom: number;
}

/** @throws ProgramError where workers, stages or positions are out of order, or a micro-batch is nobody's. */
export function placesOf(programs: readonly StageProgram[]): Places {
  if (programs.length === 0) throw new ProgramError("there are no programs, at least 1 worker is needed");
  const members: StageProgram[][] = [];
  programs.forEach((program, index) => {
    const { worker, stage, positions } = program;
    if (worker !== index)
      throw new ProgramError(`program ${index} belongs to worker ${worker}, expected worker ${index}`);
    if (stage !== members.length && stage !== members.length - 1) {
      throw new ProgramError(`worker ${worker} belongs to stage ${stage}, expected stage ${members.length}`);
    }
    const first = members[stage]?.[0];
    if (!first) members.push([program]);
    else {
      if (`${first.positions}` !== `${positions}`) {
        throw new ProgramError(
          `workers of stage ${stage} hold different positions: ${first.positions.join(", ")} and ${positions.join(", ")}`,
        );
      }
      members[stage]!.push(program);
    }
  });
  const microBatches = countMicroBatches(programs);
  const stages = members.map((workers, stage) => ({
    ...{ stage, workers, positions: workers[0]!.positions },
    together: takenTogether(workers, microBatches),
  }));
  return { stages, holders: holdersOf(stages), microBatches, bottom: bottomOf(programs) };
}

function holdersOf(stages: readonly StagePlace[]): readonly StagePlace[] {
  const holders: StagePlace[] = [];
  let count = 0;
  for (const stage of stages) {
    for (const position of stage.positions) {
      const other = holders[position];
      if (other) {
        throw new ProgramError(
          `stage ${stage.stage} holds position ${position}, so does stage ${other.stage}`,
        );
      }
      holders[position] = stage;
      count++;
    }
  }
  for (let position = 0; position < Math.max(1, count); position++) {
    if (!holders[position]) throw new ProgramError(`no stage holds position ${position} of ${count}`);
  }
  return holders;
}

function countMicroBatches(programs: readonly StageProgram[]): number {
  let count = 0;
  for (const { operations } of programs) {
    for (const operation of operations) {
      if ("microBatch" in operation) count = Math.max(count, operation.microBatch + 1);
    }
  }
  return count;
}

function bottomOf(programs: readonly StageProgram[]): number {
  let bottom = Number.POSITIVE_INFINITY;
  for (const { positions, operations } of programs) {
    for (const operation of operations) {
      if (operation.op === "step" || !isBackward(operation)) continue;
      bottom = Math.min(bottom, positions[operation.chunk ?? 0] ?? bottom);
    }
  }
  return Number.isFinite(bottom) ? bottom : 0;
}

/** Whether all workers take every micro-batch; else each is taken by one of them. */
function takenTogether(workers: readonly StageProgram[], microBatches: number): boolean {
  const counts = new Int32Array(microBatches);
  const latest = new Int32Array(microBatches).fill(-1);
  for (const { worker, operations } of workers) {
    for (const operation of operations) {
      if (!isOfMicroBatch(operation) || latest[operation.microBatch] === worker) continue;
      latest[operation.microBatch] = worker;
      counts[operation.microBatch]!++;
    }
  }
  if (workers.length > 1 && counts.every((count) => count === workers.length)) return microBatches > 0;
  const microBatch = counts.findIndex((count) => count !== 1);
  if (microBatch < 0) return false;
  const { worker, stage } = workers[0]!;
  if (workers.length === 1) {
    throw new ProgramError(`worker ${worker} of stage ${stage}: "forward ${microBatch}" is missing`);
  }
  const takers = workers.filter(({ operations }) =>
    operations.some((operation) => isOfMicroBatch(operation) && operation.microBatch === microBatch),
  );
  const who = takers.length === 0 ? "nobody" : `workers ${takers.map((taker) => taker.worker).join(", ")}`;
  throw new ProgramError(
    `micro-batch ${microBatch} is taken by ${who} in stage ${stage}: it takes one of its workers, or all for all`,
  );
}
