/**
 * Randomness as a function: Threefry-2x32 with 20 rounds, a counter-based generator.
 *
 * There is no state to carry, save or get out of step: the same key and counter give the same bits on every
 * device, in any order, and in any language with 32-bit integers (`bench/rivals/pytorch/gpt.py` has the same
 * function in numpy). Initial weights and the order of the data come from it. It is not for secrets.
 *
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011; the constants and
 * the known answers in the test are those of the authors' Random123 library.
 */

const PARITY = 0x1bd11bda;

/**
 * Enciphers the counter (`c0`, `c1`) under the key (`k0`, `k1`) and writes two independent, uniformly
 * distributed unsigned 32-bit words to `out[at]` and `out[at + 1]`. Arguments are taken modulo 2^32.
 */
export function threefry2x32(k0: number, k1: number, c0: number, c1: number, out: Uint32Array, at = 0): void {
  // Twenty rounds, each an addition, a rotation and an exclusive or; written out, for this is drawn by the million.
  // After every four a part of the key is added, the three parts in turn.
  let now = k0 | 0;
  let next = k1 | 0;
  let last = k0 ^ k1 ^ PARITY;
  let x0 = (c0 + now) | 0;
  let x1 = (c1 + next) | 0;
  for (let group = 1; group <= 5; group++) {
    if (group % 2 === 1) {
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << 13) | (x1 >>> 19)) ^ x0;
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << 15) | (x1 >>> 17)) ^ x0;
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << 26) | (x1 >>> 6)) ^ x0;
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << 6) | (x1 >>> 26)) ^ x0;
    } else {
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << 17) | (x1 >>> 15)) ^ x0;
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << 29) | (x1 >>> 3)) ^ x0;
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << 16) | (x1 >>> 16)) ^ x0;
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << 24) | (x1 >>> 8)) ^ x0;
    }
    x0 = (x0 + next) | 0;
    x1 = (x1 + last + group) | 0;
    const first = now;
    now = next;
    next = last;
    last = first;
  }
  out[at] = x0;
  out[at + 1] = x1;
}

/**
 * FNV-1a, 32 bits, of the UTF-8 bytes of a name: the number of the random stream that the name owns.
 * Source: Fowler, Noll, Vo, "The FNV Non-Cryptographic Hash Algorithm" (IETF draft-eastlake-fnv).
 */
export function streamOf(name: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}
