/** Operators that move elements or make constants, without arithmetic. */

import { elements, Tensor } from "../../../protocols/tensor.ts";
import { broadcast, describe, intAttribute, intsAttribute, normalAxis } from "../../onnx/shapes.ts";
import { compute, expand, type NdArray, read, reshape, strided, stridesOf, transpose } from "./ndarray.ts";
import type { Operator, Operators } from "./operator.ts";

const reshapeTo: Operator = (call) => {
  const array = call.input(0);
  const keepZero = intAttribute(call.node, "allowzero", 0) === 1;
  const wanted = call.numbers(1).map((dim, axis) => (dim === 0 && !keepZero ? array.shape[axis]! : dim));
  const known = wanted.filter((dim) => dim !== -1).reduce((a, b) => a * b, 1);
  const shape = wanted.map((dim) => (dim === -1 ? elements(array.shape) / known : dim));
  if (elements(shape) !== elements(array.shape)) {
    throw call.error(`[${array.shape}] does not reshape to [${wanted}]`);
  }
  return [reshape(array, shape)];
};

const transposed: Operator = (call) => {
  const array = call.input(0);
  const perm = intsAttribute(call.node, "perm") ?? array.shape.map((_, i) => array.shape.length - 1 - i);
  return [transpose(array, perm)];
};

const squeeze: Operator = (call) => {
  const array = call.input(0);
  const axes = call.optionalNumbers(1)?.map((axis) => normalAxis(axis, array.shape.length));
  return [
    reshape(
      array,
      array.shape.filter((dim, axis) => (axes ? !axes.includes(axis) : dim !== 1)),
    ),
  ];
};

const unsqueeze: Operator = (call) => {
  const array = call.input(0);
  const given = call.numbers(1);
  const rank = array.shape.length + given.length;
  const axes = given.map((axis) => normalAxis(axis, rank));
  const rest = array.shape.values();
  const shape = Array.from({ length: rank }, (_, axis) => (axes.includes(axis) ? 1 : rest.next().value!));
  return [reshape(array, shape)];
};

const expanded: Operator = (call) => {
  const array = call.input(0);
  return [expand(array, broadcast(array.shape, call.numbers(1), describe(call.node)))];
};

const concat: Operator = (call) => {
  const arrays = call.present();
  const { dtype, shape } = call.input(0);
  const axis = normalAxis(intAttribute(call.node, "axis", 0), shape.length);
  const total = arrays.reduce((sum, array) => sum + array.shape[axis]!, 0);
  const result = compute(dtype, shape.with(axis, total), () => 0);
  const outer = elements(shape.slice(0, axis));
  const row = elements(result.shape.slice(axis));
  let start = 0;
  for (const { data } of arrays) {
    const length = data.length / outer;
    for (let i = 0; i < outer; i++)
      result.data.set(data.subarray(i * length, (i + 1) * length), i * row + start);
    start += length;
  }
  return [result];
};

/** `size` elements along one axis, from `start`, by `step`. */
function along(array: NdArray, axis: number, start: number, size: number, step = 1): NdArray {
  const strides = stridesOf(array.shape);
  const offset = start * strides[axis]!;
  return strided(array, array.shape.with(axis, size), strides.with(axis, strides[axis]! * step), offset);
}

const split: Operator = (call) => {
  const array = call.input(0);
  const axis = normalAxis(intAttribute(call.node, "axis", 0), array.shape.length);
  const parts = intAttribute(call.node, "num_outputs", call.node.outputs.length);
  const size = array.shape[axis]!;
  const chunk = Math.ceil(size / parts);
  const sizes =
    call.optionalNumbers(1) ?? Array.from({ length: parts }, (_, i) => Math.min(chunk, size - i * chunk));
  let start = 0;
  return sizes.map((length) => {
    const part = along(array, axis, start, length);
    start += length;
    return part;
  });
};

const slice: Operator = (call) => {
  let array = call.input(0);
  const [starts, ends] = [call.numbers(1), call.numbers(2)];
  const axes = call.optionalNumbers(3) ?? starts.map((_, i) => i);
  const steps = call.optionalNumbers(4) ?? starts.map(() => 1);
  axes.forEach((given, i) => {
    const axis = normalAxis(given, array.shape.length);
    const size = array.shape[axis]!;
    const step = steps[i]!;
    // A backward slice may end before element 0, a forward one may start after the last.
    const [low, high] = step > 0 ? [0, size] : [-1, size - 1];
    const clamp = (at: number) => Math.min(Math.max(at < 0 ? at + size : at, low), high);
    const start = clamp(starts[i]!);
    const count = Math.max(0, Math.ceil((clamp(ends[i]!) - start) / step));
    array = along(array, axis, start, count, step);
  });
  return [array];
};

const constant: Operator = (call) => {
  const { value } = call.node.attributes;
  if (!(value instanceof Tensor)) throw call.error("only the attribute `value` (a tensor) is supported");
  return [read(value)];
};

const constantOfShape: Operator = (call) => {
  const { value } = call.node.attributes;
  const fill = value instanceof Tensor ? read(value) : { dtype: "f32" as const, data: [0] };
  return [compute(fill.dtype, call.numbers(0), () => fill.data[0]!)];
};

const shapeOf: Operator = (call) => {
  const { shape } = call.input(0);
  const start = intAttribute(call.node, "start", 0);
  const dims = shape.slice(start, intAttribute(call.node, "end", shape.length));
  return [compute("i64", [dims.length], (i) => dims[i]!)];
};

export const layout: Operators = {
  Reshape: reshapeTo,
  Transpose: transposed,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Expand: expanded,
  Concat: concat,
  Split: split,
  Slice: slice,
  Constant: constant,
  ConstantOfShape: constantOfShape,
  Shape: shapeOf,
};
