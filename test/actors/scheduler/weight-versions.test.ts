import { expect, test } from "bun:test";
import { SCHEDULES } from "../../../actors/scheduler/schedule.ts";
import { chainShape } from "../../../actors/scheduler/schedules/shape.ts";
import { weightVersions } from "../../../actors/scheduler/weight-versions.ts";

test("PipeDream keeps a version for every micro-batch in flight behind an update", () => {
  const versions = SCHEDULES.pipedream(chainShape(4, 12)).map(weightVersions);
  expect(versions).toEqual([[3], [2], [1], [0]]);
});

test("one stage, and schedules that update at the end of a step, keep none", () => {
  expect(SCHEDULES.pipedream(chainShape(1, 4)).map(weightVersions)).toEqual([[0]]);
  for (const schedule of ["1f1b", "gpipe", "zero-bubble"] as const) {
    expect(SCHEDULES[schedule](chainShape(3, 6)).map(weightVersions)).toEqual([[0], [0], [0]]);
  }
});
