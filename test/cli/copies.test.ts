/** What a plan says of copies, for people. */

import { expect, test } from "bun:test";
import type { Plan, PlanCopies } from "../../actors/scheduler/plan.ts";
import { copyNote } from "../../cli/plan-words.ts";

const note = (copies?: PlanCopies) => copyNote({ copies } as Plan);

test("a line says how many copies there are, and why there are not as many as asked for", () => {
  expect(note()).toBeNull();
  expect(note({ asked: 1, count: 1, every: 1, why: null })).toBe(
    "copies of each stage on another device after every step",
  );
  expect(note({ asked: 3, count: 2, every: 4, why: "there are 3 devices" })).toBe(
    "copies of each stage on 2 others after every 4 steps, as lines have time for them, not on 3: there are 3 devices",
  );
  expect(note({ asked: 1, count: 0, every: 1, why: "there is one device" })).toBe(
    "no copies: there is one device; a device that is lost will take the run back to its last checkpoint",
  );
});
