/** A checksum of values, for finding out whether two devices have the same: pure. */

import type { Tensor } from "../../protocols/tensor.ts";

/** The prime and the offset of FNV-1a (Fowler, Noll and Vo), taken a word at a time. */
const PRIME = 0x01000193;
const OFFSET = 0x811c9dc5;

/** Of all bits, and of which name has which; in whatever order names come. 32 bits without a sign. */
export function checksumOf(values: Iterable<readonly [name: string, tensor: Tensor]>): number {
  let sum = 0;
  for (const [name, { bytes }] of values) {
    let hash = OFFSET;
    for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), PRIME);
    const { buffer, byteOffset, byteLength } = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
    const words = new Uint32Array(buffer, byteOffset, byteLength >> 2);
    for (let i = 0; i < words.length; i++) {
      hash = Math.imul(hash ^ words[i]!, PRIME);
      // High bits alone would move nothing but high bits.
      hash ^= hash >>> 15;
    }
    for (let i = 4 * words.length; i < byteLength; i++) hash = Math.imul(hash ^ bytes[i]!, PRIME);
    sum = (sum + (hash >>> 0)) % 2 ** 32;
  }
  return sum;
}
