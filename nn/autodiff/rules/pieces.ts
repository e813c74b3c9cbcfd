/**
 * What gradients of cuts are written with: zeros, a piece of an axis, and a piece put back among zeros. That is a Pad:
 * it copies whole rows, and is faster than joining with zeros or scattering. Where rows are only a few elements long
 * it is the slowest of all (an element costs 75 ns), so there zeros are joined on.
 */

import { type DType, elements, type Shape } from "../../../protocols/tensor.ts";
import type { GraphBuilder } from "../../onnx/builder.ts";
import { filledTensor } from "../../onnx/numbers.ts";

/** Zeros of this type. */
export function zeros(b: GraphBuilder, dtype: DType, shape: Shape): string {
  if (dtype === "f32") return b.op("ConstantOfShape", [b.ints(shape)]);
  return b.op("ConstantOfShape", [b.ints(shape)], { value: filledTensor(dtype, [1], 0) });
}

/** Rows of fewer elements than this are not worth a Pad. */
const SHORT_ROW = 16;

/** The value with this many zeros in front of and behind each axis. */
export function padZeros(
  b: GraphBuilder,
  value: string,
  before: readonly number[],
  after: readonly number[],
): string {
  const shape = b.shape(value);
  const padded = shape.flatMap((_, axis) => (before[axis] || after[axis] ? [axis] : []));
  if (padded.length === 0) return value;
  const axis = padded[0]!;
  const row = elements(shape.slice(axis)) + (before[axis]! + after[axis]!) * elements(shape.slice(axis + 1));
  if (padded.length > 1 || row >= SHORT_ROW) return b.op("Pad", [value, b.ints([...before, ...after])]);
  const { dtype } = b.type(value);
  const gap = (size: number) => (size > 0 ? [zeros(b, dtype, shape.with(axis, size))] : []);
  return b.op("Concat", [...gap(before[axis]!), value, ...gap(after[axis]!)], { axis });
}

/** The elements [start, start + count) of one axis. */
export function cut(b: GraphBuilder, value: string, axis: number, start: number, count: number): string {
  if (count === b.shape(value)[axis]) return value;
  return b.op("Slice", [value, b.ints([start]), b.ints([start + count]), b.ints([axis])]);
}

/** The elements of one axis in the opposite order. */
export function flipped(b: GraphBuilder, value: string, axis: number): string {
  if (b.shape(value)[axis] === 1) return value;
  const beyond = -b.shape(value)[axis]! - 1;
  return b.op("Slice", [value, b.ints([-1]), b.ints([beyond]), b.ints([axis]), b.ints([-1])]);
}
