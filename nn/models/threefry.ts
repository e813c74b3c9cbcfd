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

/** Rotation distances of the rounds, repeated every eight. */
const ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24] as const;

/**
 * Enciphers the counter (`c0`, `c1`) under the key (`k0`, `k1`) and writes two independent, uniformly
 * distributed unsigned 32-bit words to `out[at]` and `out[at + 1]`. Arguments are taken modulo 2^32.
 */
export function threefry2x32(k0: number, k1: number, c0: number, c1: number, out: Uint32Array, at = 0): void {
  const key = [k0 | 0, k1 | 0, k0 ^ k1 ^ PARITY] as const;
  let x0 = (c0 + key[0]) | 0;
  let x1 = (c1 + key[1]) | 0;
  for (let group = 1; group <= 5; group++) {
    const first = group % 2 === 1 ? 0 : 4;
    for (let round = first; round < first + 4; round++) {
      const distance = ROTATIONS[round]!;
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << distance) | (x1 >>> (32 - distance))) ^ x0;
    }
    x0 = (x0 + key[group % 3]!) | 0;
    x1 = (x1 + key[(group + 1) % 3]! + group) | 0;
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
