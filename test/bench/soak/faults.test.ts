/** Faults that are drawn from a seed. */

import { expect, test } from "bun:test";
import { draw, FAULT_KINDS } from "../../../bench/soak/faults.ts";
import { seededRandom } from "../../../runtime/index.ts";

test("the same seed has the same faults, another one others", () => {
  const faults = (seed: number) => {
    const random = seededRandom(seed);
    return Array.from({ length: 20 }, () => draw(random, FAULT_KINDS));
  };
  expect(faults(7)).toEqual(faults(7));
  expect(faults(8)).not.toEqual(faults(7));
});

test("every kind comes, and none that may not", () => {
  const random = seededRandom(7);
  const kinds = (allowed: typeof FAULT_KINDS | readonly ["stop", "slow"]) =>
    new Set(Array.from({ length: 500 }, () => draw(random, allowed).kind));
  expect([...kinds(FAULT_KINDS)].sort()).toEqual([...FAULT_KINDS].sort());
  expect([...kinds(["stop", "slow"])].sort()).toEqual(["slow", "stop"]);
});
