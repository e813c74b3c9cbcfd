/** Operators that look along axes: reductions, softmax, layer normalisation. */

import { elements } from "../../../protocols/tensor.ts";
import { floatAttribute, intAttribute, intsAttribute, normalAxis } from "../../onnx/shapes.ts";
import { compute, expand, type NdArray, reshape, transpose } from "./ndarray.ts";
import type { Call, Operator, Operators } from "./operator.ts";

/** The elements that each result is made of, with the axes that are looked along moved to the end. */
export function rows(array: NdArray, axes: readonly number[]): (row: number) => Float64Array {
  const others = array.shape.map((_, axis) => axis).filter((axis) => !axes.includes(axis));
  const { data } = transpose(array, [...others, ...axes]);
  const length = elements(axes.map((axis) => array.shape[axis]!));
  return (row) => data.subarray(row * length, (row + 1) * length);
}

const reduction =
  (f: (values: Float64Array) => number): Operator =>
  (call) => {
    const array = call.input(0);
    const { shape } = array;
    const given = call.optionalNumbers(1) ?? intsAttribute(call.node, "axes") ?? [];
    const all = given.length === 0 && intAttribute(call.node, "noop_with_empty_axes", 0) === 0;
    const axes = all ? shape.map((_, axis) => axis) : given.map((axis) => normalAxis(axis, shape.length));
    const at = rows(array, axes);
    const kept = shape.map((dim, axis) => (axes.includes(axis) ? 1 : dim));
    const result = compute(array.dtype, kept, (i) => f(at(i)));
    const keepDims = intAttribute(call.node, "keepdims", 1) === 1;
    return [
      keepDims
        ? result
        : reshape(
            result,
            kept.filter((_, axis) => !axes.includes(axis)),
          ),
    ];
  };

export function sum(values: Float64Array): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i]!;
  return total;
}
const product = (values: Float64Array) => values.reduce((a, b) => a * b, 1);
const sumOfSquares = (values: Float64Array) => sum(values.map((x) => x * x));
const min = (values: Float64Array) => values.reduce((a, b) => Math.min(a, b), Infinity);
const max = (values: Float64Array) => values.reduce((a, b) => Math.max(a, b), -Infinity);

/** log Σ exp(x), shifted by the largest element so that nothing overflows. */
export function logSumExp(values: Float64Array): number {
  const top = max(values);
  return top + Math.log(sum(values.map((x) => Math.exp(x - top))));
}

/** Maps each line along one axis; `f` is given a line and gives a function of its elements. */
function alongAxis(
  call: Call,
  f: (line: Float64Array) => (x: number, at: number) => number,
): readonly NdArray[] {
  const array = call.input(0);
  const axis = normalAxis(intAttribute(call.node, "axis", -1), array.shape.length);
  const order = array.shape.map((_, i) => i).filter((i) => i !== axis);
  const perm = [...order, axis];
  const lines = transpose(array, perm);
  const size = array.shape[axis]!;
  const result = new Float64Array(lines.data.length);
  for (let start = 0; start < result.length; start += size) {
    const line = lines.data.subarray(start, start + size);
    result.set(line.map(f(line)), start);
  }
  const back = perm.map((_, i) => perm.indexOf(i));
  const { dtype, shape, data } = transpose({ ...lines, data: result }, back);
  return [compute(dtype, shape, (i) => data[i]!)];
}

const softmax: Operator = (call) =>
  alongAxis(call, (line) => {
    const total = logSumExp(line);
    return (x) => Math.exp(x - total);
  });

const logSoftmax: Operator = (call) =>
  alongAxis(call, (line) => {
    const total = logSumExp(line);
    return (x) => x - total;
  });

/** One at the first of the largest elements of each line, and zero elsewhere. */
const hardmax: Operator = (call) =>
  alongAxis(call, (line) => {
    const top = line.indexOf(max(line));
    return (_, at) => Number(at === top);
  });

/** Where the extreme element of each line is: the first of equals, or the last of them where the node says so. */
const argument =
  (f: (line: Float64Array) => number): Operator =>
  (call) => {
    const array = call.input(0);
    const axis = normalAxis(intAttribute(call.node, "axis", 0), array.shape.length);
    const last = intAttribute(call.node, "select_last_index", 0) === 1;
    const keep = intAttribute(call.node, "keepdims", 1) === 1;
    const shape = keep ? array.shape.with(axis, 1) : array.shape.filter((_, i) => i !== axis);
    const at = rows(array, [axis]);
    return [
      compute("i64", shape, (i) => {
        const line = at(i);
        return last ? line.lastIndexOf(f(line)) : line.indexOf(f(line));
      }),
    ];
  };

/** Ba, Kiros and Hinton, arXiv:1607.06450. Gives the result, the means and the inverse standard deviations. */
const layerNormalization: Operator = (call) => {
  const array = call.input(0);
  const { dtype, shape, data } = array;
  const axis = normalAxis(intAttribute(call.node, "axis", -1), shape.length);
  const epsilon = floatAttribute(call.node, "epsilon", 1e-5);
  const axes = shape.map((_, i) => i).slice(axis);
  const size = elements(shape.slice(axis));
  const at = rows(array, axes);
  const means = Float64Array.from({ length: data.length / size }, (_, row) => sum(at(row)) / size);
  const inverses = means.map((mean, row) => {
    const variance = sum(at(row).map((x) => (x - mean) ** 2)) / size;
    return 1 / Math.sqrt(variance + epsilon);
  });
  const scale = expand(call.input(1), shape).data;
  const bias = call.inputs[2] && expand(call.inputs[2], shape).data;
  const statistics = shape.map((dim, i) => (i < axis ? dim : 1));
  return [
    compute(dtype, shape, (i) => {
      const row = Math.floor(i / size);
      return (data[i]! - means[row]!) * inverses[row]! * scale[i]! + (bias?.[i] ?? 0);
    }),
    compute("f32", statistics, (row) => means[row]!),
    compute("f32", statistics, (row) => inverses[row]!),
  ];
};

export const reductions: Operators = {
  ReduceSum: reduction(sum),
  ReduceMean: reduction((values) => sum(values) / values.length),
  ReduceMax: reduction(max),
  ReduceMin: reduction(min),
  ReduceProd: reduction(product),
  ReduceL1: reduction((values) => sum(values.map(Math.abs))),
  ReduceL2: reduction((values) => Math.sqrt(sumOfSquares(values))),
  ReduceSumSquare: reduction(sumOfSquares),
  ReduceLogSum: reduction((values) => Math.log(sum(values))),
  ReduceLogSumExp: reduction(logSumExp),
  ArgMax: argument(max),
  ArgMin: argument(min),
  Softmax: softmax,
  LogSoftmax: logSoftmax,
  Hardmax: hardmax,
  LayerNormalization: layerNormalization,
};
