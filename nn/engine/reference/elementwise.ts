/** Operators that look at one element of each input at a time: arithmetic, comparisons, activations, Cast. */

import { type DType, elements } from "../../../protocols/tensor.ts";
import { describe, intAttribute } from "../../onnx/shapes.ts";
import { broadcastAll, compute } from "./ndarray.ts";
import type { Operator, Operators } from "./operator.ts";
import { erf } from "./special.ts";

const unary =
  (f: (x: number) => number): Operator =>
  (call) => {
    const { dtype, shape, data } = call.input(0);
    return [compute(dtype, shape, (i) => f(data[i]!))];
  };

/** Folds any number of broadcast inputs from the left; the result has the inputs' dtype, or the one given. */
const fold =
  (f: (x: number, y: number) => number, dtype?: DType): Operator =>
  (call) => {
    const [first, ...rest] = broadcastAll(call.present(), describe(call.node));
    if (!first) throw call.error("input 0 is missing");
    const values = first.data.slice();
    for (const { data } of rest) {
      for (let i = 0; i < values.length; i++) values[i] = f(values[i]!, data[i]!);
    }
    return [compute(dtype ?? first.dtype, first.shape, (i) => values[i]!)];
  };

const compare = (f: (x: number, y: number) => boolean) => fold((x, y) => Number(f(x, y)), "bool");

const where: Operator = (call) => {
  const [condition, x, y] = broadcastAll([call.input(0), call.input(1), call.input(2)], describe(call.node));
  return [compute(x!.dtype, x!.shape, (i) => (condition!.data[i] ? x : y)!.data[i]!)];
};

/** TensorProto.DataType. */
const CAST: Readonly<Record<number, DType>> = {
  1: "f32",
  2: "u8",
  3: "i8",
  6: "i32",
  7: "i64",
  9: "bool",
  11: "f64",
};

const cast: Operator = (call) => {
  const { shape, data } = call.input(0);
  const to = intAttribute(call.node, "to", 0);
  const dtype = CAST[to];
  if (!dtype) throw call.error(`no cast to element type ${to}`);
  return [compute(dtype, shape, (i) => data[i]!)];
};

/** Hendrycks and Gimpel, arXiv:1606.08415: exact, or its tanh approximation. */
const gelu: Operator = (call) => {
  const approximate = call.node.attributes.approximate ?? "none";
  const cdf =
    approximate === "tanh"
      ? (x: number) => 0.5 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))
      : (x: number) => 0.5 * (1 + erf(x / Math.SQRT2));
  return unary((x) => x * cdf(x))(call);
};

const range: Operator = (call) => {
  const { dtype } = call.input(0);
  const [[start], [limit], [delta]] = [call.numbers(0), call.numbers(1), call.numbers(2)];
  const count = Math.max(0, Math.ceil((limit! - start!) / delta!));
  return [compute(dtype, [count], (i) => start! + i * delta!)];
};

/** Keeps the upper (or lower) triangle of the last two axes, counted from diagonal k. */
const trilu: Operator = (call) => {
  const { dtype, shape, data } = call.input(0);
  const upper = intAttribute(call.node, "upper", 1) === 1;
  const k = call.optionalNumbers(1)?.[0] ?? 0;
  const columns = shape.at(-1)!;
  const matrix = elements(shape.slice(-2));
  return [
    compute(dtype, shape, (i) => {
      const row = Math.floor((i % matrix) / columns);
      const above = (i % columns) - row - k;
      return (upper ? above >= 0 : above <= 0) ? data[i]! : 0;
    }),
  ];
};

export const elementwise: Operators = {
  Identity: unary((x) => x),
  Neg: unary((x) => -x),
  Abs: unary(Math.abs),
  Sqrt: unary(Math.sqrt),
  Reciprocal: unary((x) => 1 / x),
  Exp: unary(Math.exp),
  Log: unary(Math.log),
  Erf: unary(erf),
  Tanh: unary(Math.tanh),
  Sigmoid: unary((x) => 1 / (1 + Math.exp(-x))),
  Relu: unary((x) => Math.max(0, x)),
  Sin: unary(Math.sin),
  Cos: unary(Math.cos),
  Gelu: gelu,
  Add: fold((x, y) => x + y),
  Sub: fold((x, y) => x - y),
  Mul: fold((x, y) => x * y),
  Div: fold((x, y) => x / y),
  Pow: fold((x, y) => x ** y),
  Min: fold(Math.min),
  Max: fold(Math.max),
  Sum: fold((x, y) => x + y),
  Equal: compare((x, y) => x === y),
  Less: compare((x, y) => x < y),
  LessOrEqual: compare((x, y) => x <= y),
  Greater: compare((x, y) => x > y),
  GreaterOrEqual: compare((x, y) => x >= y),
  Where: where,
  Cast: cast,
  Range: range,
  Trilu: trilu,
};
