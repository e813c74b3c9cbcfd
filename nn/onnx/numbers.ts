/** The elements of a constant as JavaScript numbers, whatever its element type is. */

import { DTYPE_BYTES, type DType, elements, type Shape, Tensor } from "../../protocols/tensor.ts";
import { fromHalfBits, toHalfBits } from "./half.ts";

/** A tensor of these values in order, each as near as the type can hold. */
export function tensorOf(dtype: DType, shape: Shape, values: ArrayLike<number>): Tensor {
  const tensor = Tensor.zeros(dtype, shape);
  const view = new DataView(tensor.bytes.buffer);
  for (let i = 0; i < elements(shape); i++) put(view, dtype, i * DTYPE_BYTES[dtype], values[i]!);
  return tensor;
}

/** A tensor of one value throughout. */
export function filledTensor(dtype: DType, shape: Shape, value: number): Tensor {
  return tensorOf(dtype, shape, new Float64Array(elements(shape)).fill(value));
}

/** The elements of a tensor in order. Integers are exact up to 2^53; a bool is 0 or 1. */
export function numbersOf({ dtype, shape, bytes }: Tensor): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: elements(shape) }, (_, i) => take(view, dtype, i * DTYPE_BYTES[dtype]));
}

function put(view: DataView, dtype: DType, at: number, value: number): void {
  if (dtype === "f32") view.setFloat32(at, value, true);
  else if (dtype === "f64") view.setFloat64(at, value, true);
  else if (dtype === "f16" || dtype === "bf16") view.setUint16(at, toHalfBits(dtype, value), true);
  else if (dtype === "i64") view.setBigInt64(at, BigInt(value), true);
  else if (dtype === "i32") view.setInt32(at, value, true);
  else view.setUint8(at, value);
}

function take(view: DataView, dtype: DType, at: number): number {
  switch (dtype) {
    case "f32":
      return view.getFloat32(at, true);
    case "f64":
      return view.getFloat64(at, true);
    case "f16":
    case "bf16":
      return fromHalfBits(dtype, view.getUint16(at, true));
    case "i64":
      return Number(view.getBigInt64(at, true));
    case "i32":
      return view.getInt32(at, true);
    case "i8":
      return view.getInt8(at);
    default:
      return view.getUint8(at);
  }
}
