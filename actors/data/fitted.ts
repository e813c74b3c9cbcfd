/** A feed under the names and shapes that a model from elsewhere gives its inputs; elements stay where they are. */

import type { ValueInfo } from "../../nn/onnx/graph.ts";
import { elements, Tensor } from "../../protocols/tensor.ts";
import type { Feed } from "./feed.ts";

/**
 * @param inputs by the feed's names, what the model calls each value, and its shape of as many elements.
 * @throws RangeError when a value is missing, or of another element type or number of elements.
 */
export function fitted(feed: Feed, inputs: Readonly<Record<string, ValueInfo>>): Feed {
  const values = feed.values.map(({ name, dtype, shape }): ValueInfo => {
    const input = inputs[name];
    if (input?.dtype === dtype && elements(input.shape) === elements(shape)) return input;
    const wanted = input ? `${input.dtype}[${input.shape}]` : "nothing";
    throw new RangeError(`the feed's ${name} is ${dtype}[${shape}], the model takes ${wanted}`);
  });
  const renamed = (tensors: Readonly<Record<string, Tensor>>) =>
    Object.fromEntries(
      Object.entries(tensors).map(([key, { bytes }]) => {
        const { name, dtype, shape } = inputs[key]!;
        return [name, new Tensor(dtype, shape, bytes)];
      }),
    );
  return {
    values,
    validationCount: feed.validationCount,
    training: (step, microBatch) => renamed(feed.training(step, microBatch)),
    validation: (microBatch) => renamed(feed.validation(microBatch)),
  };
}
