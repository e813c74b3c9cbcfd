/** Who comes into a stage has nothing to do in its first step, and the others its part. */

import { expect, test } from "bun:test";
import { hasIdle, newcomersOf, withoutWork } from "../../../actors/scheduler/newcomers.ts";
import { planOf } from "../plans.ts";
import { elsewhere, MODEL, type Shape } from "../recovery/runs.ts";

const shared = (...members: number[][]): Shape => ({
  stages: [{ to: [3], sharing: "data", members }, { to: [6] }],
});
const plan = (shape: Shape, places: Readonly<Record<number, number>> = {}) =>
  elsewhere(planOf(MODEL, { microBatches: 4, ...shape }), places);

/** Devices 0 and 1, and device 2 behind them. */
const PRESENT = plan(shared([0, 2], [1, 3]));
/** Device 3 with them, between the two. */
const NEXT = plan(shared([0], [1, 2], [3]), { 1: 3, 2: 1, 3: 2 });

const dealt = ({ stages }: typeof NEXT) =>
  stages[0]!.members.map(({ device, microBatches }) => [device, microBatches]);

test("a newcomer has nothing to do, and the others its part", () => {
  expect([...newcomersOf(PRESENT, NEXT)]).toEqual(["3"]);
  const first = withoutWork(NEXT, PRESENT)!;
  expect(dealt(first)).toEqual([
    ["0", [0, 1]],
    ["3", []],
    ["1", [2, 3]],
  ]);
  expect(first.stages[1]).toEqual(NEXT.stages[1]!);
  expect(hasIdle(first)).toBe(true);
  expect(hasIdle(NEXT)).toBe(false);
});

test("so it is where one comes to a device that had the stage for itself", () => {
  const alone = plan({ stages: [{ to: [3] }, { to: [6] }] });
  const next = plan(shared([0, 1], [2, 3]), { 1: 3, 2: 1 });
  expect(dealt(withoutWork(next, alone)!)).toEqual([
    ["0", [0, 1, 2, 3]],
    ["3", []],
  ]);
});

test.each([
  ["nobody comes", plan(shared([0, 1], [2, 3]))],
  ["somebody takes another's place", plan(shared([0, 2], [1, 3]), { 1: 3 })],
  [
    "somebody comes from another stage",
    plan({ stages: [{ to: [3], sharing: "data", members: [[0, 1], [2], [3]] }, { to: [6] }] }),
  ],
  [
    "the stage is another one",
    plan(
      {
        ...shared([0], [1, 2], [3]),
        stages: [{ to: [2], sharing: "data", members: [[0], [1, 2], [3]] }, { to: [6] }],
      },
      { 2: 3, 3: 2 },
    ),
  ],
  [
    "members have parts of the weights",
    plan({ stages: [{ to: [3], sharing: "tensor", members: 3 }, { to: [6] }] }, { 2: 3, 3: 2 }),
  ],
  ["a device has the place of another, too", elsewhere(NEXT, { 2: 0 })],
])("not where %s", (_, next) => {
  expect(withoutWork(next, PRESENT)).toBe(null);
  expect(newcomersOf(PRESENT, next).size).toBe(0);
});
