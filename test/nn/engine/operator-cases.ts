/**
 * Random instances of every operator the reference engine has: node, inputs and what must be constant. Shapes and
 * values follow from a seed, so that a failing case can be made again.
 */

import { type Attribute, float } from "../../../nn/onnx/graph.ts";
import { type DType, elements, type Shape, Tensor } from "../../../protocols/tensor.ts";
import { ACTIVATION_CASES } from "./cases/activations.ts";
import { CONVOLUTION_CASES } from "./cases/convolution.ts";
import { ELEMENTWISE_CASES } from "./cases/elementwise.ts";
import { LAYOUT_CASES } from "./cases/layout.ts";
import { NORMALISATION_CASES } from "./cases/normalisation.ts";
import { PRODUCT_CASES } from "./cases/products.ts";
import { QUANTISATION_CASES } from "./cases/quantisation.ts";
import { REDUCTION_CASES } from "./cases/reductions.ts";

type Attributes = Readonly<Record<string, Attribute>>;

export interface OperatorCase {
  readonly inputs: readonly Tensor[];
  /** Indices of inputs given as initializers, as axes and shapes must be. */
  readonly constant?: readonly number[] | undefined;
  readonly attributes?: Attributes | undefined;
  readonly outputs?: number;
  readonly domain?: string;
}

/** Seeded source of sizes and tensors (mulberry32). */
export class Chance {
  private state: number;

  constructor(seed: number) {
    this.state = seed;
  }

  unit(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer from low to high, both included. */
  int(low: number, high: number): number {
    return low + Math.floor(this.unit() * (high - low + 1));
  }

  pick<T>(...values: readonly T[]): T {
    return values[this.int(0, values.length - 1)]!;
  }

  shape(rank = this.int(1, 4)): number[] {
    return Array.from({ length: rank }, () => this.int(1, 5));
  }

  f32(shape: Shape, low = -2, high = 2): Tensor {
    return Tensor.f32(
      shape,
      Array.from({ length: elements(shape) }, () => low + this.unit() * (high - low)),
    );
  }

  i64(shape: Shape, low: number, high: number): Tensor {
    return Tensor.i64(
      shape,
      Array.from({ length: elements(shape) }, () => this.int(low, high)),
    );
  }

  bool(shape: Shape): Tensor {
    return new Tensor(
      "bool",
      shape,
      Uint8Array.from({ length: elements(shape) }, () => this.int(0, 1)),
    );
  }

  /** A shape that broadcasts with this one without widening it. */
  narrowed(shape: Shape): number[] {
    return shape.map((dim) => this.pick(dim, dim, 1)).slice(this.pick(0, 0, this.int(0, shape.length)));
  }

  permutation(rank: number): number[] {
    const rest = Array.from({ length: rank }, (_, i) => i);
    return Array.from({ length: rank }, () => rest.splice(this.int(0, rest.length - 1), 1)[0]!);
  }

  /** Some axes, possibly counted from the end, none twice. */
  axes(rank: number): number[] {
    const chosen = this.permutation(rank).slice(0, this.int(1, rank));
    return chosen.map((axis) => this.pick(axis, axis - rank));
  }
}

type Maker = (chance: Chance) => OperatorCase;

const unary =
  (low = -3, high = 3): Maker =>
  (c) => ({ inputs: [c.f32(c.shape(), low, high)] });

const binary =
  (low = -2, high = 2): Maker =>
  (c) => {
    const shape = c.shape();
    const [a, b] = [shape, c.narrowed(shape)];
    const flipped = c.int(0, 1) === 1;
    return { inputs: (flipped ? [b, a] : [a, b]).map((s) => c.f32(s, low, high)) };
  };

/** Arithmetic on floats or on integers; the divisor is never zero. */
const arithmetic: Maker = (c) => {
  if (c.int(0, 2) > 0) return binary(0.5, 3)(c);
  const shape = c.shape();
  return { inputs: [c.i64(shape, -9, 9), c.i64(c.narrowed(shape), 1, 5)] };
};

/** Small integers, so that equality happens. */
const comparison: Maker = (c) => {
  const shape = c.shape();
  const tensors = [c.i64(shape, 0, 2), c.i64(c.narrowed(shape), 0, 2)];
  if (c.int(0, 1)) return { inputs: tensors };
  return { inputs: tensors.map((t) => Tensor.f32(t.shape, Array.from(t.i64(), Number))) };
};

const variadic: Maker = (c) => {
  const shape = c.shape();
  return { inputs: [shape, c.narrowed(shape), c.narrowed(shape)].map((s) => c.f32(s)) };
};

const reduction: Maker = (c) => {
  const shape = c.shape();
  const attributes = { keepdims: c.int(0, 1) };
  if (c.int(0, 3) === 0) {
    return { inputs: [c.f32(shape)], attributes: { ...attributes, noop_with_empty_axes: c.int(0, 1) } };
  }
  const axes = c.axes(shape.length);
  return { inputs: [c.f32(shape), Tensor.i64([axes.length], axes)], constant: [1], attributes };
};

const alongAxis: Maker = (c) => {
  const shape = c.shape();
  return {
    inputs: [c.f32(shape, -8, 8)],
    attributes: { axis: c.int(-shape.length, shape.length - 1) },
  };
};

const scalar = (dtype: "f32" | "i64", value: number) =>
  dtype === "f32" ? Tensor.f32([], [value]) : Tensor.i64([], [value]);

/** Operands of a Gemm or of one matrix of a product, transposed as the flags say. */
const matrix = (c: Chance, rows: number, columns: number, trans: number) =>
  c.f32(trans ? [columns, rows] : [rows, columns]);

const slice: Maker = (c) => {
  const shape = c.shape();
  const axes = c.axes(shape.length);
  const numbers = (make: () => number) => Tensor.i64([axes.length], axes.map(make));
  const inputs = [
    c.f32(shape),
    numbers(() => c.int(-6, 6)),
    numbers(() => c.pick(c.int(-6, 6), 1000, -1000)),
    Tensor.i64([axes.length], axes),
    numbers(() => c.pick(1, 1, 2, -1, -2)),
  ];
  return { inputs, constant: [1, 2, 3, 4] };
};

const split: Maker = (c) => {
  const shape = c.shape();
  const axis = c.int(0, shape.length - 1);
  const sizes = Array.from({ length: c.int(1, 4) }, () => c.int(1, 3));
  const total = sizes.reduce((a, b) => a + b, 0);
  const data = c.f32(shape.with(axis, total));
  if (c.int(0, 1)) {
    const inputs = [data, Tensor.i64([sizes.length], sizes)];
    const attributes: Attributes = { axis: axis - shape.length };
    return { inputs, constant: [1], attributes, outputs: sizes.length };
  }
  const parts = c.pick(1, 2, total);
  // Parts of equal size but for the last, which must not be empty.
  const fits = Math.ceil(total / parts) * (parts - 1) < total ? parts : 1;
  const attributes: Attributes = { axis, num_outputs: fits };
  return { inputs: [data], attributes, outputs: fits };
};

const pointed =
  (scatter: boolean): Maker =>
  (c) => {
    const shape = c.shape();
    const axis = c.int(-shape.length, shape.length - 1);
    const size = shape.at(axis)!;
    const indices = shape.map((dim, i) => (i === (axis + shape.length) % shape.length ? 2 : c.int(1, dim)));
    const inputs = [c.f32(shape), c.i64(indices, -size, size - 1)];
    const attributes: Attributes = scatter ? { axis, reduction: "add" } : { axis };
    if (scatter) inputs.push(c.f32(indices));
    return { inputs, attributes };
  };

const scatterND: Maker = (c) => {
  const shape = c.shape();
  const depth = c.int(1, shape.length);
  const rows = c.int(1, 6);
  const indices = Array.from({ length: rows }, () => shape.slice(0, depth).map((dim) => c.int(0, dim - 1)));
  return {
    inputs: [c.f32(shape), Tensor.i64([rows, depth], indices.flat()), c.f32([rows, ...shape.slice(depth)])],
    attributes: { reduction: "add" },
  };
};

export const CASES: Readonly<Record<string, Maker>> = {
  Identity: unary(),
  Neg: unary(),
  Abs: unary(),
  Sqrt: unary(0, 9),
  Reciprocal: unary(0.2, 5),
  Exp: unary(),
  Log: unary(0.1, 9),
  Erf: unary(-5, 5),
  Tanh: unary(-5, 5),
  Sigmoid: unary(-5, 5),
  Relu: unary(),
  Sin: unary(-6, 6),
  Cos: unary(-6, 6),
  Add: arithmetic,
  Sub: arithmetic,
  Mul: arithmetic,
  Div: arithmetic,
  Pow: (c) => ({ inputs: [c.f32(c.shape(), 0.1, 3), c.pick(scalar("f32", 2), scalar("f32", c.unit() * 3))] }),
  Min: variadic,
  Max: variadic,
  Sum: variadic,
  Equal: comparison,
  Less: comparison,
  LessOrEqual: comparison,
  Greater: comparison,
  GreaterOrEqual: comparison,
  Where: (c) => {
    const shape = c.shape();
    return { inputs: [c.bool(c.narrowed(shape)), c.f32(shape), c.f32(c.narrowed(shape))] };
  },
  Cast: (c) => {
    const FLOAT = 1;
    const [INT32, INT64, BOOL, DOUBLE] = [6, 7, 9, 11];
    const inputs = [c.pick(c.f32(c.shape(), -9, 9), c.i64(c.shape(), -2, 2), c.bool(c.shape()))];
    return { inputs, attributes: { to: c.pick(FLOAT, INT32, INT64, BOOL, DOUBLE) } };
  },
  Range: (c) => {
    const dtype = c.pick("f32", "i64");
    const [start, delta] = [c.int(-4, 4), c.pick(-2, -1, 1, 3)];
    const limit = start + delta * c.int(0, 5) + c.pick(0, Math.sign(delta));
    return { inputs: [start, limit, delta].map((x) => scalar(dtype as "f32", x)), constant: [0, 1, 2] };
  },
  Trilu: (c) => ({
    inputs: [c.f32(c.shape(c.int(2, 4))), scalar("i64", c.int(-3, 3))],
    constant: [1],
    attributes: { upper: c.int(0, 1) },
  }),
  Reshape: (c) => {
    const [a, b, d] = c.shape(3) as [number, number, number];
    const target = c.pick([a * b, d], [-1, d], [0, -1], [d, a, b], [a * b * d]);
    return { inputs: [c.f32([a, b, d]), Tensor.i64([target.length], target)], constant: [1] };
  },
  Transpose: (c) => {
    const shape = c.shape();
    return {
      inputs: [c.f32(shape)],
      ...(c.int(0, 3) > 0 && { attributes: { perm: c.permutation(shape.length) } }),
    };
  },
  Squeeze: (c) => {
    const shape = [1, c.int(1, 4), 1, c.int(2, 4)];
    const axes = c.pick([0], [2], [0, 2], [-4, -2]);
    if (c.int(0, 2) === 0) return { inputs: [c.f32(shape)] };
    return { inputs: [c.f32(shape), Tensor.i64([axes.length], axes)], constant: [1] };
  },
  Unsqueeze: (c) => {
    const axes = c.pick([0], [-1], [1], [0, 2], [3, 0]);
    return { inputs: [c.f32(c.shape(2)), Tensor.i64([axes.length], axes)], constant: [1] };
  },
  Expand: (c) => {
    const shape = c.shape();
    return { inputs: [c.f32(c.narrowed(shape)), Tensor.i64([shape.length], shape)], constant: [1] };
  },
  Concat: (c) => {
    const shape = c.shape();
    const axis = c.int(0, shape.length - 1);
    const parts = Array.from({ length: c.int(1, 3) }, () => c.f32(shape.with(axis, c.int(1, 3))));
    return { inputs: parts, attributes: { axis: c.pick(axis, axis - shape.length) } };
  },
  Split: split,
  Slice: slice,
  Constant: (c) => ({ inputs: [], attributes: { value: c.f32(c.shape()) } }),
  ConstantOfShape: (c) => {
    const shape = c.shape();
    const attributes = c.pick<Attributes>(
      {},
      { value: Tensor.i64([1], [7]) },
      { value: Tensor.f32([1], [0.5]) },
    );
    return { inputs: [Tensor.i64([shape.length], shape)], constant: [0], attributes };
  },
  Shape: (c) => ({
    inputs: [c.f32(c.shape(3))],
    attributes: c.pick<Attributes>({}, { start: 1 }, { start: -2, end: -1 }),
  }),
  Gemm: (c) => {
    const [m, k, n] = [c.int(1, 6), c.int(1, 6), c.int(1, 6)];
    const [transA, transB] = [c.int(0, 1), c.int(0, 1)];
    const bias = c.pick([[m, n]], [[n]], [[m, 1]], [[]], []).map((shape) => c.f32(shape));
    const attributes = { transA, transB, alpha: float(c.pick(1, 0.5)), beta: float(c.pick(1, 0.25)) };
    return { inputs: [matrix(c, m, k, transA), matrix(c, k, n, transB), ...bias], attributes };
  },
  ReduceSum: reduction,
  ReduceMean: reduction,
  ReduceMax: reduction,
  ReduceSumSquare: reduction,
  Softmax: alongAxis,
  LogSoftmax: alongAxis,
  LayerNormalization: (c) => {
    const shape = c.shape();
    const axis = c.int(0, shape.length - 1);
    const inputs = [c.f32(shape), c.f32(shape.slice(axis)), c.f32(shape.slice(axis))];
    return {
      inputs: inputs.slice(0, c.int(2, 3)),
      attributes: { axis: c.pick(axis, axis - shape.length), epsilon: float(0.01) },
      outputs: 3,
    };
  },
  Gather: (c) => {
    const shape = c.shape();
    const axis = c.int(-shape.length, shape.length - 1);
    const size = shape.at(axis)!;
    return { inputs: [c.f32(shape), c.i64(c.shape(c.int(0, 2)), -size, size - 1)], attributes: { axis } };
  },
  GatherElements: pointed(false),
  ScatterElements: pointed(true),
  ScatterND: scatterND,
  ...ACTIVATION_CASES,
  ...CONVOLUTION_CASES,
  ...ELEMENTWISE_CASES,
  ...PRODUCT_CASES,
  ...NORMALISATION_CASES,
  ...QUANTISATION_CASES,
  ...REDUCTION_CASES,
  ...LAYOUT_CASES,
};

/** dtype[shape] of each input, for messages. */
export function describeInputs(inputs: readonly { dtype: DType; shape: Shape }[]): string {
  return inputs.map(({ dtype, shape }) => `${dtype}[${shape}]`).join(" ");
}
