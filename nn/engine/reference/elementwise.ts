/** Operators that look at one element of each input at a time: arithmetic, comparisons, activations, Cast. */

import { type DType, elements } from "../../../protocols/tensor.ts";
import { dtypeOf } from "../../onnx/datatype.ts";
import { intAttribute } from "../../onnx/shapes.ts";
import { broadcastAll, compute, type NdArray } from "./ndarray.ts";
import type { Operator, Operators } from "./operator.ts";
import { erf, roundHalfToEven } from "./special.ts";

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
    const [first, ...rest] = broadcastAll(call.present(), call.node);
    if (!first) throw call.error("input 0 is missing");
    const [a, b] = [first.data, rest[0]?.data];
    if (b && rest.length === 1) return [compute(dtype ?? first.dtype, first.shape, (i) => f(a[i]!, b[i]!))];
    const values = first.data.slice();
    for (const { data } of rest) {
      for (let i = 0; i < values.length; i++) values[i] = f(values[i]!, data[i]!);
    }
    return [compute(dtype ?? first.dtype, first.shape, (i) => values[i]!)];
  };

const compare = (f: (x: number, y: number) => boolean) => fold((x, y) => Number(f(x, y)), "bool");

const where: Operator = (call) => {
  const [condition, x, y] = broadcastAll([call.input(0), call.input(1), call.input(2)], call.node);
  return [compute(x!.dtype, x!.shape, (i) => (condition!.data[i] ? x : y)!.data[i]!)];
};

const converted = (array: NdArray, dtype: DType) => compute(dtype, array.shape, (i) => array.data[i]!);

const cast: Operator = (call) => {
  const to = intAttribute(call.node, "to", 0);
  const dtype = dtypeOf(to);
  if (!dtype) throw call.error(`no cast to element type ${to}`);
  return [converted(call.input(0), dtype)];
};

const castLike: Operator = (call) => [converted(call.input(0), call.input(1).dtype)];

/** Both bounds are included, and either may be left out. */
const clip: Operator = (call) => {
  const [low, high] = [call.optionalNumbers(1)?.[0] ?? -Infinity, call.optionalNumbers(2)?.[0] ?? Infinity];
  return unary((x) => Math.min(Math.max(x, low), high))(call);
};

const mean: Operator = (call) => {
  const [total] = fold((x, y) => x + y, "f64")(call);
  return [compute(call.input(0).dtype, total!.shape, (i) => total!.data[i]! / call.present().length)];
};

/** The sign of the divisor, as Python's, or with fmod of the dividend, as C's. */
const mod: Operator = (call) => {
  const truncated = intAttribute(call.node, "fmod", 0) === 1;
  return fold((x, y) => (truncated ? x % y : x - y * Math.floor(x / y)))(call);
};

/** The exponent may be of another type. */
const pow: Operator = (call) => {
  const [x, p] = broadcastAll([call.input(0), call.input(1)], call.node);
  return [compute(x!.dtype, x!.shape, (i) => x!.data[i]! ** p!.data[i]!)];
};

const isInf: Operator = (call) => {
  const positive = intAttribute(call.node, "detect_positive", 1) === 1;
  const negative = intAttribute(call.node, "detect_negative", 1) === 1;
  const { shape, data } = call.input(0);
  const found = (x: number) => (positive && x === Infinity) || (negative && x === -Infinity);
  return [compute("bool", shape, (i) => Number(found(data[i]!)))];
};

const isNotANumber: Operator = (call) => {
  const { shape, data } = call.input(0);
  return [compute("bool", shape, (i) => Number(Number.isNaN(data[i]!)))];
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

/** A product of 32-bit integers wraps around, and does not fit in a double before it does. */
const multiply: Operator = (call) => fold(call.input(0).dtype === "i32" ? Math.imul : (x, y) => x * y)(call);

export const elementwise: Operators = {
  Identity: unary((x) => x),
  Neg: unary((x) => -x),
  Abs: unary(Math.abs),
  Sqrt: unary(Math.sqrt),
  Reciprocal: unary((x) => 1 / x),
  Exp: unary(Math.exp),
  Log: unary(Math.log),
  Erf: unary(erf),
  Sin: unary(Math.sin),
  Cos: unary(Math.cos),
  Tan: unary(Math.tan),
  Asin: unary(Math.asin),
  Acos: unary(Math.acos),
  Atan: unary(Math.atan),
  Sinh: unary(Math.sinh),
  Cosh: unary(Math.cosh),
  Asinh: unary(Math.asinh),
  Acosh: unary(Math.acosh),
  Atanh: unary(Math.atanh),
  Sign: unary(Math.sign),
  Floor: unary(Math.floor),
  Ceil: unary(Math.ceil),
  Round: unary(roundHalfToEven),
  Not: unary((x) => Number(x === 0)),
  IsNaN: isNotANumber,
  IsInf: isInf,
  Add: fold((x, y) => x + y),
  Sub: fold((x, y) => x - y),
  Mul: multiply,
  Div: fold((x, y) => x / y),
  Mod: mod,
  Pow: pow,
  Min: fold(Math.min),
  Max: fold(Math.max),
  Sum: fold((x, y) => x + y),
  Mean: mean,
  And: fold((x, y) => x && y),
  Or: fold((x, y) => x || y),
  Xor: fold((x, y) => x ^ y),
  Equal: compare((x, y) => x === y),
  Less: compare((x, y) => x < y),
  LessOrEqual: compare((x, y) => x <= y),
  Greater: compare((x, y) => x > y),
  GreaterOrEqual: compare((x, y) => x >= y),
  Where: where,
  Clip: clip,
  Cast: cast,
  CastLike: castLike,
  Range: range,
  Trilu: trilu,
};
