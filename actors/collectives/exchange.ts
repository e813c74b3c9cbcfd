/**
 * What collectives stand on: a rank gives tensors to others, and takes what they have given to it. How they travel is
 * the giver's business: a stage sends them as messages to the stages that share its work.
 */

import type { Tensor } from "../../protocols/tensor.ts";

export interface Exchange {
  /**
   * Sends a tensor to a rank, without waiting for it to be taken; nobody writes to it from then on. Tensors of one key are
   * given once in a step. Rejects where the rank cannot be reached and nobody is to come in its place.
   */
  give(rank: number, key: string, tensor: Tensor): Promise<unknown>;
  /** As `give`, a tensor that is borrowed: resolves when it may be written over. */
  lend(rank: number, key: string, tensor: Tensor): Promise<unknown>;
  /** What a rank gives under a key (transferred), as soon as it is there; it may have come before it is asked for. */
  take(rank: number, key: string): Promise<Tensor>;
}
