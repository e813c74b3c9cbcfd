/** Tensors of generations that are still to come wait for them, and are refused when those are over or never come. */

import { expect, test } from "bun:test";
import { Early } from "../../../actors/stage/early.ts";

test("what is of the present generation does not wait, and what is of an earlier one is refused", () => {
  const early = new Early();
  early.reached(3);
  expect(early.until(3)).toBeUndefined();
  expect(() => early.until(2)).toThrow("generation 3 got a tensor of generation 2");
});

test("what is of a later generation waits until that, or a later one, is there", async () => {
  const early = new Early();
  early.reached(1);
  const come: string[] = [];
  const waits = [3, 2, 4].map(async (generation) => {
    await early.until(generation);
    come.push(`${generation}`);
  });
  early.reached(2);
  await waits[1];
  expect(come).toEqual(["2"]);
  early.reached(5);
  await Promise.all(waits);
  expect(come).toEqual(["2", "3", "4"]);
});

test("whoever waits is told when no other generation will come, and so is whoever asks then", async () => {
  const early = new Early();
  const waits = early.until(1)!;
  early.fail(new Error("the run is over"));
  await expect(waits).rejects.toThrow("the run is over");
  await expect(early.until(2)!).rejects.toThrow("the run is over");
});
