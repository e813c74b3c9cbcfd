/**
 * What ranks do together, as a sharded stage needs it: each call is made by all ranks with the same key, and resolves
 * when this rank's part is done. How the bytes travel is the implementation's business (`actors/collectives/`); within
 * one process an array of queues will do, for tests.
 *
 * Sums are the same bits on every rank.
 */

import type { Tensor } from "../../protocols/tensor.ts";

export interface Collectives {
  /** This rank, of `ranks`. */
  readonly rank: number;
  readonly ranks: number;
  /** Adds up over the ranks, in place; f32, the same shape everywhere. */
  allReduce(key: string, tensor: Tensor): Promise<void>;
  /** The parts of all ranks, by rank; f32, shapes may differ. `part` is borrowed until then. */
  allGather(key: string, part: Tensor): Promise<readonly Tensor[]>;
  /** `parts[r]` is this rank's summand of rank r's result; resolves with this rank's. Borrowed until then. */
  reduceScatter(key: string, parts: readonly Tensor[]): Promise<Tensor>;
}
