/** Operators that move elements along axes. */

import { elements } from "../../../protocols/tensor.ts";
import { intAttribute, intsAttribute, normalAxis, padAmounts, sliceCuts } from "../../onnx/shapes.ts";
import {
  broadcastShape,
  compute,
  eachIndex,
  expand,
  type NdArray,
  reshape,
  strided,
  stridesOf,
  transpose,
} from "./ndarray.ts";
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
  return [expand(array, broadcastShape(array.shape, call.numbers(1), call.node))];
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
  const array = call.input(0);
  const [starts, ends, axes, steps] = [1, 2, 3, 4].map((index) => call.optionalNumbers(index));
  return [
    sliceCuts(call.node, array.shape, starts!, ends!, axes, steps).reduce(
      (part, { axis, start, count, step }) => along(part, axis, start, count, step),
      array,
    ),
  ];
};

const flatten: Operator = (call) => {
  const array = call.input(0);
  const axis = normalAxis(intAttribute(call.node, "axis", 1), array.shape.length);
  return [reshape(array, [elements(array.shape.slice(0, axis)), elements(array.shape.slice(axis))])];
};

/** The elements at the given coordinates of each axis. */
function select(array: NdArray, coordinates: readonly (readonly number[])[]): NdArray {
  const strides = stridesOf(array.shape);
  const shape = coordinates.map((of) => of.length);
  const data = new Float64Array(elements(shape));
  eachIndex(shape, (flat, at) => {
    data[flat] = array.data[at.reduce((sum, i, axis) => sum + coordinates[axis]![i]! * strides[axis]!, 0)]!;
  });
  return { dtype: array.dtype, shape, data };
}

const counting = (count: number, at: (i: number) => number) => Array.from({ length: count }, (_, i) => at(i));

const tile: Operator = (call) => {
  const array = call.input(0);
  const repeats = call.numbers(1);
  return [
    select(
      array,
      array.shape.map((dim, axis) => counting(dim * repeats[axis]!, (i) => i % dim)),
    ),
  ];
};

/** Where an element of a padded axis of `size` comes from. */
const SOURCE: Readonly<Record<string, (at: number, size: number) => number>> = {
  edge: (at, size) => Math.min(Math.max(at, 0), size - 1),
  reflect: (at, size) => (at < 0 ? -at : at >= size ? 2 * (size - 1) - at : at),
  wrap: (at, size) => ((at % size) + size) % size,
};

const pad: Operator = (call) => {
  const array = call.input(0);
  const { shape } = array;
  const { before, after } = padAmounts(call.node, shape, call.numbers(1), call.optionalNumbers(3));
  const mode = call.node.attributes.mode ?? "constant";
  const sizes = shape.map((dim, axis) => Math.max(0, before[axis]! + dim + after[axis]!));
  const places = (at: (place: number, size: number) => number) =>
    shape.map((dim, axis) => counting(sizes[axis]!, (i) => at(i - before[axis]!, dim)));
  if (mode !== "constant") {
    const source = SOURCE[String(mode)];
    if (!source) throw call.error(`no mode "${mode}"`);
    return [select(array, places(source))];
  }
  const fill = call.inputs[2]?.data[0] ?? 0;
  const coordinates = places((at) => at);
  const strides = stridesOf(shape);
  const data = new Float64Array(elements(sizes)).fill(fill);
  eachIndex(sizes, (flat, at) => {
    let from = 0;
    for (let axis = 0; axis < at.length; axis++) {
      const place = coordinates[axis]![at[axis]!]!;
      if (place < 0 || place >= shape[axis]!) return;
      from += place * strides[axis]!;
    }
    data[flat] = array.data[from]!;
  });
  return [{ dtype: array.dtype, shape: sizes, data }];
};

const depthToSpace: Operator = (call) => {
  const array = call.input(0);
  const size = intAttribute(call.node, "blocksize", 1);
  const [n, depth, h, w] = array.shape as [number, number, number, number];
  const c = depth / size ** 2;
  const blocks =
    (call.node.attributes.mode ?? "DCR") === "DCR"
      ? transpose(reshape(array, [n, size, size, c, h, w]), [0, 3, 4, 1, 5, 2])
      : transpose(reshape(array, [n, c, size, size, h, w]), [0, 1, 4, 2, 5, 3]);
  return [reshape(blocks, [n, c, h * size, w * size])];
};

const spaceToDepth: Operator = (call) => {
  const array = call.input(0);
  const size = intAttribute(call.node, "blocksize", 1);
  const [n, c, height, width] = array.shape as [number, number, number, number];
  const [h, w] = [height / size, width / size];
  const blocks = transpose(reshape(array, [n, c, h, size, w, size]), [0, 3, 5, 1, 2, 4]);
  return [reshape(blocks, [n, c * size ** 2, h, w])];
};

/** Sums of the elements up to each one along an axis, from the front or the back, with or without itself. */
const cumSum: Operator = (call) => {
  const { dtype, shape, data } = call.input(0);
  const axis = normalAxis(call.numbers(1)[0]!, shape.length);
  const exclusive = intAttribute(call.node, "exclusive", 0) === 1;
  const reverse = intAttribute(call.node, "reverse", 0) === 1;
  const [size, stride] = [shape[axis]!, stridesOf(shape)[axis]!];
  const sums = new Float64Array(data.length);
  for (let line = 0; line < data.length / size; line++) {
    const start = Math.floor(line / stride) * stride * size + (line % stride);
    let sum = 0;
    for (let i = 0; i < size; i++) {
      const at = start + (reverse ? size - 1 - i : i) * stride;
      sums[at] = exclusive ? sum : sum + data[at]!;
      sum += data[at]!;
    }
  }
  return [compute(dtype, shape, (i) => sums[i]!)];
};

/** As in inference; in training it draws, and is written out before it comes here. */
const dropout: Operator = (call) => {
  const array = call.input(0);
  const ratio = call.optionalNumbers(1)?.[0] ?? 0.5;
  if (call.optionalNumbers(2)?.[0] && ratio > 0)
    throw call.error("only a Dropout that drops nothing is known");
  return [array, compute("bool", array.shape, () => 1)];
};

export const layout: Operators = {
  Reshape: reshapeTo,
  Flatten: flatten,
  Transpose: transposed,
  Squeeze: squeeze,
  Unsqueeze: unsqueeze,
  Expand: expanded,
  Tile: tile,
  Concat: concat,
  Split: split,
  Slice: slice,
  Pad: pad,
  DepthToSpace: depthToSpace,
  SpaceToDepth: spaceToDepth,
  CumSum: cumSum,
  Dropout: dropout,
};
