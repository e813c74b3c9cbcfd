/** Losses of classification, for scores or log-probabilities [N, C, d…] and classes [N, d…]. */

import { elements } from "../../../protocols/tensor.ts";
import { compute, type NdArray, transpose } from "./ndarray.ts";
import type { Call, Operator, Operators } from "./operator.ts";
import { logSumExp, rows, sum } from "./reduction.ts";

/**
 * −weight·log p(class) of every element, reduced as the node says; a mean is over the weights. `line` holds the
 * log-probabilities of the row's classes.
 */
function likelihood(call: Call, line: (row: number) => Float64Array): NdArray {
  const [scores, labels] = [call.input(0), call.input(1)];
  const ignored = call.node.attributes.ignore_index;
  const classWeights = call.optionalNumbers(2);
  const weights = labels.data.map((label) => (label === ignored ? 0 : (classWeights?.[label] ?? 1)));
  const losses = labels.data.map((label, row) => {
    if (label === ignored) return 0;
    const logarithm = line(row)[label];
    if (logarithm === undefined) throw call.error(`class ${label} is outside of ${scores.shape[1]} classes`);
    return -logarithm * weights[row]!;
  });
  const mode = call.node.attributes.reduction ?? "mean";
  if (mode === "none") return compute(scores.dtype, labels.shape, (i) => losses[i]!);
  return compute(scores.dtype, [], () => sum(losses) / (mode === "mean" ? sum(weights) : 1));
}

/** Gives the loss, and the logarithm of the softmax. */
const crossEntropy: Operator = (call) => {
  const scores = call.input(0);
  const at = rows(scores, [1]);
  const line = (row: number) => {
    const total = logSumExp(at(row));
    return at(row).map((x) => x - total);
  };
  const { dtype, shape } = scores;
  const [n, classes, ...rest] = shape as [number, number, ...number[]];
  const count = elements([n, ...rest]);
  const data = Float64Array.from(Array.from({ length: count }, (_, row) => [...line(row)]).flat());
  const last = { dtype, shape: [n, ...rest, classes], data };
  const moved = transpose(last, [0, shape.length - 1, ...rest.map((_, i) => i + 1)]);
  return [likelihood(call, line), compute(dtype, shape, (i) => moved.data[i]!)];
};

const negativeLogLikelihood: Operator = (call) => [likelihood(call, rows(call.input(0), [1]))];

export const losses: Operators = {
  SoftmaxCrossEntropyLoss: crossEntropy,
  NegativeLogLikelihoodLoss: negativeLogLikelihood,
};
