/**
 * A validation pass through the chunks of a stage.
 *
 * The order is by micro-batch and position together, as on the diagonals of a table, the last position first. So chunks of
 * an interleaved pipeline work on different micro-batches at once; and since a value is awaited by its taker on the next
 * diagonal, and its giver waits for the one before it no earlier than the taker of that has its turn, nobody waits for
 * ever.
 */

import { Tensor } from "../../protocols/tensor.ts";
import type { Chunk } from "./chunk.ts";
import type { Clearing } from "./clearing.ts";
import type { Mail } from "./mail.ts";
import type { Supply } from "./supply.ts";

export interface Turn {
  readonly chunk: number;
  readonly microBatch: number;
}

/**
 * @param positions of a stage's chunks.
 * @param takes whether the stage takes a micro-batch.
 */
export function validationTurns(
  positions: readonly number[],
  count: number,
  takes: (microBatch: number) => boolean,
): Turn[] {
  const turns = positions.flatMap((position, chunk) =>
    Array.from({ length: count }, (_, microBatch) => ({ chunk, microBatch, at: position + microBatch })),
  );
  return turns
    .filter(({ microBatch }) => takes(microBatch))
    .sort((a, b) => a.at - b.at || positions[b.chunk]! - positions[a.chunk]!)
    .map(({ chunk, microBatch }) => ({ chunk, microBatch }));
}

/** What a stage validates with. */
export interface Validating {
  readonly chunks: readonly Chunk[];
  readonly mail: Mail;
  readonly supply: Supply;
  /** Its own number. */
  readonly worker: number;
  /** In a step of training, whose ways those of a pass go. */
  readonly microBatches: number;
  readonly takes: (microBatch: number) => boolean;
  readonly clearing: Clearing;
  /** Rejects when the pass is given up: whoever was to take what is sent may never do so. */
  readonly over: Promise<never>;
}

/** Losses of the micro-batches: NaN of those the stage does not take; none where it does not hold the model's end. */
export async function validate(
  { chunks, mail, supply, worker, microBatches, takes, clearing, over }: Validating,
  pass: number,
  count: number,
): Promise<number[]> {
  const losses = new Array<number>(count).fill(Number.NaN);
  /** By chunk: what it has given last, and what has been handed on to it. */
  const given: Promise<void>[] = [];
  const handed: Tensor[] = [];
  const positions = chunks.map(({ position }) => position);
  for (const { chunk: index, microBatch } of validationTurns(positions, count, takes)) {
    const { graphs, spec, executor, position } = chunks[index]!;
    const inputs: Record<string, Tensor> = {};
    // All that is sent has to be taken; validation may have no use for some of it.
    const slip = (value: string) => mail.slip("evaluate", pass, microBatch, value);
    for (const { name } of graphs.data) {
      const tensor = await supply.take(slip(name));
      if (executor.evaluates(name)) inputs[name] = tensor;
    }
    if (spec.input !== null) {
      inputs[spec.input] = handed[index] ?? (await mail.inbox.take(slip(spec.input)));
      delete handed[index];
    }
    await Promise.race([given[index], over]);
    for (const { bytes } of Object.values(inputs)) clearing.count(bytes.byteLength);
    const result = await clearing.during(executor.evaluate(inputs, `${pass}/${microBatch}`));
    if (spec.output === null) {
      losses[microBatch] = result.f32()[0]!;
      continue;
    }
    const next = spec.next[microBatch % microBatches] ?? [];
    if (next.includes(worker)) {
      const { dtype, shape, bytes } = result;
      handed[positions.indexOf(position + 1)] = new Tensor(dtype, shape, bytes.slice());
    } else {
      given[index] = mail.give(next, slip(spec.output), result);
      // Whoever waits for it here is told; meanwhile it is nobody's.
      given[index].catch(() => {});
    }
  }
  await Promise.race([Promise.all(given), over]);
  return chunks.some(({ spec }) => spec.output === null) ? losses : [];
}
