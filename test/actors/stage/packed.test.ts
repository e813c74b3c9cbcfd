/** Programs as they are sent. */

import { expect, test } from "bun:test";
import type { StageProgram } from "../../../actors/scheduler/program.ts";
import { SCHEDULES, type ScheduleName } from "../../../actors/scheduler/schedule.ts";
import { packed, unpacked } from "../../../actors/stage/packed.ts";
import { ALLOWED, randomShape } from "../scheduler/shapes.ts";

function programsOf(name: ScheduleName): readonly StageProgram[] {
  return Array.from({ length: 20 }, (_, seed) => SCHEDULES[name](randomShape(seed, ALLOWED[name]))).flat();
}

for (const name of Object.keys(SCHEDULES) as ScheduleName[]) {
  test(`${name}: what was packed, and sent, is the same text again`, () => {
    for (const program of programsOf(name)) {
      const sent = JSON.parse(JSON.stringify(packed(program)));
      expect(JSON.stringify(unpacked(sent).operations)).toBe(JSON.stringify(program.operations));
      const { operations: _, ...rest } = unpacked(sent);
      const { operations: __, ...given } = program;
      expect(rest).toEqual(given);
    }
  });
}

test("a program of one chunk has no row of chunks", () => {
  const [program] = SCHEDULES["1f1b"]({
    ...{ microBatches: 3, forwardOnly: 0 },
    stages: [{ positions: [0], sharing: null, members: [[0, 1, 2]] }],
  });
  expect(packed(program!).chunks).toBeUndefined();
});
