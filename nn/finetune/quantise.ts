/**
 * Real numbers as 8-bit integers with a scale for each index of an axis: w ≈ scale·q, q from −127 to 127, the scale the
 * largest |w| / 127. Symmetric, so that 0 stays 0 and a product needs no correction.
 */

import { Tensor } from "../../protocols/tensor.ts";

/** Adding and taking away 1.5·2^52 rounds a double to the nearest integer, several times as fast as Math.round. */
const TO_INTEGER = 1.5 * 2 ** 52;

/** The scales of an f32 tensor along an axis, one for each of its indices. */
export function scalesOf(tensor: Tensor, axis: number): Float32Array {
  const { data, outer, count, inner } = layoutOf(tensor, axis);
  const most = new Float32Array(count);
  for (let o = 0, i = 0; o < outer; o++) {
    for (let at = 0; at < count; at++) {
      let largest = most[at]!;
      for (const end = i + inner; i < end; i++) {
        const size = Math.abs(data[i]!);
        if (size > largest) largest = size;
      }
      most[at] = largest;
    }
  }
  return most.map((largest) => largest / 127);
}

/** The integers, i8 of the tensor's shape; scale·q is off by half a scale at most. */
export function quantise(tensor: Tensor, axis: number, scales: Float32Array): Tensor {
  const { data, outer, count, inner } = layoutOf(tensor, axis);
  // Where all is zero the scale is, too.
  const inverse = Float64Array.from(scales, (scale) => (scale === 0 ? 0 : 1 / scale));
  const values = new Int8Array(data.length);
  for (let o = 0, i = 0; o < outer; o++) {
    for (let at = 0; at < count; at++) {
      const factor = inverse[at]!;
      for (const end = i + inner; i < end; i++) values[i] = data[i]! * factor + TO_INTEGER - TO_INTEGER;
    }
  }
  return new Tensor("i8", tensor.shape, new Uint8Array(values.buffer));
}

/** A tensor as [outer, count, inner], with the axis in the middle. */
function layoutOf(tensor: Tensor, axis: number) {
  const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
  const { shape } = tensor;
  const [outer, count, inner] = [size(shape.slice(0, axis)), shape[axis]!, size(shape.slice(axis + 1))];
  return { data: tensor.f32(), outer, count, inner };
}
