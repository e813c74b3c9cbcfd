/**
 * A program as it is sent: kinds of operations, micro-batches and chunks, each as a row of numbers. With every loss all workers
 * of a plan are told theirs, a thousand at once; as a list of objects a program takes nine times as many bytes.
 */

import type { Operation, StageProgram } from "../scheduler/program.ts";

/** What is sent goes by these numbers: a new kind comes last. */
const NUMBERS: Readonly<Record<Operation["op"], number>> = {
  ...{ "receive-activation": 0, forward: 1, "send-activation": 2, "forward-backward": 3 },
  ...{ "receive-gradient": 4, backward: 5, "backward-input": 6, "backward-weight": 7, "send-gradient": 8 },
  ...{ reduce: 9, update: 10, step: 11 },
};
const KINDS = Object.keys(NUMBERS) as Operation["op"][];
const NONE = -1;

/** How many kinds there are: numbers of kinds are below. */
export const KIND_COUNT = KINDS.length;

export interface PackedProgram extends Omit<StageProgram, "operations"> {
  readonly kinds: readonly number[];
  /** -1 where an operation is of none. */
  readonly microBatches: readonly number[];
  /** Likewise; left out where none is of one. */
  readonly chunks?: readonly number[];
}

/** Any of them, whatever it has. */
interface AnyOperation {
  readonly op: Operation["op"];
  readonly microBatch?: number;
  readonly chunk?: number;
}

/** The number of a kind of operation. */
export function kindOf(op: Operation["op"]): number {
  return NUMBERS[op];
}

export function packed({ operations, ...rest }: StageProgram): PackedProgram {
  const kinds: number[] = [];
  const microBatches: number[] = [];
  const chunks: number[] = [];
  let isOfChunks = false;
  for (const operation of operations as readonly AnyOperation[]) {
    kinds.push(kindOf(operation.op));
    microBatches.push(operation.microBatch ?? NONE);
    const chunk = operation.chunk ?? NONE;
    isOfChunks ||= chunk !== NONE;
    chunks.push(chunk);
  }
  return { ...rest, kinds, microBatches, ...(isOfChunks && { chunks }) };
}

export function unpacked({ kinds, microBatches, chunks, ...rest }: PackedProgram): StageProgram {
  const operations = kinds.map((kind, i) => {
    const [microBatch, chunk] = [microBatches[i]!, chunks?.[i] ?? NONE];
    return {
      op: KINDS[kind]!,
      ...(microBatch !== NONE && { microBatch }),
      ...(chunk !== NONE && { chunk }),
    } as Operation;
  });
  return { ...rest, operations };
}
