/**
 * A meeting of members who train on their own (Douillard et al., "DiLoCo", 2023): what each has moved since the last one is
 * added up, every member goes the outer optimiser's step by it, and all have the same parameters again. Running statistics
 * become the mean of the members'.
 */

import type { Collectives } from "../../nn/shards/collectives.ts";
import { Tensor } from "../../protocols/tensor.ts";
import type { Chunk } from "./chunk.ts";

/** @param share what part this member is of all; all members' add up to 1. */
export async function meet(
  { whole, position, graphs }: Chunk,
  step: number,
  share: number,
  collectives: Collectives,
): Promise<void> {
  const key = `${step}/${position}/meeting`;
  await whole!.pseudoGradients(share);
  await whole!.reduce(key, collectives);
  await whole!.outerStep();
  if (graphs.statistics.length === 0) return;
  const own = await whole!.tensors(graphs.statistics.map(({ name }) => name));
  const shares = [...own].map(([name, tensor]): [string, Tensor] => {
    return [
      name,
      Tensor.f32(
        tensor.shape,
        tensor.f32().map((value) => value * share),
      ),
    ];
  });
  await collectives.allReduce(
    `${key}/statistics`,
    shares.map(([, tensor]) => tensor),
  );
  await whole!.put(new Map(shares));
}
