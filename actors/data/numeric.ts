/** Classes as the numbers that losses other than cross-entropy compare predictions with. */

import type { ValueInfo } from "../../nn/onnx/graph.ts";
import { elements, Tensor } from "../../protocols/tensor.ts";
import type { Feed } from "./feed.ts";

/**
 * A feed whose second value, the class of each sample as i64 [rows], is f32 instead: [rows, classes], 1 at the class
 * and else 0; or, where `shape` has one element for each sample and there are two classes, the class itself, 0 or 1.
 * @param shape of what the model predicts.
 * @returns null where its elements are neither as many as the classes of all samples, nor one for each of two.
 */
export function numericTargets(feed: Feed, shape: readonly number[], classes: number): Feed | null {
  const [samples, targets] = feed.values as [ValueInfo, ValueInfo];
  const rows = targets.shape[0]!;
  const each = elements(shape) / rows;
  if (each !== classes && !(each === 1 && classes === 2)) return null;
  const wanted: ValueInfo = { name: targets.name, dtype: "f32", shape: [rows, each] };
  const convert = (tensors: Record<string, Tensor>): Record<string, Tensor> => {
    const numbers = Tensor.zeros("f32", wanted.shape);
    const values = numbers.f32();
    tensors[targets.name]!.i64().forEach((label, row) => {
      if (each === 1) values[row] = Number(label);
      else values[row * each + Number(label)] = 1;
    });
    return { ...tensors, [targets.name]: numbers };
  };
  return {
    values: [samples, wanted],
    validationCount: feed.validationCount,
    training: (step, microBatch) => convert(feed.training(step, microBatch)),
    validation: (microBatch) => convert(feed.validation(microBatch)),
  };
}
