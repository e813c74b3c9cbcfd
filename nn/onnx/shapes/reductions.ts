/** Shapes of reductions, softmax and losses. */

import type { Shape } from "../../../protocols/tensor.ts";
import type { Node } from "../graph.ts";
import {
  constantInts,
  intAttribute,
  intsAttribute,
  normalAxis,
  type Rule,
  type Rules,
  same,
} from "./rule.ts";

const reduction: Rule = ({ node, input, has, constant }) => {
  const { dtype, shape } = input(0);
  const axes = reducedAxes(node, shape, has(1) ? constantInts(node, constant, 1) : undefined);
  const keep = intAttribute(node, "keepdims", 1) === 1;
  const kept = shape.map((dim, i) => (axes.includes(i) ? 1 : dim));
  return [{ dtype, shape: keep ? kept : kept.filter((_, i) => !axes.includes(i)) }];
};

/** Axes a reduction sums over: its axes input or attribute; without any, all, or none where the node says so. */
export function reducedAxes(node: Node, shape: Shape, given?: readonly number[]): number[] {
  const axes = given ?? intsAttribute(node, "axes") ?? [];
  if (axes.length > 0) return axes.map((axis) => normalAxis(axis, shape.length));
  return intAttribute(node, "noop_with_empty_axes", 0) === 1 ? [] : shape.map((_, i) => i);
}

export const reductionShapes: Rules = {
  Softmax: same,
  LogSoftmax: same,
  Hardmax: same,
  ReduceSum: reduction,
  ReduceMean: reduction,
  ReduceMax: reduction,
  ReduceSumSquare: reduction,
  SoftmaxCrossEntropyLoss: ({ node, input }) => {
    const { dtype, shape } = input(0);
    return [
      { dtype, shape: node.attributes.reduction === "none" ? input(1).shape : [] },
      { dtype, shape },
    ];
  },
};
