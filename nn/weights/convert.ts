/**
 * Element types that weights are kept in, and f32, which is computed with: bfloat16 (the upper half of an f32) and
 * IEEE 754 half precision. Widening is exact; narrowing rounds to the nearest, ties to even, so widening and
 * narrowing again gives the same bits (a NaN stays one).
 */

import { type DType, Tensor, TensorError } from "../../protocols/tensor.ts";

/** Element types of real numbers that weights come in. */
export type FloatType = "f32" | "f16" | "bf16" | "f64";

const FLOATS: readonly DType[] = ["f32", "f16", "bf16", "f64"];

export const isFloat = (dtype: DType): dtype is FloatType => FLOATS.includes(dtype);

/** The tensor in f32; itself when it is that already. @throws TensorError for integers and booleans. */
export function toF32(tensor: Tensor): Tensor {
  const { dtype, shape, elements } = tensor;
  switch (dtype) {
    case "f32":
      return tensor;
    case "bf16": {
      const [from, to] = [halves(tensor), new Uint32Array(elements)];
      for (let i = 0; i < to.length; i++) to[i] = from[i]! << 16;
      return Tensor.f32(shape, new Float32Array(to.buffer));
    }
    case "f16": {
      const [from, to, table] = [halves(tensor), new Float32Array(elements), halfTable()];
      for (let i = 0; i < to.length; i++) to[i] = table[from[i]!]!;
      return Tensor.f32(shape, to);
    }
    case "f64":
      return Tensor.f32(shape, Float32Array.from(tensor.f64()));
    default:
      throw new TensorError(`a ${dtype} tensor holds no real numbers: expected ${FLOATS.join(", ")}`);
  }
}

/** An f32 tensor in another type of real numbers; itself for f32. @throws TensorError when it is not f32. */
export function fromF32(tensor: Tensor, dtype: FloatType): Tensor {
  const { shape, elements } = tensor;
  const values = tensor.f32();
  if (dtype === "f32") return tensor;
  if (dtype === "f64") return new Tensor("f64", shape, new Uint8Array(Float64Array.from(values).buffer));
  const bits = new Uint32Array(values.buffer, values.byteOffset, elements);
  const to = new Uint16Array(elements);
  if (dtype === "bf16") for (let i = 0; i < to.length; i++) to[i] = brainBits(bits[i]!);
  else for (let i = 0; i < to.length; i++) to[i] = halfBits(bits[i]!);
  return new Tensor(dtype, shape, new Uint8Array(to.buffer));
}

const halves = ({ bytes, elements }: Tensor) => new Uint16Array(bytes.buffer, bytes.byteOffset, elements);

function brainBits(x: number): number {
  // A NaN whose payload lies in the lower half must not round to infinity.
  if ((x & 0x7fffffff) > 0x7f800000) return (x >>> 16) | 0x40;
  return (x + 0x7fff + ((x >>> 16) & 1)) >>> 16;
}

function halfBits(x: number): number {
  const sign = (x >>> 16) & 0x8000;
  const magnitude = x & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >>> 13) & 0x3ff);
  // From the middle between the largest half, 65504, and 65536 on, it is infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) {
    const rebased = magnitude - 0x38000000;
    return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
  }
  // Below 2^-14 a half counts in steps of 2^-24.
  if (magnitude <= 0x33000000) return sign;
  const shift = 126 - (magnitude >>> 23);
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const whole = mantissa >>> shift;
  const [rest, middle] = [mantissa & ((1 << shift) - 1), 1 << (shift - 1)];
  return sign | (whole + (rest > middle || (rest === middle && (whole & 1) === 1) ? 1 : 0));
}

let table: Float32Array | undefined;

/** The value of every half: a lookup is faster than taking bits apart. Made once, 256 KiB. */
function halfTable(): Float32Array {
  if (table) return table;
  table = new Float32Array(1 << 16);
  const bits = new Uint32Array(table.buffer);
  for (let half = 0; half < table.length; half++) {
    const [exponent, fraction] = [(half >>> 10) & 0x1f, half & 0x3ff];
    const sign = (half & 0x8000) << 16;
    if (exponent === 0) table[half] = (half & 0x8000 ? -1 : 1) * fraction * 2 ** -24;
    else if (exponent === 0x1f) bits[half] = sign | 0x7f800000 | (fraction << 13);
    else bits[half] = sign | ((exponent + 112) << 23) | (fraction << 13);
  }
  return table;
}
