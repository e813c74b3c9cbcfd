/** Randomness, handed in: seeded where a run must be repeatable, the system's where it must not be guessable. */

/** A source of chance, as the runtime takes it: `systemRandom`, or `seededRandom` in tests. */
export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** Uniform integer in [0, bound). */
  integer(bound: number): number;
  /** So many random bytes, in memory of their own. */
  bytes(length: number): Uint8Array;
}

/** The system's secure source. */
export const systemRandom: Random = {
  next: () => Math.random(),
  integer: (bound) => Math.floor(Math.random() * bound),
  bytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
};

/**
 * A repeatable source: the generator sfc32 of PractRand (Chris Doty-Humphrey), 128 bits of state, seeded and
 * then run twelve rounds as its author says. Not for secrets.
 */
export function seededRandom(seed: number): Random {
  let a = seed | 0;
  let b = Math.floor(seed / 2 ** 32) | 0;
  let c = 0x9e3779b9 | 0;
  let counter = 1;
  const word = (): number => {
    const t = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + t;
    return t >>> 0;
  };
  for (let i = 0; i < 12; i++) word();
  const next = () => word() / 2 ** 32;
  return {
    next,
    integer: (bound) => Math.floor(next() * bound),
    bytes: (length) => Uint8Array.from({ length }, () => word() >>> 24),
  };
}
