/** Which plans a run may go over to: the best for those that are there, and none that makes another result. */

import { describe, expect, test } from "bun:test";
import { isSame, Replanner } from "../../../actors/recovery/replanner.ts";
import type { Plan } from "../../../actors/scheduler/plan.ts";
import type { PlanRequest } from "../../../actors/scheduler/planner.ts";
import { randomWorld } from "../scheduler/planner/worlds.ts";

const ids = (count: number) => Array.from({ length: count }, (_, i) => `d${i}`);
const isUnshared = ({ stages }: Plan) => stages.every(({ members }) => members.length === 1);

function replanner(seed: number, options: Partial<PlanRequest["options"]> = {}) {
  const world = randomWorld(seed, { devices: 4, segments: 8, microBatches: 4 });
  const devices = world.devices.map(({ memoryBytes: _, ...device }) => device);
  const { segments, profile } = world;
  return new Replanner({ segments, profile, keys: [] }, devices, { ...world.options, ...options });
}

const SEEDS = [1, 2, 3];

describe("a run that is a pipeline", () => {
  test.each(SEEDS)("stays one where nobody asked for less, seed %i", (seed) => {
    const own = replanner(seed);
    const pipeline = replanner(seed, { strategy: "pipeline" }).first();
    own.follow(pipeline);
    for (const alive of [ids(4), ids(3), ids(1)]) {
      const next = own.best(pipeline, alive);
      expect(isUnshared(next)).toBe(true);
      expect(
        next.stages.flatMap(({ members }) => members).every(({ device }) => alive.includes(device)),
      ).toBe(true);
    }
    // It is no worse than going on as it is.
    expect(own.best(pipeline, ids(4)).predictedStepMs).toBeLessThanOrEqual(own.stepMs(pipeline)! * 1.000001);
  });
});

test("a run that shares stages goes over to whatever is best", () => {
  const own = replanner(1, { strategy: "data" });
  const plan = own.first();
  const next = own.best(plan, ids(3));
  expect(next.stages[0]!.sharing).toBe("data");
  expect(isSame(own.best(plan, ids(4)), plan)).toBe(true);
});

test("what depends on the plan itself is not planned anew, nor what was planned for energy", () => {
  const plan = replanner(1, { strategy: "data" }).first();
  const stages = plan.stages.map((stage) => ({ ...stage, sharing: "local" as const }));
  expect(replanner(1).isFree(plan)).toBe(true);
  expect(replanner(1).isFree({ ...plan, stages })).toBe(false);
  expect(replanner(1).isFree({ ...plan, schedule: "pipedream" })).toBe(false);
  expect(replanner(1, { objective: "energy" }).isFree(plan)).toBe(false);
});

test("newcomers are not worth it in the last step, which would be their first", () => {
  const own = replanner(2, { strategy: "data" });
  const present = own.best(own.first(), ids(2));
  own.follow(present);
  expect(own.propose(present, ids(4), 2, 0).next).toBeDefined();
  const { next, oldStepMs, newStepMs } = own.propose(present, ids(4), 1, 0);
  expect(newStepMs!).toBeLessThan(oldStepMs!);
  expect(next).toBeUndefined();
});

test("a plan that is found is decided on again by the steps that are left when its stages are there", () => {
  const own = replanner(2, { strategy: "data" });
  const present = own.best(own.first(), ids(2));
  own.follow(present);
  const { next, again, why } = own.propose(present, ids(4), 50, 0);
  expect(next).toBeDefined();
  expect(why).toContain("in 49 steps");
  expect(again!(50)).toEqual({ moves: true, why });
  expect(again!(20)).toMatchObject({ moves: true, why: expect.stringContaining("in 19 steps") });
  expect(again!(1).moves).toBe(false);
});

test("kernels of a device that has several stages run one after the other", () => {
  const own = replanner(2, { strategy: "pipeline" });
  const plan = own.first();
  const [first] = plan.stages;
  const device = first!.members[0]!.device;
  const stages = plan.stages.map((stage) => ({
    ...stage,
    members: stage.members.map((member) => ({ ...member, device })),
  }));
  const alone = own.best(plan, [device]);
  expect(own.stepMs({ ...plan, stages })!).toBeGreaterThan(0.9 * alone.predictedStepMs);
  expect(own.stepMs(plan)).toBeCloseTo(plan.predictedStepMs, 6);
});

test("a plan with a device that has not been measured is not predicted, and not left for another", () => {
  const own = replanner(3, { strategy: "pipeline" });
  const plan = own.first();
  const stages = plan.stages.map((stage, i) =>
    i === 0 ? { ...stage, members: stage.members.map((member) => ({ ...member, device: "new" })) } : stage,
  );
  expect(own.stepMs({ ...plan, stages })).toBeNull();
  expect(own.propose({ ...plan, stages }, ids(4), 100, 0)).toMatchObject({ newStepMs: null });
});
