/** How far two runs are apart. For tests. */

import { expect } from "bun:test";
import { isNoise } from "./noise.ts";

/** All that training has changed, as bytes. */
export type Bits = Readonly<Record<string, string>>;

/** The worst difference of any value, as a part of the largest of its tensor. */
export function worst(a: Bits, b: Bits): number {
  expect(Object.keys(a).sort()).toEqual(Object.keys(b).sort());
  const values = (bits: string) => new Float32Array(Uint8Array.from(Buffer.from(bits, "base64")).buffer);
  const largest = (all: Float32Array) => all.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const apart = Object.entries(a).map(([name, bits]) => {
    const others = values(b[name]!);
    return isNoise(name)
      ? 0
      : largest(values(bits).map((value, i) => value - others[i]!)) / (largest(others) || 1);
  });
  return Math.max(...apart);
}
