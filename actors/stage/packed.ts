/**
 * A program as it is sent: kinds of operations, micro-batches and chunks, each as a row of numbers. With every loss all workers
 * of a plan are told theirs, a thousand at once; as a list of objects a program takes nine times as many bytes.
 */

import type { Operation, StageProgram } from "../scheduler/program.ts";

/** By number. What is sent goes by it: a new kind comes last. */
const KINDS: readonly Operation["op"][] = [
  ...(["receive-activation", "forward", "send-activation", "forward-backward", "receive-gradient"] as const),
  ...([
    "backward",
    "backward-input",
    "backward-weight",
    "send-gradient",
    "reduce",
    "update",
    "step",
  ] as const),
];
const NUMBERS: ReadonlyMap<string, number> = new Map(KINDS.map((op, i) => [op, i]));
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

/** The number of a kind of operation. */
export function kindOf(op: Operation["op"]): number {
  return NUMBERS.get(op)!;
}

export function packed({ operations, ...rest }: StageProgram): PackedProgram {
  const kinds: number[] = [];
  const microBatches: number[] = [];
  const chunks: number[] = [];
  let isOfChunks = false;
  for (const operation of operations) {
    kinds.push(kindOf(operation.op));
    microBatches.push("microBatch" in operation ? operation.microBatch : NONE);
    const chunk = ("chunk" in operation ? operation.chunk : undefined) ?? NONE;
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
