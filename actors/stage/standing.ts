/** Collectives for what lives longer than a generation of its run: whatever the present one has does the work. */

import type { Collectives } from "../../nn/shards/collectives.ts";
import type { Tensor } from "../../protocols/tensor.ts";

export class StandingCollectives implements Collectives {
  readonly rank: number;
  readonly ranks: number;
  private readonly present: () => Collectives;

  /** @param present those of the generation that it is. */
  constructor(rank: number, ranks: number, present: () => Collectives) {
    this.rank = rank;
    this.ranks = ranks;
    this.present = present;
  }

  allReduce(key: string, tensors: readonly Tensor[], place?: string): Promise<void> {
    return this.present().allReduce(key, tensors, place);
  }

  allGather(key: string, part: Tensor): Promise<readonly Tensor[]> {
    return this.present().allGather(key, part);
  }

  reduceScatter(key: string, parts: readonly Tensor[]): Promise<Tensor> {
    return this.present().reduceScatter(key, parts);
  }
}
