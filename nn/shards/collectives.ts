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
  /**
   * Adds up over the ranks, in place; f32, the same shapes everywhere. Several tensors go as one.
   * @param place of what is added up again and again, under a key of its own each time: what travels may then be encoded
   * with loss, and what is left out of it is added to what comes next in the same place. Exact where left out.
   */
  allReduce(key: string, tensors: readonly Tensor[], place?: string): Promise<void>;
  /** The parts of all ranks, by rank, to be read only; f32, shapes may differ. `part` is borrowed until then. */
  allGather(key: string, part: Tensor): Promise<readonly Tensor[]>;
  /** `parts[r]` is this rank's summand of rank r's result; resolves with this rank's. Borrowed until then. */
  reduceScatter(key: string, parts: readonly Tensor[]): Promise<Tensor>;
}
