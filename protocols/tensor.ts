/**
 * A tensor as every floor of the house sees it: a dtype, a shape and bytes.
 *
 * Bytes are contiguous, row-major and little-endian (the layout of ONNX `raw_data` and of safetensors).
 * A `Tensor` is a view: it never copies the bytes it is given, and it does not own memory of its own. Who may
 * write to the bytes is stated wherever a tensor changes hands; the words are "borrowed" (give it back
 * unchanged, keep no reference) and "transferred" (the giver does not touch it again).
 */

/** Element types. `f64` never crosses a wire in training; it exists for scalars such as learning rates. */
export type DType = "f32" | "f16" | "bf16" | "f64" | "i64" | "i32" | "u8" | "i8" | "bool";

/** Bytes per element. */
export const DTYPE_BYTES: Readonly<Record<DType, number>> = {
  f32: 4,
  f16: 2,
  bf16: 2,
  f64: 8,
  i64: 8,
  i32: 4,
  u8: 1,
  i8: 1,
  bool: 1,
};

/** Sizes along each axis, the outermost first; `[]` is a scalar. */
export type Shape = readonly number[];

/** Wrong dtype, shape or byte length. The message names what was expected and what came. */
export class TensorError extends Error {
  /** Always this. */
  readonly code = "TENSOR";
  /** Always this. */
  override readonly name = "TensorError";
}

/** Number of elements of a shape; the empty shape is a scalar and has one. */
export function elements(shape: Shape): number {
  let n = 1;
  for (const dim of shape) n *= dim;
  return n;
}

/** Bytes a tensor of this dtype and shape takes. */
export function byteLength(dtype: DType, shape: Shape): number {
  return elements(shape) * DTYPE_BYTES[dtype];
}

/** A dtype, a shape and bytes, which it views and does not own. */
export class Tensor {
  /** What an element is. */
  readonly dtype: DType;
  /** Sizes along each axis. */
  readonly shape: Shape;
  /** Contiguous, row-major, little-endian; the very view it was made with. */
  readonly bytes: Uint8Array;

  /** Views `bytes`, without a copy. @throws TensorError when they are not exactly as long as dtype and shape say. */
  constructor(dtype: DType, shape: Shape, bytes: Uint8Array) {
    const expected = byteLength(dtype, shape);
    if (bytes.byteLength !== expected) {
      throw new TensorError(
        `a ${dtype}[${shape.join(",")}] tensor takes ${expected} bytes, ${bytes.byteLength} were given`,
      );
    }
    this.dtype = dtype;
    this.shape = shape;
    this.bytes = bytes;
  }

  /** Zero-filled tensor in memory of its own. */
  static zeros(dtype: DType, shape: Shape): Tensor {
    return new Tensor(dtype, shape, new Uint8Array(byteLength(dtype, shape)));
  }

  /** f32 tensor over the memory of `data` (no copy) when it is a Float32Array. */
  static f32(shape: Shape, data: Float32Array | readonly number[]): Tensor {
    return over("f32", shape, data instanceof Float32Array ? data : Float32Array.from(data));
  }

  /** i64 tensor over the memory of `data` (no copy) when it is a BigInt64Array. */
  static i64(shape: Shape, data: BigInt64Array | readonly number[]): Tensor {
    return over("i64", shape, data instanceof BigInt64Array ? data : BigInt64Array.from(data, BigInt));
  }

  /** How many elements there are. */
  get elements(): number {
    return elements(this.shape);
  }

  /** The same memory as 32-bit floats. @throws TensorError unless the dtype is f32. */
  f32(): Float32Array {
    this.expect("f32");
    return new Float32Array(this.bytes.buffer, this.bytes.byteOffset, this.elements);
  }

  /** The same memory as 64-bit floats. @throws TensorError unless the dtype is f64. */
  f64(): Float64Array {
    this.expect("f64");
    return new Float64Array(this.bytes.buffer, this.bytes.byteOffset, this.elements);
  }

  /** The same memory as 64-bit integers. @throws TensorError unless the dtype is i64. */
  i64(): BigInt64Array {
    this.expect("i64");
    return new BigInt64Array(this.bytes.buffer, this.bytes.byteOffset, this.elements);
  }

  /** The elements can be viewed only as what they are. @throws TensorError. */
  private expect(dtype: DType): void {
    if (this.dtype !== dtype) throw new TensorError(`expected a ${dtype} tensor, got ${this.dtype}`);
  }
}

function over(dtype: DType, shape: Shape, data: Float32Array | BigInt64Array): Tensor {
  return new Tensor(dtype, shape, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}
