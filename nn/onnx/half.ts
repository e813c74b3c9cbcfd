/**
 * Sixteen-bit floats one value at a time, for constants and for the reference engine: f16 is IEEE 754 binary16, bf16
 * the upper half of an f32. Both round to nearest, ties to even. Whole tensors are converted by whoever stores them.
 */

/** The sixteen-bit element types. */
export type Half = "f16" | "bf16";

const F16_LARGEST = 65504;
/** The exponent of the least normal f16; below it, the step stays the same. */
const F16_LEAST_EXPONENT = -14;

const bits = new DataView(new ArrayBuffer(4));

/** The nearest number that the type can hold. */
export function roundHalf(dtype: Half, x: number): number {
  return fromHalfBits(dtype, toHalfBits(dtype, x));
}

/** The bits of the nearest number that the type can hold. */
export function toHalfBits(dtype: Half, x: number): number {
  return dtype === "bf16" ? toBf16(x) : toF16(x);
}

/** The number of these sixteen bits. */
export function fromHalfBits(dtype: Half, half: number): number {
  if (dtype === "bf16") {
    bits.setUint32(0, half * 65536);
    return bits.getFloat32(0);
  }
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  const significand = exponent ? 1024 + fraction : fraction;
  return sign * significand * 2 ** (Math.max(exponent - 15, F16_LEAST_EXPONENT) - 10);
}

function toBf16(x: number): number {
  if (Number.isNaN(x)) return 0x7fc0;
  bits.setFloat32(0, x);
  const whole = bits.getUint32(0);
  return Math.floor((whole + 0x7fff + ((whole >>> 16) & 1)) / 65536);
}

function toF16(x: number): number {
  if (Number.isNaN(x)) return 0x7e00;
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  const size = Math.abs(x);
  const exponent = Math.max(exponentOf(size), F16_LEAST_EXPONENT);
  // In steps of the type; 1024 and above are normal, and a carry moves into the exponent by itself.
  const steps = roundToEven(size / 2 ** (exponent - 10));
  if (steps * 2 ** (exponent - 10) > F16_LARGEST) return sign | 0x7c00;
  return sign | ((exponent - F16_LEAST_EXPONENT) * 1024 + steps);
}

/** The exponent of a number in f32; there are no smaller normal numbers to tell apart. */
function exponentOf(size: number): number {
  bits.setFloat32(0, size);
  return (bits.getUint32(0) >>> 23) - 127;
}

function roundToEven(x: number): number {
  const down = Math.floor(x);
  const rest = x - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 === 1) ? down + 1 : down;
}
