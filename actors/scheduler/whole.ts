/** Values whole again, from what the members of stages have of them. */

import type { Cut } from "../../nn/shards/layout.ts";
import { joinTensors } from "../../nn/shards/slices.ts";
import { Tensor } from "../../protocols/tensor.ts";
import type { Ref } from "../../runtime/index.ts";
import type { Ledger } from "../recovery/ledger.ts";
import type { Replica } from "../recovery/replica.ts";
import type { Stage } from "../stage.ts";

export type Copies = Ledger<Ref<Stage> | Ref<Replica>>;

/** Values that nobody has a copy of any more. */
export class CopiesLost extends Error {
  readonly code = "COPIES_LOST";
  override readonly name = "CopiesLost";
}

/** What a member says of values, by name. */
export interface Share {
  readonly rank: number;
  readonly values: Readonly<Record<string, Tensor>>;
}

/**
 * @param cuts of values that members have parts of. @param shares of the work that members have done, by rank: where
 *   several have a value whole and not the same, their mean by these weights is taken.
 */
export function wholeValues(
  said: readonly Share[],
  cuts: Readonly<Record<string, Cut>>,
  shares: readonly number[],
): Record<string, Tensor> {
  const parts = new Map<string, Tensor[]>();
  for (const { rank, values } of said) {
    for (const [name, tensor] of Object.entries(values)) {
      parts.set(name, parts.get(name) ?? []);
      parts.get(name)![rank] = tensor;
    }
  }
  const whole = ([name, tensors]: [string, Tensor[]]): [string, Tensor] => {
    const cut = cuts[name];
    if (cut) return [name, joinTensors(tensors, cut)];
    return [name, tensors.length === 1 ? tensors[0]! : meanOf(tensors, shares)];
  };
  return Object.fromEntries([...parts].map(whole));
}

/**
 * A value from the copies that there are of its parts after a step; of members that trained on their own, the mean.
 * @throws CopiesLost where it is with nobody.
 */
export async function valueFrom(copies: Copies, step: number, name: string): Promise<Tensor> {
  const parts = copies.partsOf(step, name);
  if (parts.length === 0) throw new CopiesLost(`nobody has a copy of ${name} after step ${step + 1}`);
  const tensors = await Promise.all(
    parts.map(async ({ source, holding }) => {
      const found = await (source as Ref<Replica>).ask.recall(holding.worker, step, [name]);
      return found[name]!;
    }),
  );
  const cut = parts[0]!.holding.cuts[name];
  if (cut) return joinTensors(tensors, cut);
  const weights = tensors.map(() => 1 / tensors.length);
  return tensors.length === 1 ? tensors[0]! : meanOf(tensors, weights);
}

/** The mean of tensors by these weights, which add up to 1; where all are the same, that. */
function meanOf(tensors: readonly Tensor[], weights: readonly number[]): Tensor {
  const [first, ...others] = tensors.map((tensor) => tensor.f32()) as [Float32Array, ...Float32Array[]];
  const { shape } = tensors[0]!;
  if (others.every((other) => other.every((value, i) => value === first[i]))) return tensors[0]!;
  const values = first.map((_, i) =>
    tensors.reduce((sum, tensor, rank) => sum + tensor.f32()[i]! * weights[rank]!, 0),
  );
  return Tensor.f32(shape, values);
}
