/**
 * Losses as graph functions: each writes a scalar, the mean over all elements (or rows), of what a model predicts and
 * what is wanted of it. They are spelled so that neither the value nor the gradient overflows or loses its digits, and
 * agree with PyTorch's of the same name.
 */

import type { Attributes, GraphBuilder } from "./onnx/builder.ts";

/** Writes a loss of a prediction and targets of its shape and element type; returns the scalar's name. */
export type ElementwiseLoss = (b: GraphBuilder, prediction: string, targets: string) => string;

const mean = (b: GraphBuilder, values: string): string => b.op("ReduceMean", [values], { keepdims: 0 });

/** (p − t)². */
export const meanSquaredError: ElementwiseLoss = (b, prediction, targets) => {
  const error = b.op("Sub", [prediction, targets]);
  return mean(b, b.op("Mul", [error, error]));
};

/** |p − t|, of slope 0 at 0. */
export const meanAbsoluteError: ElementwiseLoss = (b, prediction, targets) =>
  mean(b, b.op("Abs", [b.op("Sub", [prediction, targets])]));

/**
 * Squares below `beta`, absolute values above (Girshick, "Fast R-CNN", 2015): with d = |p − t| and c = min(d, β),
 * c·(d − c/2)/β.
 */
export function smoothL1(b: GraphBuilder, prediction: string, targets: string, beta = 1): string {
  const distance = b.op("Abs", [b.op("Sub", [prediction, targets])]);
  const near = b.op("Min", [distance, b.scalarLike(beta, distance)]);
  const rest = b.op("Sub", [distance, b.op("Mul", [near, b.scalarLike(0.5, near)])]);
  return mean(b, b.op("Mul", [b.op("Mul", [near, rest]), b.scalarLike(1 / beta, near)]));
}

/** The least logarithm of a probability, as PyTorch bounds it. */
const LEAST_LOG = -100;

/** log p, at least `LEAST_LOG`; of slope 0 at 0, where a slope would be no number. */
function boundedLog(b: GraphBuilder, probability: string): string {
  const constant = (value: number) => b.scalarLike(value, probability);
  const possible = b.op("Greater", [probability, constant(0)]);
  const log = b.op("Log", [b.op("Where", [possible, probability, constant(1)])]);
  return b.op("Where", [possible, b.op("Max", [log, constant(LEAST_LOG)]), constant(LEAST_LOG)]);
}

/** −t·log p − (1 − t)·log(1 − p), for probabilities. */
export const binaryCrossEntropy: ElementwiseLoss = (b, prediction, targets) => {
  const rest = (x: string) => b.op("Sub", [b.scalarLike(1, x), x]);
  const hit = b.op("Mul", [targets, boundedLog(b, prediction)]);
  const miss = b.op("Mul", [rest(targets), boundedLog(b, rest(prediction))]);
  return mean(b, b.op("Neg", [b.op("Add", [hit, miss])]));
};

/** Binary cross-entropy of logits: log(1 + eˣ) − x·t, whose slope is σ(x) − t everywhere, zero included. */
export const binaryCrossEntropyWithLogits: ElementwiseLoss = (b, prediction, targets) =>
  mean(b, b.op("Sub", [b.op("Softplus", [prediction]), b.op("Mul", [prediction, targets])]));

/**
 * Cross-entropy of logits with the classes along the last axis, [..., C], and integer targets of the other axes.
 * Rows whose target is `ignored` do not count, and the mean is over those that do.
 */
export function crossEntropy(b: GraphBuilder, logits: string, targets: string, ignored?: number): string {
  const shape = b.shape(logits);
  const rows = shape.length === 2 ? logits : b.op("Reshape", [logits, b.ints([-1, shape.at(-1)!])]);
  const classes = shape.length === 2 ? targets : b.op("Reshape", [targets, b.ints([-1])]);
  const attributes: Attributes = ignored === undefined ? {} : { ignore_index: ignored };
  return b.op("SoftmaxCrossEntropyLoss", [rows, classes], { reduction: "mean", ...attributes });
}
