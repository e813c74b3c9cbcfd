/**
 * How far weights are from those of one device, by two measures. Sums that are added in another order are rounded
 * otherwise, by some 1e-7 of a gradient; Adam divides each gradient by its own size, so an element whose gradient is next
 * to nothing takes a step that rounding decides. By norm such elements weigh what they are; by the largest element, one of
 * them stands for its tensor.
 *
 * What is left grows from step to step, and fast where a model has kinks: a ReLU on the other side of its own is another
 * gradient. One update from the same weights tells how precise a strategy is, the weights after several also how
 * sensitive the model.
 */

import type { Weights } from "./run.ts";

/**
 * Biases of keys: a softmax does not see them. In exact arithmetic their gradients are 0; what is computed is rounding, and
 * Adam makes whole steps of that.
 */
const UNSEEN = /\bk(_proj)?\.bias$/;

/** @throws RangeError for weights that are missing, or of another shape. */
export function difference(found: Weights, reference: Weights): { byElement: number; byNorm: number } {
  let [byElement, byNorm] = [0, 0];
  for (const [name, expected] of reference) {
    if (UNSEEN.test(name)) continue;
    const [a, b] = [found.get(name)?.f32(), expected.f32()];
    if (a?.length !== b.length) throw new RangeError(`weights ${name} are missing, or of another shape`);
    let [most, largest, squares, norm] = [0, 0, 0, 0];
    for (let i = 0; i < b.length; i++) {
      const difference = Math.abs(a[i]! - b[i]!);
      most = Math.max(most, difference);
      largest = Math.max(largest, Math.abs(b[i]!));
      squares += difference ** 2;
      norm += b[i]! ** 2;
    }
    byElement = Math.max(byElement, most / (largest || 1));
    byNorm = Math.max(byNorm, Math.sqrt(squares / (norm || 1)));
  }
  return { byElement, byNorm };
}
