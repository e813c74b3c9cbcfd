/** Cases of the rules of reductions, softmax and losses: see rule-cases.ts. */

import { elements, Tensor } from "../../../../protocols/tensor.ts";
import type { Chance } from "../../engine/operator-cases.ts";
import type { RuleCase } from "../rule-cases.ts";

type Maker = (chance: Chance) => RuleCase;

const reduction =
  (tensor: (c: Chance, shape: readonly number[]) => Tensor): Maker =>
  (c): RuleCase => {
    const shape = c.shape();
    const [x, keepdims] = [tensor(c, shape), c.int(0, 1)];
    if (c.int(0, 3) === 0)
      return { inputs: [x], attributes: { keepdims, noop_with_empty_axes: c.int(0, 1) } };
    const axes = c.axes(shape.length);
    return { inputs: [x, Tensor.i64([axes.length], axes)], constant: [1], attributes: { keepdims } };
  };

const between = (low: number, high: number) => (c: Chance, shape: readonly number[]) =>
  c.f32(shape, low, high);

/** No two elements are nearer to each other than the step of a difference. */
const distinct = (c: Chance, shape: readonly number[]) => {
  const order = c.permutation(elements(shape));
  return Tensor.f32(
    shape,
    order.map((place) => place / 10 + c.unit() / 20),
  );
};

/** On either side of zero, and not at it. */
const offZero = (c: Chance, shape: readonly number[]) => {
  const x = c.f32(shape, 0.2, 2);
  return Tensor.f32(
    shape,
    x.f32().map((value) => value * c.pick(-1, 1)),
  );
};

const alongAxis: Maker = (c) => {
  const shape = c.shape();
  return { inputs: [c.f32(shape)], attributes: { axis: c.int(-shape.length, shape.length - 1) } };
};

const loss = (c: Chance, outputs: number): RuleCase => {
  const shape = [c.int(2, 3), c.int(2, 4), ...c.shape(c.int(0, 2))];
  const others = shape.filter((_, i) => i !== 1);
  const [reduction, ignore] = [c.pick("mean", "sum", "none"), c.pick(undefined, 0, -100)];
  const classes = Array.from({ length: elements(others) }, (_, i) =>
    i > 0 && ignore !== undefined && c.int(0, 2) === 0 ? ignore : c.int(1, shape[1]! - 1),
  );
  const weights = c.pick([], [c.f32([shape[1]!], 0.5, 2)]);
  return {
    inputs: [c.f32(shape), Tensor.i64(others, classes), ...weights],
    constant: [2],
    attributes: ignore === undefined ? { reduction } : { reduction, ignore_index: ignore },
    outputs,
  };
};

export const REDUCTION_RULE_CASES: Readonly<Record<string, Maker>> = {
  ReduceMax: reduction(distinct),
  ReduceMin: reduction(distinct),
  ReduceProd: reduction(between(0.5, 1.5)),
  ReduceL1: reduction(offZero),
  ReduceL2: reduction(between(0.3, 2)),
  ReduceSumSquare: reduction(between(-2, 2)),
  ReduceLogSum: reduction(between(0.5, 2)),
  ReduceLogSumExp: reduction(between(-2, 2)),
  Softmax: alongAxis,
  LogSoftmax: alongAxis,
  SoftmaxCrossEntropyLoss: (c) => loss(c, c.int(1, 2)),
  NegativeLogLikelihoodLoss: (c) => loss(c, 1),
};
