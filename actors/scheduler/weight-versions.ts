/**
 * How many older versions of its parameters each chunk keeps at once under a program that updates while micro-batches are
 * between forward and backward pass; see `nn/executor/versions.ts`, which keeps them. None without such updates.
 */

import { isOfMicroBatch, type StageProgram } from "./program.ts";

/** By chunk. */
export function weightVersions({ operations, positions }: StageProgram): number[] {
  if (!operations.some(({ op }) => op === "update")) return positions.map(() => 0);
  const chunks = positions.map(() => ({
    newest: new Set<number>(),
    older: new Map<number, number>(),
    most: 0,
  }));
  operations.forEach((operation, at) => {
    if (!isOfMicroBatch(operation) && operation.op !== "update") return;
    const { op, microBatch, chunk = 0 } = operation;
    const { newest, older, most } = chunks[chunk]!;
    if (op === "forward") newest.add(microBatch);
    else if (op === "backward" || op === "backward-weight") {
      newest.delete(microBatch);
      older.delete(microBatch);
    } else if (op === "update") {
      for (const own of newest) older.set(own, at);
      newest.clear();
      chunks[chunk]!.most = Math.max(most, new Set(older.values()).size);
    }
  });
  return chunks.map(({ most }) => most);
}
