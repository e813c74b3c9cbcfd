/** What happens to a value, or to a gradient, between phases: a collective over a tensor that each rank has. */

import type { Tensor } from "../../../protocols/tensor.ts";
import type { Collectives } from "../collectives.ts";
import type { Cut } from "../layout.ts";
import type { Collective } from "../plan.ts";
import { joinInto, viewPart } from "../slices.ts";

/**
 * @param cut of the whole value; null for an all-reduce.
 * @param to what comes of it; for an all-reduce it may be the memory of `from`.
 */
export async function collective(
  op: Collective,
  key: string,
  collectives: Collectives,
  cut: Cut | null,
  from: Tensor,
  to: Tensor,
): Promise<void> {
  switch (op) {
    case "all-reduce":
      if (from !== to) to.bytes.set(from.bytes);
      return collectives.allReduce(key, [to]);
    case "all-gather":
      return joinInto(to, await collectives.allGather(key, from), cut!);
    case "reduce-scatter": {
      const parts = Array.from({ length: collectives.ranks }, (_, rank) => viewPart(from, cut!, rank));
      to.bytes.set((await collectives.reduceScatter(key, parts)).bytes);
    }
  }
}

/** Starts everything that waits for nothing that is given before it; resolves when all is done. */
export async function inOrder<T>(
  items: readonly T[],
  waitsFor: (item: T, earlier: T) => boolean,
  run: (item: T) => Promise<void>,
): Promise<void> {
  const started: { item: T; done: Promise<void> }[] = [];
  for (const item of items) {
    const before = started.filter((earlier) => waitsFor(item, earlier.item)).map(({ done }) => done);
    const done = before.length === 0 ? run(item) : Promise.all(before).then(() => run(item));
    started.push({ item, done });
  }
  await Promise.all(started.map(({ done }) => done));
}
