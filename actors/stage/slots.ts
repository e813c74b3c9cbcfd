/**
 * Which micro-batch is in which slot of a chunk, and until when: decided once, from the program, since every step does the
 * same.
 *
 * A micro-batch has a slot from the first operation that touches it at a chunk to the last. A pass whose result the stage
 * hands on to a chunk of its own touches it there too.
 */

import { isOfMicroBatch, type StageProgram } from "../scheduler/program.ts";

/** Whether the stage holds the position behind a chunk, or before it, for a micro-batch. */
export type HandsOn = (chunk: number, microBatch: number, step: 1 | -1) => boolean;

export interface Slots {
  /** How many each chunk needs. */
  readonly counts: readonly number[];
  /** Where a chunk has a micro-batch; -1 for one it does not take. */
  slotOf(chunk: number, microBatch: number): number;
  /** Operations, by index, after which nothing touches their micro-batch at their chunk any more. */
  readonly last: ReadonlySet<number>;
}

export function assignSlots(program: StageProgram, handsOn: HandsOn): Slots {
  const { operations, positions } = program;
  const touched = operations.map((operation): readonly Place[] => {
    if (!isOfMicroBatch(operation)) return [];
    const { op, chunk = 0, microBatch } = operation;
    const places = [{ chunk, microBatch, own: true }];
    const step = op === "forward" ? 1 : op.startsWith("backward") || op === "forward-backward" ? -1 : 0;
    // W makes no gradient of the input.
    if (step === 0 || op === "backward-weight" || !handsOn(chunk, microBatch, step)) return places;
    const neighbour = positions.indexOf(positions[chunk]! + step);
    return [...places, { chunk: neighbour, microBatch, own: false }];
  });
  const key = ({ chunk, microBatch }: Omit<Place, "own">) => `${chunk}/${microBatch}`;
  const until = new Map<string, number>();
  touched.forEach((places, index) => {
    for (const place of places) until.set(key(place), index);
  });

  const slots = new Map<string, number>();
  const held = positions.map(() => new Set<number>());
  // Where both passes are one run, little more than what goes in is in a slot: the next may come in while it lasts.
  const single = new Set(
    operations.flatMap((operation) => (operation.op === "forward-backward" ? [operation.chunk ?? 0] : [])),
  );
  const left = new Map<number, number>();
  const counts = positions.map(() => 0);
  const last = new Set<number>();
  touched.forEach((places, index) => {
    for (const place of places) {
      if (slots.has(key(place))) continue;
      let slot = 0;
      while (held[place.chunk]!.has(slot)) slot++;
      held[place.chunk]!.add(slot);
      slots.set(key(place), slot);
      counts[place.chunk] = Math.max(counts[place.chunk]!, slot + 1);
    }
    for (const place of places) {
      if (until.get(key(place)) !== index) continue;
      const slot = slots.get(key(place))!;
      const free = single.has(place.chunk) ? left.get(place.chunk) : slot;
      left.set(place.chunk, slot);
      if (free !== undefined) held[place.chunk]!.delete(free);
      if (place.own) last.add(index);
    }
  });
  return { counts, last, slotOf: (chunk, microBatch) => slots.get(key({ chunk, microBatch })) ?? -1 };
}

interface Place {
  readonly chunk: number;
  readonly microBatch: number;
  /** Whether it is what the operation is of. */
  readonly own: boolean;
}
