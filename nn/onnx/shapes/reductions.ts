/** Shapes of reductions, softmax and losses. */

import type { Shape } from "../../../protocols/tensor.ts";
import { GraphError, type Node } from "../graph.ts";
import {
  constantInts,
  describe,
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

/** The index of an element along one axis. */
const argument: Rule = ({ node, input }) => {
  const { shape } = input(0);
  const axis = normalAxis(intAttribute(node, "axis", 0), shape.length);
  const keep = intAttribute(node, "keepdims", 1) === 1;
  return [{ dtype: "i64", shape: keep ? shape.with(axis, 1) : shape.filter((_, i) => i !== axis) }];
};

/** Classes [N, d…] for scores [N, C, d…]; the loss of each, or one of all. */
const loss: Rule = ({ node, input, has }) => {
  const { dtype, shape } = input(0);
  const classes = input(1).shape;
  if (classes.join() !== shape.filter((_, i) => i !== 1).join()) {
    throw new GraphError(`${describe(node)}: classes [${classes}] do not go with scores [${shape}]`);
  }
  if (has(2) && input(2).shape.join() !== `${shape[1]}`) {
    throw new GraphError(`${describe(node)}: weights [${input(2).shape}] are not for ${shape[1]} classes`);
  }
  return [
    { dtype, shape: node.attributes.reduction === "none" ? classes : [] },
    { dtype, shape },
  ];
};

const REDUCTIONS = [
  ...["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"],
  ...["ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"],
];

export const reductionShapes: Rules = {
  ...Object.fromEntries(REDUCTIONS.map((op) => [op, reduction])),
  Softmax: same,
  LogSoftmax: same,
  Hardmax: same,
  ArgMax: argument,
  ArgMin: argument,
  SoftmaxCrossEntropyLoss: loss,
  NegativeLogLikelihoodLoss: (site) => loss(site).slice(0, 1),
};
