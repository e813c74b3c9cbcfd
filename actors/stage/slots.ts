/**
 * Which micro-batch is in which slot of a chunk, and until when: decided once, from the program, since every step does the
 * same.
 *
 * Neighbouring chunks of a stage, which hand values on to each other, have their slots in common: a micro-batch is in the
 * slot of the same number in all of them, from the first operation that touches it in any to the last.
 */

import { isOfMicroBatch, type StageProgram } from "../scheduler/program.ts";

export interface Slots {
  /** How many each chunk needs. */
  readonly counts: readonly number[];
  /** Where a chunk has a micro-batch; -1 for one it does not take. */
  slotOf(chunk: number, microBatch: number): number;
  /** Operations, by index, after which nothing touches their micro-batch in their slot any more. */
  readonly last: ReadonlySet<number>;
}

/** @param begun micro-batches that the first chunk has at the beginning, and in which slots. */
export function assignSlots(
  { operations, positions }: StageProgram,
  begun: ReadonlyMap<number, number> = new Map(),
): Slots {
  /** The first of the chunks that each has its slots in common with. */
  const roots = positions.map((position) => {
    let root = position;
    while (positions.includes(root - 1)) root--;
    return positions.indexOf(root);
  });
  const shared = roots.filter((root, chunk) => root !== chunk);
  const places = operations.map((operation) => {
    if (!isOfMicroBatch(operation)) return null;
    const root = roots[operation.chunk ?? 0]!;
    return { root, key: `${root}/${operation.microBatch}` };
  });
  const until = new Map<string, number>();
  for (const [index, place] of places.entries()) if (place) until.set(place.key, index);

  const slots = new Map<string, number>();
  const held = positions.map(() => new Set<number>());
  // Where both passes are one run, little more than what goes in is in a slot: the next may come in while it lasts.
  const single = new Set(
    operations.flatMap(({ op }, index) => (op === "forward-backward" ? [places[index]!.root] : [])),
  );
  for (const root of shared) single.delete(root);
  const left = new Map<number, number>();
  const counts = positions.map(() => 0);
  for (const [microBatch, slot] of begun) {
    slots.set(`0/${microBatch}`, slot);
    held[0]!.add(slot);
    counts[0] = Math.max(counts[0]!, slot + 1);
  }
  for (const [index, place] of places.entries()) {
    if (!place) continue;
    const { root, key } = place;
    if (!slots.has(key)) {
      let slot = 0;
      while (held[root]!.has(slot)) slot++;
      held[root]!.add(slot);
      slots.set(key, slot);
      counts[root] = Math.max(counts[root]!, slot + 1);
    }
    if (until.get(key) !== index) continue;
    const slot = slots.get(key)!;
    const free = single.has(root) ? left.get(root) : slot;
    left.set(root, slot);
    if (free !== undefined) held[root]!.delete(free);
  }
  return {
    counts: roots.map((root) => counts[root]!),
    last: new Set(until.values()),
    slotOf: (chunk, microBatch) => slots.get(`${roots[chunk]}/${microBatch}`) ?? -1,
  };
}
