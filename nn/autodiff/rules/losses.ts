/**
 * Gradients of the classification losses of ONNX: SoftmaxCrossEntropyLoss of scores and NegativeLogLikelihoodLoss of
 * log-probabilities, [N, C, d…] with classes [N, d…].
 *
 * Scores are looked at as a matrix of R = N·d… rows with C columns; classes along another axis than the last are
 * moved there first. A row's loss is −w·log p(class), where w is the weight of its class, and 0 where the class is
 * `ignore_index`; "mean" divides by the sum of w. The gradient is (softmax − one-hot)·w; the one-hot is a scatter of
 * −1, since a OneHot costs by the number of classes.
 */

import { elements } from "../../../protocols/tensor.ts";
import type { GraphBuilder } from "../../onnx/builder.ts";
import { DATA_TYPE } from "../../onnx/datatype.ts";
import { GraphError, type Node } from "../../onnx/graph.ts";
import { describe } from "../../onnx/shapes.ts";
import type { BackwardSite, GradientRule, Saved } from "../rule.ts";

const reductionOf = (node: Node) => (node.attributes.reduction ?? "mean") as "mean" | "sum" | "none";

/** Whether some rows count for more than others. */
const isWeighed = (node: Node) => Boolean(node.inputs[2]) || "ignore_index" in node.attributes;

/** Moves the axis of the classes to the end, or back with `back`. */
function moveClasses(b: GraphBuilder, x: string, back: boolean, output?: string): string {
  const rank = b.shape(x).length;
  const middle = Array.from({ length: rank - 2 }, (_, i) => i + (back ? 1 : 2));
  const perm = back ? [0, rank - 1, ...middle] : [0, ...middle, 1];
  return b.op("Transpose", [x], { perm }, output);
}

/** [N, C, d…] as a matrix [R, C]. */
function toRows(b: GraphBuilder, x: string): string {
  const shape = b.shape(x);
  if (shape.length === 2) return x;
  return b.op("Reshape", [moveClasses(b, x, false), b.ints([-1, shape[1]!])]);
}

/** The matrix as [N, C, d…], the shape of `like`. */
function fromRows(b: GraphBuilder, rows: string, like: string, output?: string): string {
  const [n, classes, ...rest] = b.shape(like) as [number, number, ...number[]];
  if (rest.length === 0) return output ? b.op("Identity", [rows], {}, output) : rows;
  return moveClasses(b, b.op("Reshape", [rows, b.ints([n, ...rest, classes])]), true, output);
}

/** Classes [R, 1] as indices that exist, and the weight of each row [R, 1] where rows are weighed. */
function indices(b: GraphBuilder, node: Node): { index: string; weight?: string } {
  const [scores, given, classWeights] = node.inputs as [string, string, string?];
  const column = b.ints([-1, 1]);
  const index = b.op("Reshape", [given, column]);
  const ignored = node.attributes.ignore_index;
  if (!isWeighed(node)) return { index };
  if (typeof ignored !== "number") {
    return { index, weight: b.op("Gather", [classWeights!, index], { axis: 0 }) };
  }
  const counts = b.op("Not", [b.op("Equal", [index, b.scalarLike(ignored, index)])]);
  const existing = b.op("Where", [counts, index, b.scalarLike(0, index)]);
  const one = b.op("Cast", [counts], { to: DATA_TYPE[b.type(scores).dtype] });
  if (!classWeights) return { index: existing, weight: one };
  const weight = b.op("Mul", [b.op("Gather", [classWeights, existing], { axis: 0 }), one]);
  return { index: existing, weight };
}

/** The class weights take part in the loss, but nobody trains them. */
function fixedWeights({ node, wants }: BackwardSite): void {
  if (wants(2)) throw new GraphError(`${describe(node)}: there is no gradient for the weights of classes`);
}

/** The loss of log-probabilities [R, C], and what its gradient needs. */
function lossOf(b: GraphBuilder, node: Node, logProbabilities: string): Saved {
  const rows = b.shape(logProbabilities)[0]!;
  const [mode, y] = [reductionOf(node), node.outputs[0] || b.fresh("loss")];
  const { index, weight } = indices(b, node);
  const picked = b.op("GatherElements", [logProbabilities, index], { axis: 1 });
  const saved = { index, ...(weight && { weight }) };
  const each = weight ? b.op("Mul", [picked, weight]) : picked;
  if (mode === "none") {
    b.op("Neg", [b.op("Reshape", [each, b.ints(b.shape(node.inputs[1]!))])], {}, y);
    return saved;
  }
  const sum = b.op("ReduceSum", [each], { keepdims: 0 });
  if (mode === "sum") b.op("Neg", [sum], {}, y);
  else if (!weight) b.op("Mul", [sum, b.scalarLike(-1 / rows, sum)], {}, y);
  else {
    const total = b.op("ReduceSum", [weight], { keepdims: 0 });
    b.op("Neg", [b.op("Div", [sum, total])], {}, y);
    return { ...saved, total };
  }
  return saved;
}

/** The loss's own gradient as a factor of each row: a scalar, or [R, 1]. */
function rowScale({ builder: b, node, gradient, saved }: BackwardSite): string {
  const dy = gradient(0)!;
  const { weight, total } = saved;
  const mode = reductionOf(node);
  if (mode === "none") {
    const column = b.op("Reshape", [dy, b.ints([-1, 1])]);
    return weight ? b.op("Mul", [column, weight]) : column;
  }
  if (mode === "mean" && !weight) {
    return b.op("Mul", [dy, b.scalarLike(1 / elements(b.shape(node.inputs[1]!)), dy)]);
  }
  const share = total ? b.op("Div", [dy, total]) : dy;
  return weight ? b.op("Mul", [weight, share]) : share;
}

/** Adds −1 at the class of each row. */
function lessOne(b: GraphBuilder, rows: string, index: string): string {
  const minusOne = b.op("Expand", [b.scalarLike(-1, rows), b.ints([b.shape(rows)[0]!, 1])]);
  return b.op("ScatterElements", [rows, index, minusOne], { axis: 1, reduction: "add" });
}

export const lossRules: Readonly<Record<string, GradientRule>> = {
  SoftmaxCrossEntropyLoss: {
    limits: "the weights of classes",
    forward: (b, node) => {
      const logProbabilities = b.op("LogSoftmax", [toRows(b, node.inputs[0]!)], { axis: -1 });
      const saved = lossOf(b, node, logProbabilities);
      const output = node.outputs[1];
      if (output) fromRows(b, logProbabilities, node.inputs[0]!, output);
      return { ...saved, logProbabilities };
    },
    backward: (site) => {
      fixedWeights(site);
      const { builder: b, node, gradient, saved } = site;
      const softmax = b.op("Exp", [saved.logProbabilities!]);
      const ofLoss = () => b.op("Mul", [lessOne(b, softmax, saved.index!), rowScale(site)]);
      const ofLogarithms = (output: string) => {
        const dy = toRows(b, output);
        const total = b.op("ReduceSum", [dy, b.ints([-1])], { keepdims: 1 });
        return b.op("Sub", [dy, b.op("Mul", [softmax, total])]);
      };
      const parts = [
        ...(gradient(0) ? [ofLoss()] : []),
        ...(gradient(1) ? [ofLogarithms(gradient(1)!)] : []),
      ];
      return [
        fromRows(
          b,
          parts.reduce((sum, part) => b.op("Add", [sum, part])),
          node.inputs[0]!,
        ),
      ];
    },
  },

  NegativeLogLikelihoodLoss: {
    limits: "the weights of classes",
    forward: (b, node) => lossOf(b, node, toRows(b, node.inputs[0]!)),
    backward: (site) => {
      fixedWeights(site);
      const { builder: b, node, saved } = site;
      const x = node.inputs[0]!;
      const { shape } = b.type(x);
      const zero = b.scalarLike(0, x);
      const rows = b.op("Expand", [zero, b.ints([elements(shape) / shape[1]!, shape[1]!])]);
      return [fromRows(b, b.op("Mul", [lessOne(b, rows, saved.index!), rowScale(site)]), x)];
    },
  },
};
