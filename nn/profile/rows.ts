/**
 * A profile for a micro-batch of so many rows, from profiles of other sizes: between two of them by a straight line, and
 * beyond by that through the nearest two. Kernels take time in proportion to rows, and something besides: with one size
 * alone nothing could be said of another.
 */

import type { ModelProfile } from "../profile.ts";

/**
 * @param profiles of the same model, by rows; two sizes at least.
 * @throws RangeError for fewer, unless it is the size that is asked for.
 */
export function atRows(profiles: ReadonlyMap<number, ModelProfile>, rows: number): ModelProfile {
  const known = profiles.get(rows);
  if (known) return known;
  const sizes = [...profiles.keys()].sort((a, b) => a - b);
  if (sizes.length < 2) {
    throw new RangeError(
      `profiles of micro-batches of ${sizes.join(", ") || "no"} rows say nothing of ${rows}, it takes two sizes`,
    );
  }
  const above = sizes.findIndex((size) => size > rows);
  const at = Math.min(sizes.length - 1, Math.max(1, above < 0 ? sizes.length - 1 : above));
  const [low, high] = [sizes[at - 1]!, sizes[at]!];
  const share = (rows - low) / (high - low);
  return between(profiles.get(low)!, profiles.get(high)!, share) as ModelProfile;
}

/** Figures between two of the same place, none below zero; ranks and numbers of runs are the same in both. */
function between(low: unknown, high: unknown, share: number): unknown {
  if (typeof low === "number") return Math.max(0, low + ((high as number) - low) * share);
  if (Array.isArray(low)) return low.map((each, i) => between(each, (high as unknown[])[i], share));
  if (typeof low !== "object" || low === null) return low;
  const other = high as Record<string, unknown>;
  return Object.fromEntries(
    Object.entries(low).flatMap(([name, each]) =>
      name in other ? [[name, between(each, other[name], share)]] : [],
    ),
  );
}
