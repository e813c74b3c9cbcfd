/**
 * Top-k: only the elements of largest magnitude travel, exactly; the others are zero at the other end. For
 * gradients, together with error feedback, without which training does not converge (Stich, Cordonnier, Jaggi,
 * "Sparsified SGD with Memory", NeurIPS 2018; Lin et al., "Deep Gradient Compression", ICLR 2018).
 *
 * Of n elements k = ⌈fraction·n⌉ are kept; of equal ones the first. An element that is left out is off by its own
 * magnitude, which is at most the least that was kept. NaN counts as larger than infinity, so neither is lost.
 *
 * On the wire: u32 indices, rising, then f32 values. Eight bytes an element kept: smaller than f32 below a half,
 * than bf16 below a quarter.
 */

import { TensorError } from "../tensor.ts";
import { aligned, type TensorCodec } from "./tensor_codec.ts";

/** A few bytes must not be able to claim a tensor of gigabytes. */
export const LEAST_FRACTION = 1 / 256;

/** Keeps the largest `fraction` of the elements, from 1/256 to 1. @throws TensorError for any other. */
export function topK(fraction: number): TensorCodec {
  if (!(fraction >= LEAST_FRACTION && fraction <= 1)) {
    throw new TensorError(`top-k keeps a fraction from ${LEAST_FRACTION} to 1, not ${fraction}`);
  }
  return { name: `top-${fraction}`, encode: (values) => keepLargest(values, fraction), decode: spread };
}

function keepLargest(values: Float32Array, fraction: number): Uint8Array<ArrayBuffer> {
  const k = Math.ceil(fraction * values.length);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const bytes = new Uint8Array(8 * k);
  const indices = new Uint32Array(bytes.buffer, 0, k);
  const kept = new Float32Array(bytes.buffer, 4 * k, k);
  if (k === 0) return bytes;
  const { threshold, larger } = kthLargest(bits, k);
  let equal = k - larger;
  for (let i = 0, at = 0; at < k; i++) {
    const size = bits[i]! & 0x7fffffff;
    if (size < threshold || (size === threshold && equal-- <= 0)) continue;
    indices[at] = i;
    kept[at++] = values[i]!;
  }
  return bytes;
}

/**
 * The k-th largest magnitude, and how many are larger: without their sign the bits of floats are ordered as the
 * floats are, so two counts over 16 of them each find it in linear time.
 */
function kthLargest(bits: Uint32Array, k: number): { threshold: number; larger: number } {
  const counts = new Uint32Array(0x10000);
  for (let i = 0; i < bits.length; i++) counts[(bits[i]! & 0x7fffffff) >>> 16]!++;
  let larger = 0;
  let high = 0x7fff;
  while (larger + counts[high]! < k) larger += counts[high--]!;
  counts.fill(0);
  for (let i = 0; i < bits.length; i++) {
    const size = bits[i]! & 0x7fffffff;
    if (size >>> 16 === high) counts[size & 0xffff]!++;
  }
  let low = 0xffff;
  while (larger + counts[low]! < k) larger += counts[low--]!;
  return { threshold: high * 0x10000 + low, larger };
}

function spread(bytes: Uint8Array, elements: number): Float32Array<ArrayBuffer> {
  const k = bytes.byteLength / 8;
  if (!Number.isInteger(k) || k > elements || k < elements * LEAST_FRACTION) {
    throw new TensorError(`the largest of ${elements} elements do not take ${bytes.byteLength} bytes`);
  }
  const { buffer, byteOffset } = aligned(bytes);
  const indices = new Uint32Array(buffer, byteOffset, k);
  const kept = new Float32Array(buffer, byteOffset + 4 * k, k);
  let before = -1;
  for (const index of indices) {
    if (index <= before || index >= elements) {
      throw new TensorError(`index ${index} after ${before}, of ${elements} elements`);
    }
    before = index;
  }
  const values = new Float32Array(elements);
  for (let i = 0; i < k; i++) values[indices[i]!] = kept[i]!;
  return values;
}
