/** What updates went by is kept for those who follow, as long as it is less than a copy; and devices tell by sums what they have. */

import { expect, test } from "bun:test";
import { checksumOf } from "../../../actors/recovery/checksum.ts";
import { type Followable, gainOf, mostUpdates, UpdateLog } from "../../../actors/recovery/updates.ts";
import { Tensor } from "../../../protocols/tensor.ts";

/** A stage of one parameter, whose gradient is what it is given. */
const stage = (value: () => number): Followable => ({
  ...{ recipe: [], bytes: 8 },
  gradients: async () => [["w", Tensor.f32([2], [value(), -value()])]],
});
const sums = (...values: number[]) => Tensor.f32([values.length], values);

/** A log of these steps, whose gradients are their numbers. */
async function logged(...steps: number[]): Promise<UpdateLog> {
  const log = new UpdateLog();
  for (const step of steps) {
    await log.put(
      step,
      sums(step),
      stage(() => step),
    );
  }
  return log;
}

test("updates from one step to another are all of those in between, or none", async () => {
  const log = await logged(3, 4, 5);
  const found = log.between(3, 5)!;
  expect(found.map(({ step, squareSums }) => [step, squareSums.f32()[0]])).toEqual([
    [4, 4],
    [5, 5],
  ]);
  expect(found.map(({ gradients }) => [...gradients.get("w")!.f32()])).toEqual([
    [4, -4],
    [5, -5],
  ]);
  expect(log.between(5, 5)).toEqual([]);
  expect(log.between(1, 5)).toBeNull();
  expect(log.between(3, 6)).toBeNull();
});

test("what nobody follows from any more is forgotten, and what is made again", async () => {
  const log = await logged(3, 4, 5);
  log.forgetUpTo(4);
  expect(log.between(3, 5)).toBeNull();
  expect(log.between(4, 5)).toHaveLength(1);
  log.forgetAfter(4);
  expect(log.between(4, 5)).toBeNull();
  await log.put(
    5,
    sums(5),
    stage(() => 50),
  );
  expect(log.between(4, 5)![0]!.gradients.get("w")!.f32()[0]).toBe(50);
});

test("gradients are as they were when the step was committed", async () => {
  let value = 1;
  const log = new UpdateLog();
  const changing = stage(() => value);
  await log.put(0, sums(1), changing);
  value = 2;
  await log.put(1, sums(1), changing);
  expect(log.between(-1, 1)!.map(({ gradients }) => gradients.get("w")!.f32()[0])).toEqual([1, 2]);
});

test("of a step that is left out no gradients are given", async () => {
  const log = new UpdateLog();
  const untouched = stage(() => {
    throw new Error("they are not finite");
  });
  await log.put(0, sums(1, Number.POSITIVE_INFINITY), untouched);
  expect(log.between(-1, 0)).toMatchObject([{ step: 0, gradients: new Map() }]);
});

test("gradients take the place of a copy where they are clearly smaller, and of so many steps", () => {
  expect(mostUpdates(30, 10)).toBe(3);
  expect(mostUpdates(20, 10)).toBe(2);
  expect(mostUpdates(10, 10)).toBe(0);
  // A stage that trains nothing.
  expect(mostUpdates(0, 0)).toBe(0);
  expect(gainOf([{ bytes: 30, gradientBytes: 10 }])).toBe(3);
  expect(
    gainOf([
      { bytes: 30, gradientBytes: 10 },
      { bytes: 10, gradientBytes: null },
    ]),
  ).toBe(2);
  expect(gainOf([{ bytes: 0, gradientBytes: null }])).toBe(1);
});

test("a sum is the same for the same values in any order, and another one for any bit", () => {
  const [a, b] = [Tensor.f32([3], [1, 2, 3]), new Tensor("u8", [5], Uint8Array.of(1, 2, 3, 4, 5))];
  const sum = checksumOf([
    ["a", a],
    ["b", b],
  ]);
  expect(
    checksumOf([
      ["b", b],
      ["a", a],
    ]),
  ).toBe(sum);
  expect(
    checksumOf([
      ["b", a],
      ["a", b],
    ]),
  ).not.toBe(sum);
  const found = new Set([sum]);
  for (const { bytes } of [a, b]) {
    for (const at of bytes.keys()) {
      for (let bit = 0; bit < 8; bit++) {
        bytes[at]! ^= 1 << bit;
        found.add(
          checksumOf([
            ["a", a],
            ["b", b],
          ]),
        );
        bytes[at]! ^= 1 << bit;
      }
    }
  }
  expect(found.size).toBe(1 + 8 * (12 + 5));
  // Wherever in memory they are.
  const moved = new Uint8Array(13);
  moved.set(a.bytes, 1);
  expect(checksumOf([["a", new Tensor("f32", [3], moved.subarray(1))]])).toBe(checksumOf([["a", a]]));
});
