/**
 * Gradients of parameters that are one with another chunk's: each chunk that holds one gives its gradient and takes the
 * others', of the same stage or of another, and adds all of them in the same order.
 */

import { gradientName } from "../../nn/training.ts";
import type { Chunk } from "./chunk.ts";
import type { Mail } from "./mail.ts";

/**
 * Done when all gradients of a step have added up, before their squares.
 * @param microBatches the place behind the last micro-batch, where these tensors belong.
 */
export async function exchangeTied(
  chunks: readonly Chunk[],
  mail: Mail,
  step: number,
  microBatches: number,
): Promise<void> {
  const slip = (name: string) => mail.slip("train", step, microBatches, gradientName(name));
  const holder = new Map<string, Chunk>();
  for (const chunk of chunks) for (const { name } of chunk.graphs.parameters) holder.set(name, chunk);
  const wanted = new Map<string, Chunk[]>();
  for (const chunk of chunks) {
    for (const name of chunk.graphs.ties.flat()) {
      if (!chunk.graphs.parameters.some((own) => own.name === name)) {
        wanted.set(name, [...(wanted.get(name) ?? []), chunk]);
      }
    }
  }
  const given = chunks.flatMap(({ spec, executor }) =>
    Object.entries(spec.tied).map(async ([name, workers]) => {
      const gradient = await executor.gradient(name);
      if (mail.keepsSent) mail.post(workers, slip(name), gradient, null);
      else await mail.give(workers, slip(name), gradient);
    }),
  );
  const taken = [...wanted].map(async ([name, takers]) => {
    const here = holder.get(name);
    const tensor = here ? await here.executor.gradient(name) : await mail.inbox.take(slip(name));
    for (const { executor } of takers) await executor.putTied(name, tensor);
  });
  await Promise.all([...given, ...taken]);
}
