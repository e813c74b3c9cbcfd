/**
 * Sixteen-bit floats. Both codecs round to nearest, ties to even (IEEE 754-2008, 4.3.1).
 *
 * **bf16** is the upper half of an f32: the same range, 8 bits of precision. For finite x whose rounded value is
 * finite, |x̂ − x| ≤ 2⁻⁸·|x|, or 2⁻¹³⁴ for subnormal x. Beyond 3.39·10³⁸ it rounds to infinity.
 *
 * **f16** is IEEE binary16: 11 bits of precision between 6.1·10⁻⁵ and 65504, where |x̂ − x| ≤ 2⁻¹¹·|x|; below, an
 * absolute error of at most 2⁻²⁵; from 65520 on infinity. For values known to be of moderate size, such as
 * normalised activations; gradients want bf16.
 *
 * Infinities and the sign of zero stay; a NaN stays a NaN.
 */

import { expectBytes, type TensorCodec } from "./tensor_codec.ts";

/** The upper half of an f32: the range of f32, 8 bits of precision. For gradients. */
export const bf16: TensorCodec = {
  name: "bf16",

  encode(values) {
    const from = bitsOf(values);
    const to = new Uint16Array(from.length);
    for (let i = 0; i < from.length; i++) {
      const bits = from[i]!;
      // A NaN whose payload lies in the lower half must not become an infinity: its quiet bit is set.
      to[i] =
        (bits & 0x7fffffff) > 0x7f800000
          ? (bits >>> 16) | 0x40
          : (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
    }
    return new Uint8Array(to.buffer);
  },

  decode(bytes, elements) {
    expectBytes("bf16", bytes, 2 * elements, elements);
    const from = sixteens(bytes, elements);
    const values = new Float32Array(elements);
    const to = bitsOf(values);
    for (let i = 0; i < elements; i++) to[i] = from[i]! << 16;
    return values;
  },
};

/** The least f32 that f16 rounds to infinity, and the least that is normal in f16, as bits. */
const F16_OVERFLOW = 0x477ff000;
const F16_NORMAL = 0x38800000;
/** The exponents' biases differ by 112. */
const REBIAS = 112 << 23;

/** IEEE binary16: 11 bits of precision up to 65504. For values of moderate size. */
export const f16: TensorCodec = {
  name: "f16",

  encode(values) {
    const from = bitsOf(values);
    const to = new Uint16Array(from.length);
    for (let i = 0; i < from.length; i++) {
      const bits = from[i]!;
      const sign = (bits >>> 16) & 0x8000;
      const size = bits & 0x7fffffff;
      if (size >= F16_OVERFLOW) to[i] = sign | (size > 0x7f800000 ? 0x7e00 : 0x7c00);
      else if (size >= F16_NORMAL) to[i] = sign | ((size - REBIAS + 0xfff + ((size >>> 13) & 1)) >>> 13);
      else to[i] = sign | subnormal(size);
    }
    return new Uint8Array(to.buffer);
  },

  decode(bytes, elements) {
    expectBytes("f16", bytes, 2 * elements, elements);
    const from = sixteens(bytes, elements);
    const values = new Float32Array(elements);
    const to = bitsOf(values);
    for (let i = 0; i < elements; i++) to[i] = widen(from[i]!);
    return values;
  },
};

/** How many times 2⁻²⁴, the least f16, goes into an f32 of these bits that is too small for a normal f16. */
function subnormal(size: number): number {
  const exponent = size >>> 23;
  if (exponent < 102) return 0; // below half of the least
  const shift = 126 - exponent;
  const fraction = (size & 0x7fffff) | 0x800000;
  const whole = fraction >>> shift;
  const rest = fraction - (whole << shift);
  const half = 1 << (shift - 1);
  return rest > half || (rest === half && (whole & 1) === 1) ? whole + 1 : whole;
}

/** The bits of the f32 that equals an f16. */
function widen(bits: number): number {
  const sign = (bits & 0x8000) << 16;
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (fraction << 13);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  const leading = Math.clz32(fraction) - 21;
  return sign | ((113 - leading) << 23) | (((fraction << leading) & 0x3ff) << 13);
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

function sixteens(bytes: Uint8Array, elements: number): Uint16Array {
  const even = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
  return new Uint16Array(even.buffer, even.byteOffset, elements);
}
