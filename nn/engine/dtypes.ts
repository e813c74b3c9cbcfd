/** Element types that engines have. What an operator takes is another matter; its runtime says that by name. */

import { DTYPE_BYTES, type DType } from "../../protocols/tensor.ts";

/** All of them. */
export const DTYPES = Object.keys(DTYPE_BYTES) as readonly DType[];

/** What ONNX Runtime's JavaScript interface has: no bf16. */
export const JAVASCRIPT_DTYPES: readonly DType[] = DTYPES.filter((dtype) => dtype !== "bf16");
