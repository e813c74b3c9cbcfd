/** Tensors as ONNX Runtime's JavaScript interface (onnxruntime-common) has them. */

import type { DType } from "../../protocols/tensor.ts";

type View = new (buffer: ArrayBufferLike, offset: number, length: number) => ArrayBufferView;

/** Where the platform has no view of 16-bit floats, the interface takes their bits. */
const Half: View = (globalThis as { Float16Array?: View }).Float16Array ?? Uint16Array;

/** Names, views and bytes of the element types; there is none for bf16. */
export const ELEMENT: Readonly<Partial<Record<DType, readonly [name: string, view: View, bytes: number]>>> = {
  f32: ["float32", Float32Array, 4],
  f64: ["float64", Float64Array, 8],
  f16: ["float16", Half, 2],
  i64: ["int64", BigInt64Array, 8],
  i32: ["int32", Int32Array, 4],
  u8: ["uint8", Uint8Array, 1],
  i8: ["int8", Int8Array, 1],
  bool: ["bool", Uint8Array, 1],
};
