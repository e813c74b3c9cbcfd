/**
 * What the members of a stage that share micro-batches add up over all of them, chunk by chunk and once a step: gradients,
 * and running statistics with them.
 */

import type { Kept } from "../../nn/executor/updater.ts";
import type { Collectives } from "../../nn/shards/collectives.ts";
import type { Chunk } from "./chunk.ts";
import type { DealtStatistics } from "./statistics.ts";

/** Resolves, when it is done, with the bytes that were added up. Gradients may travel with a codec, statistics do not. */
export async function reduceChunk(
  { executor, position }: Chunk,
  statistics: DealtStatistics | undefined,
  collectives: Collectives,
  { step, microBatches }: { readonly step: number; readonly microBatches: number },
): Promise<number> {
  let bytes = 0;
  const addUp = async (what: string, memory: Iterable<Kept>, place?: string) => {
    const all = [...memory];
    if (all.length === 0) return;
    const tensors = await Promise.all(all.map((kept) => kept.read()));
    await collectives.allReduce(`${step}/${position}/${what}`, tensors, place);
    await Promise.all(all.map((kept) => kept.write()));
    for (const tensor of tensors) bytes += tensor.bytes.byteLength;
  };
  await addUp("gradients", executor.gradients().values(), `${position}`);
  if (statistics) {
    await statistics.before(microBatches, false);
    await addUp("statistics", executor.movingStatistics().values());
  }
  return bytes;
}
