/** Losses of all micro-batches, from what workers say of theirs, and means of such. */

import type { Worker } from "./plan.ts";

/**
 * @param last position of the model: only those that hold it know losses.
 * @param reported by worker; NaN of micro-batches that one has not had.
 */
export function lossesOf(
  workers: readonly Worker[],
  last: number,
  reported: readonly (readonly number[] | null)[],
): number[] {
  const losses: number[] = [];
  for (const { worker, positions } of workers) {
    if (!positions.includes(last)) continue;
    reported[worker]?.forEach((loss, microBatch) => {
      if (!Number.isNaN(loss) || losses[microBatch] === undefined) losses[microBatch] = loss;
    });
  }
  return losses;
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
