/**
 * The reference engine's arrays: every element is a double that its dtype can represent.
 *
 * Operators compute in doubles and round once, when they store; reading is exact. Integers are exact up to 2^53.
 * Anything that only moves elements is a strided view written out.
 */

import { DTYPE_BYTES, type DType, elements, type Shape, type Tensor } from "../../../protocols/tensor.ts";
import type { Node } from "../../onnx/graph.ts";
import { fromHalfBits, roundHalf, toHalfBits } from "../../onnx/half.ts";
import { broadcast, describe } from "../../onnx/shapes.ts";

export interface NdArray {
  readonly dtype: DType;
  readonly shape: Shape;
  readonly data: Float64Array;
}

/** The stored value of a computed one: nearest for floats, towards zero for integers; 32-bit ones wrap around. */
const STORE: Readonly<Record<DType, (x: number) => number>> = {
  f32: Math.fround,
  f64: (x) => x,
  f16: (x) => roundHalf("f16", x),
  bf16: (x) => roundHalf("bf16", x),
  i64: Math.trunc,
  i32: (x) => x | 0,
  u8: Math.trunc,
  i8: Math.trunc,
  bool: (x) => (x !== 0 ? 1 : 0),
};

export function store(dtype: DType): (x: number) => number {
  return STORE[dtype];
}

/** An array computed element by element; `at` is given the flat index. */
export function compute(dtype: DType, shape: Shape, at: (index: number) => number): NdArray {
  const data = new Float64Array(elements(shape));
  // Most are f32, for which one call an element is half the time of two.
  if (dtype === "f32") for (let i = 0; i < data.length; i++) data[i] = Math.fround(at(i));
  else {
    const round = store(dtype);
    for (let i = 0; i < data.length; i++) data[i] = round(at(i));
  }
  return { dtype, shape, data };
}

/** Typed view of a tensor's bytes; 64-bit integers are BigInts there, sixteen-bit floats their bits. */
function view(dtype: DType, bytes: Uint8Array) {
  const { buffer, byteOffset } = bytes;
  const length = bytes.byteLength / DTYPE_BYTES[dtype];
  switch (dtype) {
    case "f32":
      return new Float32Array(buffer, byteOffset, length);
    case "f64":
      return new Float64Array(buffer, byteOffset, length);
    case "i64":
      return new BigInt64Array(buffer, byteOffset, length);
    case "i32":
      return new Int32Array(buffer, byteOffset, length);
    case "i8":
      return new Int8Array(buffer, byteOffset, length);
    case "f16":
    case "bf16":
      return new Uint16Array(buffer, byteOffset, length);
    default:
      return bytes;
  }
}

/** A copy of a tensor's elements. */
export function read({ dtype, shape, bytes }: Pick<Tensor, "dtype" | "shape" | "bytes">): NdArray {
  const source = view(dtype, bytes);
  if (source instanceof BigInt64Array) return { dtype, shape, data: Float64Array.from(source, Number) };
  const data = new Float64Array(source);
  if (dtype === "f16" || dtype === "bf16")
    for (let i = 0; i < data.length; i++) data[i] = fromHalfBits(dtype, data[i]!);
  return { dtype, shape, data };
}

/** Writes an array's elements over a tensor's bytes. */
export function write(array: NdArray, bytes: Uint8Array): void {
  const target = view(array.dtype, bytes);
  const { dtype } = array;
  if (target instanceof BigInt64Array) target.set(BigInt64Array.from(array.data, BigInt));
  else if (dtype === "f16" || dtype === "bf16") target.set(array.data.map((x) => toHalfBits(dtype, x)));
  else target.set(array.data);
}

/** Elements between neighbours along each axis of a contiguous array. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = step;
    step *= shape[axis]!;
  }
  return strides;
}

/** Calls `visit` with the flat index and the coordinates of each element; the coordinates are reused. */
export function eachIndex(shape: Shape, visit: (flat: number, at: readonly number[]) => void): void {
  const at = new Array<number>(shape.length).fill(0);
  const count = elements(shape);
  for (let flat = 0; flat < count; flat++) {
    visit(flat, at);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at[axis]!++;
      if (at[axis]! < shape[axis]!) break;
      at[axis] = 0;
    }
  }
}

/** The elements at offset + coordinates · strides, for all coordinates of `shape`. */
export function strided(array: NdArray, shape: Shape, strides: readonly number[], offset = 0): NdArray {
  const data = new Float64Array(elements(shape));
  const [length, step] = [shape.at(-1) ?? 1, strides.at(-1) ?? 0];
  if (data.length === 0) return { dtype: array.dtype, shape, data };
  const source = array.data;
  eachIndex(shape.slice(0, -1), (line, at) => {
    let from = offset;
    for (let axis = 0; axis < at.length; axis++) from += at[axis]! * strides[axis]!;
    const to = line * length;
    for (let i = 0; i < length; i++) data[to + i] = source[from + i * step]!;
  });
  return { dtype: array.dtype, shape, data };
}

/** Axis i of the result is axis `perm[i]` of the array. */
export function transpose(array: NdArray, perm: readonly number[]): NdArray {
  const strides = stridesOf(array.shape);
  return strided(
    array,
    perm.map((axis) => array.shape[axis]!),
    perm.map((axis) => strides[axis]!),
  );
}

/** The same elements under another shape of the same size. */
export function reshape(array: NdArray, shape: Shape): NdArray {
  return { dtype: array.dtype, shape, data: array.data };
}

export function isSameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, axis) => dim === b[axis]);
}

/** The array repeated along axes of size one, and along new axes in front, until it has this shape. */
export function expand(array: NdArray, shape: Shape): NdArray {
  if (isSameShape(array.shape, shape)) return array;
  const missing = shape.length - array.shape.length;
  const own = stridesOf(array.shape);
  const strides = shape.map((_, axis) => {
    const dim = array.shape[axis - missing];
    return dim === undefined || dim === 1 ? 0 : own[axis - missing]!;
  });
  return strided(array, shape, strides);
}

/** The shape that two of a node's inputs broadcast to. */
export function broadcastShape(a: Shape, b: Shape, node: Node): Shape {
  return isSameShape(a, b) ? a : broadcast(a, b, describe(node));
}

/** All arrays, a node's inputs, expanded to the shape they broadcast to. */
export function broadcastAll(arrays: readonly NdArray[], node: Node): readonly NdArray[] {
  const shape = arrays.map((array) => array.shape).reduce((a, b) => broadcastShape(a, b, node));
  return arrays.map((array) => expand(array, shape));
}
