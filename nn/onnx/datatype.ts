/** Element types as ONNX numbers them: TensorProto.DataType of the specification, also the `to` of a Cast. */

import type { DType } from "../../protocols/tensor.ts";

export const DATA_TYPE: Readonly<Record<DType, number>> = {
  f32: 1,
  u8: 2,
  i8: 3,
  i32: 6,
  i64: 7,
  bool: 9,
  f16: 10,
  f64: 11,
  bf16: 16,
};

const DTYPES = new Map(Object.entries(DATA_TYPE).map(([dtype, id]) => [id, dtype as DType]));

/** The element type of this number; undefined for one that Troupe does not have. */
export const dtypeOf = (id: number): DType | undefined => DTYPES.get(id);
