/** What `operators.ts` compares: pairs of graphs that compute the same, the slow one and the one that is written. */

import type { Attribute, Node, ValueInfo } from "../../nn/onnx/graph.ts";
import { float, MICROSOFT } from "../../nn/onnx/graph.ts";

export interface Sizes {
  readonly rows: number;
  readonly columns: number;
  readonly vocabulary: number;
  readonly width: number;
}

/** Nodes from a comparison's inputs and constants to `y`. */
export interface Spelling {
  /** As a reader would write it. */
  readonly text: string;
  readonly nodes: readonly Node[];
  /** The input whose memory `y` takes: its last reader is the node that writes `y`. */
  readonly inPlace?: string;
}

export interface Comparison {
  readonly what: string;
  readonly inputs: readonly ValueInfo[];
  /** Constants: 64-bit integers by name. */
  readonly integers?: Readonly<Record<string, readonly number[]>>;
  /** Constants: f32 scalars, or vectors of one value, by name. */
  readonly floats?: Readonly<
    Record<string, { readonly shape: readonly number[]; readonly values: readonly number[] }>
  >;
  readonly y: ValueInfo["shape"];
  readonly slow: Spelling;
  readonly fast: Spelling;
}

const node = (
  op: string,
  inputs: string,
  output: string,
  attributes: Record<string, Attribute> = {},
  domain = "",
): Node => ({ op, domain, inputs: inputs.split(" "), outputs: output.split(" "), attributes });

const f32 = (name: string, ...shape: number[]): ValueInfo => ({ name, dtype: "f32", shape });
const i64 = (name: string, ...shape: number[]): ValueInfo => ({ name, dtype: "i64", shape });

/** i64 inputs hold class numbers below `vocabulary`. */
export const COMPARISONS: readonly ((sizes: Sizes) => Comparison)[] = [
  ({ rows, columns }) => ({
    what: "square, the exponent in a tensor",
    ...{ inputs: [f32("x", rows, columns), f32("two", rows, columns)], y: [rows, columns] },
    slow: { text: "Pow(x, [2, 2, …])", nodes: [node("Pow", "x two", "y")] },
    fast: { text: "Mul(x, x)", nodes: [node("Mul", "x x", "y")] },
  }),
  ({ rows, columns }) => ({
    what: "square, the exponent a scalar",
    ...{ inputs: [f32("x", rows, columns)], y: [rows, columns] },
    floats: { two: { shape: [], values: [2] } },
    slow: { text: "Pow(x, 2)", nodes: [node("Pow", "x two", "y")] },
    fast: { text: "Mul(x, x)", nodes: [node("Mul", "x x", "y")] },
  }),
  ({ rows, columns }) => ({
    what: "sum of squares of each column",
    ...{ inputs: [f32("x", rows, columns)], y: [1, columns], integers: { axes: [0] } },
    slow: { text: "ReduceSumSquare(x), axis 0", nodes: [node("ReduceSumSquare", "x axes", "y")] },
    fast: {
      text: "ReduceSum(Mul(x, x)), axis 0",
      nodes: [node("Mul", "x x", "s"), node("ReduceSum", "s axes", "y")],
    },
  }),
  ({ rows, columns }) => ({
    what: "sum of each column, as a bias's gradient is",
    ...{ inputs: [f32("x", rows, columns)], y: [1, columns], integers: { axes: [0] } },
    floats: { ones: { shape: [1, rows], values: Array(rows).fill(1) } },
    slow: { text: "ReduceSum(x), axis 0", nodes: [node("ReduceSum", "x axes", "y")] },
    fast: { text: "Gemm([1, 1, …], x)", nodes: [node("Gemm", "ones x", "y")] },
  }),
  ({ rows, columns }) => ({
    what: "weight gradient of a wide layer",
    ...{ inputs: [f32("x", rows, columns), f32("d", rows, columns)], y: [columns, columns] },
    slow: { text: "Gemm(x, d) with transA", nodes: [node("Gemm", "x d", "y", { transA: 1 })] },
    fast: {
      text: "Gemm(Transpose(x), d)",
      nodes: [node("Transpose", "x", "t", { perm: [1, 0] }), node("Gemm", "t d", "y")],
    },
  }),
  ({ rows, columns }) => ({
    what: "weights of one tap by a scalar, as in an optimiser",
    ...{ inputs: [f32("x", rows, columns, 1, 1)], y: [rows, columns, 1, 1] },
    integers: { flat: [-1], shape: [rows, columns, 1, 1] },
    floats: { half: { shape: [], values: [0.5] } },
    slow: { text: "Mul(x, ½)", nodes: [node("Mul", "x half", "y")] },
    fast: {
      text: "Mul of a vector between two Reshapes",
      nodes: [node("Reshape", "x flat", "v"), node("Mul", "v half", "h"), node("Reshape", "h shape", "y")],
    },
  }),
  ({ rows, columns }) => ({
    what: "a sum and its layer normalisation",
    ...{ inputs: [f32("x", rows, columns), f32("r", rows, columns)], y: [rows, columns] },
    floats: {
      g: { shape: [columns], values: Array(columns).fill(1) },
      b: { shape: [columns], values: Array(columns).fill(0) },
    },
    slow: {
      text: "SkipLayerNormalization(x, r)",
      nodes: [node("SkipLayerNormalization", "x r g b", "y", { epsilon: float(1e-5) }, MICROSOFT)],
    },
    fast: {
      text: "LayerNormalization(Add(x, r)) with mean and deviation",
      nodes: [
        node("Add", "x r", "s"),
        node("LayerNormalization", "s g b", "y mean deviation", { epsilon: float(1e-5) }),
      ],
    },
  }),
  ({ rows, vocabulary }) => ({
    what: "gradient of cross-entropy: probabilities less one at each target",
    ...{ inputs: [f32("p", rows, vocabulary), i64("t", rows, 1)], y: [rows, vocabulary] },
    integers: { classes: [vocabulary], axis: [1] },
    floats: {
      values: { shape: [2], values: [0, 1] },
      minus: { shape: [rows, 1], values: Array(rows).fill(-1) },
    },
    slow: {
      text: "Sub(p, OneHot(t))",
      nodes: [
        node("Squeeze", "t axis", "s"),
        node("OneHot", "s classes values", "h"),
        node("Sub", "p h", "y"),
      ],
    },
    fast: {
      text: "ScatterElements(p, t, −1), add, in place",
      nodes: [node("ScatterElements", "p t minus", "y", { axis: 1, reduction: "add" })],
      inPlace: "p",
    },
  }),
  ({ rows, vocabulary, width }) => ({
    what: "gradient of an embedding, added to what there is",
    ...{ inputs: [f32("acc", vocabulary, width), i64("t", rows, 1), f32("g", rows, width)] },
    y: [vocabulary, width],
    integers: { classes: [vocabulary], axis: [1] },
    floats: { values: { shape: [2], values: [0, 1] } },
    slow: {
      text: "Gemm(OneHot(t), g, acc) with transA, in place",
      nodes: [
        node("Squeeze", "t axis", "s"),
        node("OneHot", "s classes values", "h"),
        node("Gemm", "h g acc", "y", { transA: 1 }),
      ],
      inPlace: "acc",
    },
    fast: {
      text: "ScatterND(acc, t, g), add, in place",
      nodes: [node("ScatterND", "acc t g", "y", { reduction: "add" })],
      inPlace: "acc",
    },
  }),
];
