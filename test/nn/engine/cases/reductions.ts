/** Cases of reductions and losses: see operator-cases.ts. */

import { elements, Tensor } from "../../../../protocols/tensor.ts";
import type { Chance, OperatorCase } from "../operator-cases.ts";

type Maker = (chance: Chance) => OperatorCase;

const reduction =
  (low = -2, high = 2): Maker =>
  (c) => {
    const shape = c.shape();
    const [x, keepdims] = [c.f32(shape, low, high), c.int(0, 1)];
    if (c.int(0, 3) === 0) return { inputs: [x], attributes: { keepdims } };
    const axes = c.axes(shape.length);
    return { inputs: [x, Tensor.i64([axes.length], axes)], constant: [1], attributes: { keepdims } };
  };

/** With equal elements, so that the first and the last of them differ. */
const argument: Maker = (c) => {
  const shape = c.shape();
  const few = c.i64(shape, 0, 3);
  const attributes = {
    axis: c.int(-shape.length, shape.length - 1),
    keepdims: c.int(0, 1),
    select_last_index: c.int(0, 1),
  };
  return { inputs: [Tensor.f32(shape, Array.from(few.i64(), Number))], attributes };
};

/** Scores or log-probabilities with classes, some of them ignored, with weights or without. */
const loss =
  (outputs: number): Maker =>
  (c): OperatorCase => {
    const shape = [c.int(2, 4), c.int(2, 4), ...c.shape(c.int(0, 2))];
    const others = shape.filter((_, i) => i !== 1);
    const [reduction, ignore] = [c.pick("mean", "sum", "none"), c.pick(undefined, 0, -100)];
    const classes = Array.from({ length: elements(others) }, (_, i) =>
      // One at least counts: a mean over nothing is no number.
      i > 0 && ignore !== undefined && c.int(0, 2) === 0 ? ignore : c.int(1, shape[1]! - 1),
    );
    const weights = c.pick([], [c.f32([shape[1]!], 0.5, 2)]);
    return {
      inputs: [c.f32(shape, -4, 4), Tensor.i64(others, classes), ...weights],
      attributes: ignore === undefined ? { reduction } : { reduction, ignore_index: ignore },
      outputs,
    };
  };

export const REDUCTION_CASES: Readonly<Record<string, Maker>> = {
  ReduceMin: reduction(),
  ReduceProd: reduction(),
  ReduceL1: reduction(),
  ReduceL2: reduction(),
  ReduceLogSum: reduction(0.25, 3),
  ReduceLogSumExp: reduction(),
  ArgMax: argument,
  ArgMin: argument,
  Hardmax: (c) => {
    const shape = c.shape();
    return { inputs: [c.f32(shape)], attributes: { axis: c.int(-shape.length, shape.length - 1) } };
  },
  SoftmaxCrossEntropyLoss: (c) => loss(c.int(1, 2))(c),
  NegativeLogLikelihoodLoss: loss(1),
};
