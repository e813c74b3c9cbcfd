/**
 * Random graphs of one operator for every gradient rule: its node, its inputs, and which of them are differentiable.
 * Values follow from a seed, and keep away from where an operator has no derivative.
 */

import { type Attribute, float, MICROSOFT, TROUPE } from "../../../nn/onnx/graph.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import type { Chance } from "../engine/operator-cases.ts";
import { ACTIVATION_RULE_CASES } from "./cases/activations.ts";
import { ATTENTION_RULE_CASES } from "./cases/attention.ts";
import { CONVOLUTION_RULE_CASES } from "./cases/convolution.ts";
import { ELEMENTWISE_RULE_CASES } from "./cases/elementwise.ts";
import { LAYOUT_RULE_CASES } from "./cases/layout.ts";
import { NORMALISATION_RULE_CASES } from "./cases/normalisation.ts";
import { PRODUCT_RULE_CASES } from "./cases/products.ts";
import { REDUCTION_RULE_CASES } from "./cases/reductions.ts";

export interface RuleCase {
  /** Undefined where an optional input is left out. */
  readonly inputs: readonly (Tensor | undefined)[];
  readonly attributes?: Readonly<Record<string, Attribute>> | undefined;
  readonly outputs?: number;
  readonly domain?: string;
  /** Indices of inputs given as initializers, as axes and shapes must be. */
  readonly constant?: readonly number[] | undefined;
}

type Maker = (chance: Chance) => RuleCase;

const ints = (values: readonly number[]) => Tensor.i64([values.length], values);

const unary =
  (low = -2, high = 2): Maker =>
  (c) => ({ inputs: [c.f32(c.shape(), low, high)] });

const binary =
  (low = -2, high = 2): Maker =>
  (c) => {
    const shape = c.shape();
    const shapes = [shape, c.narrowed(shape)];
    return { inputs: (c.int(0, 1) ? shapes : shapes.reverse()).map((s) => c.f32(s, low, high)) };
  };

/** Nowhere near zero, on either side of it. */
const offZero: Maker = (c) => {
  const tensor = c.f32(c.shape(), 0.1, 2);
  return {
    inputs: [
      Tensor.f32(
        tensor.shape,
        tensor.f32().map((x) => x * c.pick(-1, 1)),
      ),
    ],
  };
};

const reduction = (c: Chance): RuleCase => {
  const shape = c.shape();
  const keepdims = c.int(0, 1);
  if (c.int(0, 3) === 0) {
    return { inputs: [c.f32(shape)], attributes: { keepdims, noop_with_empty_axes: c.int(0, 1) } };
  }
  return { inputs: [c.f32(shape), ints(c.axes(shape.length))], constant: [1], attributes: { keepdims } };
};

/** C broadcasts to the product in every way that Gemm allows. */
const gemm: Maker = (c) => {
  const [m, k, n] = [c.int(1, 4), c.int(1, 4), c.int(1, 4)];
  const [transA, transB] = [c.int(0, 1), c.int(0, 1)];
  const C = c.pick([[m, n]], [[n]], [[1, n]], [[m, 1]], [[1]], [[]], []);
  const attributes = { transA, transB, alpha: float(c.pick(1, 0.5, -2)), beta: float(c.pick(1, 0.25)) };
  return {
    inputs: [transA ? [k, m] : [m, k], transB ? [n, k] : [k, n], ...C].map((shape) => c.f32(shape)),
    attributes: c.int(0, 3) ? attributes : { transA, transB },
  };
};

/** A FusedMatMul with these flags. */
export const fusedMatMul =
  (flags: Readonly<Record<"transA" | "transB" | "transBatchA" | "transBatchB", number>>): Maker =>
  (c) => {
    // Sizes differ from each other, so that a mistaken transpose does not fit.
    const [m, k, n, batch] = [2, 3, 4, c.pick([5], [2, 1], [3, 2])];
    const operand = (rows: number, columns: number, trans: number, transBatch: number) => {
      const [first, last] = trans ? [columns, rows] : [rows, columns];
      return c.f32(transBatch ? [first, ...batch, last] : [...batch, first, last]);
    };
    return {
      domain: MICROSOFT,
      inputs: [
        operand(m, k, flags.transA, flags.transBatchA),
        operand(k, n, flags.transB, flags.transBatchB),
      ],
      attributes: { ...flags, alpha: float(c.pick(1, 0.125)) },
    };
  };

export const RULE_CASES: Readonly<Record<string, Maker>> = {
  Identity: unary(),
  Add: binary(),
  Sub: binary(),
  Neg: unary(),
  Mul: binary(),
  Div: binary(0.5, 3),
  Exp: unary(),
  Log: unary(0.2, 4),
  Sqrt: unary(0.2, 4),
  Tanh: unary(),
  Sigmoid: unary(-4, 4),
  Relu: offZero,
  Erf: unary(),
  ErfGate: (c) => ({ ...unary()(c), domain: TROUPE }),
  Gemm: gemm,
  ReduceSum: reduction,
  ReduceMean: reduction,
  Reshape: (c) => {
    const [a, b, d] = c.shape(3) as [number, number, number];
    return { inputs: [c.f32([a, b, d]), ints(c.pick([a * b, d], [-1, d], [0, -1]))], constant: [1] };
  },
  Squeeze: (c) => {
    const shape = [1, c.int(1, 4), 1, c.int(2, 4)];
    if (c.int(0, 2) === 0) return { inputs: [c.f32(shape)] };
    return { inputs: [c.f32(shape), ints(c.pick([0], [0, 2], [-4, -2]))], constant: [1] };
  },
  Unsqueeze: (c) => ({ inputs: [c.f32(c.shape(2)), ints(c.pick([0], [-1], [3, 0]))], constant: [1] }),
  Transpose: (c) => {
    const shape = c.shape();
    return c.int(0, 3)
      ? { inputs: [c.f32(shape)], attributes: { perm: c.permutation(shape.length) } }
      : { inputs: [c.f32(shape)] };
  },
  Expand: (c) => {
    const shape = c.shape();
    return { inputs: [c.f32(c.narrowed(shape)), ints(shape)], constant: [1] };
  },
  Concat: (c) => {
    const shape = c.shape();
    const axis = c.int(0, shape.length - 1);
    const parts = Array.from({ length: c.int(1, 3) }, () => c.f32(shape.with(axis, c.int(1, 3))));
    return { inputs: parts, attributes: { axis: c.pick(axis, axis - shape.length) } };
  },
  Split: (c) => {
    const shape = c.shape();
    const axis = c.int(0, shape.length - 1);
    const sizes = Array.from({ length: c.int(1, 3) }, () => c.int(1, 3));
    const total = sizes.reduce((a, b) => a + b, 0);
    const attributes = { axis: c.pick(axis, axis - shape.length) };
    return {
      inputs: [c.f32(shape.with(axis, total)), ints(sizes)],
      constant: [1],
      attributes,
      outputs: sizes.length,
    };
  },
  ...ACTIVATION_RULE_CASES,
  ...CONVOLUTION_RULE_CASES,
  ...ELEMENTWISE_RULE_CASES,
  ...PRODUCT_RULE_CASES,
  ...NORMALISATION_RULE_CASES,
  ...REDUCTION_RULE_CASES,
  ...LAYOUT_RULE_CASES,
  ...ATTENTION_RULE_CASES,
};
