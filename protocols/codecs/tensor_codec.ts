/**
 * What a tensor codec is: a way to say an f32 tensor in fewer bytes, on links that are slower than the arithmetic.
 * Pure functions of whole tensors; what is lost is stated by each codec as a bound on the error of an element.
 */

import { Tensor, TensorError } from "../tensor.ts";

/** A way to say an f32 tensor in fewer bytes. Stateless. */
export interface TensorCodec {
  /** How plans and wires call it; `tensorCodec(name)` finds it again. */
  readonly name: string;
  /** The elements in fewer bytes. @param values borrowed. @returns bytes in memory of their own. */
  encode(values: Float32Array): Uint8Array<ArrayBuffer>;
  /**
   * The elements, as far as the codec carries them.
   * @param bytes borrowed. @param elements how many the tensor had. @returns memory of its own.
   * @throws TensorError when `bytes` cannot be what `encode` made of so many elements; nothing is allocated then.
   */
  decode(bytes: Uint8Array, elements: number): Float32Array<ArrayBuffer>;
}

/** The elements of an f32 tensor. @throws TensorError for any other dtype. */
export function floatsOf(tensor: Tensor): Float32Array {
  if (tensor.bytes.byteOffset % 4 === 0) return tensor.f32();
  return new Tensor(tensor.dtype, tensor.shape, tensor.bytes.slice()).f32();
}

/** @throws TensorError unless `bytes` has the expected length. */
export function expectBytes(codec: string, bytes: Uint8Array, expected: number, elements: number): void {
  if (bytes.byteLength !== expected) {
    throw new TensorError(
      `${elements} elements as ${codec} take ${expected} bytes, ${bytes.byteLength} were given`,
    );
  }
}

/** The same bytes where views of four-byte elements can be put over them: a copy if they lie askew. */
export function aligned(bytes: Uint8Array): Uint8Array {
  return bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
}
