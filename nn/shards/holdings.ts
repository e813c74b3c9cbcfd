/**
 * What ranks hold, from a whole model's values and back: a checkpoint of a sharded run is one of the whole model.
 * Optimiser state that is element by element is cut and joined like its parameter, with `sliceTensor` and `joinTensors`.
 */

import { type Tensor, TensorError } from "../../protocols/tensor.ts";
import type { ShardPlan } from "./plan.ts";
import { joinTensors, sliceTensor } from "./slices.ts";

/**
 * A rank's parameters, frozen values and statistics. Those that it has whole are the given tensors themselves; names
 * that the plan does not have are left out.
 * @throws TensorError for a value of another shape than the plan's.
 */
export function sliceHoldings(
  { holdings }: ShardPlan,
  values: ReadonlyMap<string, Tensor>,
  rank: number,
): Map<string, Tensor> {
  const own = new Map<string, Tensor>();
  for (const [name, { shape, cut }] of Object.entries(holdings)) {
    const whole = values.get(name);
    if (!whole) continue;
    if (whole.shape.join() !== shape.join()) {
      throw new TensorError(`"${name}" is [${whole.shape}], the plan divides [${shape}]`);
    }
    own.set(name, cut ? sliceTensor(whole, cut, rank) : whole);
  }
  return own;
}

/**
 * The whole values of what all ranks hold; of what each has whole, that of the first rank.
 * @param parts by rank.
 * @throws TensorError for a value that a rank does not have, or has in another shape.
 */
export function joinHoldings(
  { holdings, ranks }: ShardPlan,
  parts: readonly ReadonlyMap<string, Tensor>[],
): Map<string, Tensor> {
  const whole = new Map<string, Tensor>();
  for (const [name, { cut }] of Object.entries(holdings)) {
    const tensors = Array.from({ length: cut ? ranks : 1 }, (_, rank): Tensor => {
      const tensor = parts[rank]?.get(name);
      if (!tensor) throw new TensorError(`"${name}" is missing of rank ${rank}`);
      return tensor;
    });
    whole.set(name, cut ? joinTensors(tensors, cut) : tensors[0]!);
  }
  return whole;
}
