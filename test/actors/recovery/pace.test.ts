/** How often copies are made, as far as a plan knows: in half of the time in which lines are idle. */

import { expect, test } from "bun:test";
import { keepEvery, MOST_COST } from "../../../actors/recovery/pace.ts";

test("every step, where lines have time for all copies in each", () => {
  expect(keepEvery([], 100)).toBe(1);
  expect(keepEvery([{ copyMs: 30, busyMs: 40 }], 100)).toBe(1);
});

test("else as many steps as the line needs that has least time", () => {
  expect(keepEvery([{ copyMs: 31, busyMs: 40 }], 100)).toBe(2);
  expect(
    keepEvery(
      [
        { copyMs: 10, busyMs: 0 },
        { copyMs: 100, busyMs: 60 },
      ],
      100,
    ),
  ).toBe(5);
});

test("where a line is never idle, copies cost a small part of a step", () => {
  for (const copyMs of [1, 5, 6, 50, 1234]) {
    const every = keepEvery([{ copyMs, busyMs: 100 }], 100);
    expect(copyMs / every).toBeLessThanOrEqual(MOST_COST * 100 + 1e-6);
    expect(every === 1 || copyMs / (every - 1) > MOST_COST * 100).toBe(true);
  }
});

test("what costs nothing is kept after every step", () => {
  expect(keepEvery([{ copyMs: 0, busyMs: 100 }], 100)).toBe(1);
  expect(keepEvery([{ copyMs: 0, busyMs: 0 }], 0)).toBe(1);
});
