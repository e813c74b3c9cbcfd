/** Copies in plans: there is room for as many as are asked for, or the plan says that there is not. */

import { expect, test } from "bun:test";
import { planned } from "../../../../actors/plan.ts";
import { OWN_COPIES, REPLICA_COPIES } from "../../../../actors/recovery/room.ts";
import type { DeviceInfo, Profile, SegmentCost } from "../../../../actors/scheduler/cost.ts";
import { type Plan, workersOf } from "../../../../actors/scheduler/plan.ts";
import { planText, readPlan } from "../../../../actors/scheduler/plan-json.ts";
import { makePlan, type PlanOptions, type PlanRequest } from "../../../../actors/scheduler/planner.ts";

/** Of one segment's parameters; with AdamW's moments a copy is three times as large. */
const PARAMETERS = 1000;
const COPY = 3 * PARAMETERS;

/** Four segments on devices that have so much memory each. */
function request(memory: readonly number[], change: Partial<PlanOptions> = {}): PlanRequest {
  const segments: SegmentCost[] = Array.from({ length: 4 }, (_, i) => ({
    ...{ name: `segment ${i}`, parameterBytes: PARAMETERS, activationBytes: 10, stashBytes: 10 },
  }));
  const devices: DeviceInfo[] = memory.map((memoryBytes, i) => ({ id: `${i}`, name: `d${i}`, memoryBytes }));
  const times = { forwardMs: [1, 1, 1, 1], backwardMs: [2, 2, 2, 2], stepMs: [0, 0, 0, 0] };
  const link = { latencyMs: 0, bytesPerMs: 1e6 };
  const all = <T>(value: T) => Object.fromEntries(devices.map(({ id }) => [id, value]));
  const profile: Profile = { devices: all(times), links: all(all(link)) };
  const options = { strategy: "auto", schedule: "1f1b", microBatches: 4, recompute: false, ...change };
  return { segments, devices, profile, options };
}

/** What a plan needs on each device, copies included. */
function needs(plan: Plan): Record<string, number> {
  const own = Object.fromEntries(plan.devices.map(({ id, copyBytes = 0 }) => [id, copyBytes]));
  for (const { member } of workersOf(plan)) own[member.device]! += member.memoryBytes;
  return own;
}

test("a plan counts copies of its own stages and of others' in each device's memory", () => {
  const plan = makePlan(request([1e6, 1e6], { strategy: "pipeline", copies: 1 }));
  expect(plan.copies).toEqual({ asked: 1, count: 1, every: 1, why: null });
  // Each has two segments, and keeps the other's.
  const copies = (OWN_COPIES + REPLICA_COPIES) * 2 * COPY;
  // They are made of gradients: three steps' where they come from, and one's where they are put.
  const kept = copies + (3 + 1) * 2 * PARAMETERS;
  expect(plan.devices.map(({ copyBytes }) => copyBytes)).toEqual([kept, kept]);
});

test("members of a stage who hold the same keep no replicas of each other", () => {
  const plan = makePlan(request([1e6, 1e6], { strategy: "data", copies: 1 }));
  expect(plan.devices.map(({ copyBytes }) => copyBytes)).toEqual([
    OWN_COPIES * 4 * COPY,
    OWN_COPIES * 4 * COPY,
  ]);
});

test("what has no room with copies is not planned, as long as anything else has", () => {
  // The model alone fits the first device, with no room for copies; cut in two, the copies fit too.
  const memory = [70_000, 50_000, 50_000];
  expect(makePlan(request(memory)).copies).toBeUndefined();
  const plan = makePlan(request(memory, { copies: 1 }));
  expect(plan.copies).toEqual({ asked: 1, count: 1, every: 1, why: null });
  for (const [id, needed] of Object.entries(needs(plan))) {
    expect(needed).toBeLessThanOrEqual(memory[Number(id)]!);
  }
});

test("every plan with copies has room for them, whatever memory there is", () => {
  let [full, fewer] = [0, 0];
  for (let first = 10_000; first <= 130_000; first += 40_000) {
    for (let rest = 10_000; rest <= 70_000; rest += 20_000) {
      const memory = [first, rest, rest];
      for (const copies of [1, 2]) {
        let plan: Plan;
        try {
          plan = makePlan(request(memory, { copies }));
        } catch {
          // The model itself has no room either.
          expect(() => makePlan(request(memory))).toThrow("does not fit");
          continue;
        }
        for (const [id, needed] of Object.entries(needs(plan))) {
          expect(needed).toBeLessThanOrEqual(memory[Number(id)]!);
        }
        if (plan.copies!.count === copies) full++;
        else fewer++;
      }
    }
  }
  expect(full).toBeGreaterThan(5);
  expect(fewer).toBeGreaterThan(1);
});

test("where there can be no copies, there is a plan all the same, and it says so", () => {
  const cramped = makePlan(request([18_000, 18_000], { strategy: "pipeline", copies: 1 }));
  expect(cramped.copies).toEqual({
    asked: 1,
    count: 0,
    every: 1,
    why: "devices have no memory left for more",
  });
  expect(cramped.devices.some(({ copyBytes }) => copyBytes)).toBe(false);
  const alone = makePlan(request([1e6], { copies: 1 }));
  expect(alone.copies).toEqual({ asked: 1, count: 0, every: 1, why: "there is one device" });
  const few = makePlan(request([1e6, 1e6], { strategy: "pipeline", copies: 2 }));
  expect(few.copies).toEqual({ asked: 2, count: 1, every: 1, why: "there are 2 devices" });
});

test("copies are read back with the plan, and counted anew for one that is given", () => {
  const asked = request([1e6, 1e6], { strategy: "pipeline", copies: 1 });
  const plan = readPlan(planText(makePlan(asked)));
  expect(plan).toEqual(makePlan(asked));
  expect(planned(asked, plan).plan.devices).toMatchObject(
    plan.devices.map(({ copyBytes }) => ({ copyBytes })),
  );
  const smaller = request([18_000, 18_000], { strategy: "pipeline", copies: 1 });
  const { copies, devices } = planned(smaller, plan).plan;
  expect(copies).toMatchObject({ count: 0 });
  expect(devices.some(({ copyBytes }) => copyBytes !== undefined)).toBe(false);
});

test("copies are made as often as lines have time for them", () => {
  const every = (bytesPerMs: number) => {
    const asked = request([1e6, 1e6], { strategy: "pipeline", copies: 1 });
    const link = { latencyMs: 0, bytesPerMs };
    const links = { 0: { 1: link }, 1: { 0: link } };
    return makePlan({ ...asked, profile: { ...asked.profile, links } }).copies!.every;
  };
  expect(every(1e6)).toBe(1);
  // At this rate a copy of two segments takes more than what is idle of a step, and the gradients that it is made of do not.
  expect(every(250)).toBe(1);
  // A step takes some 30 ms, and a copy of two segments 60 ms at this rate.
  expect(every(100)).toBeGreaterThan(1);
  expect(every(10)).toBeGreaterThan(every(100));
});

test("where no lines are measured, since one device does all of it, copies are made with every step", () => {
  const asked = request([1e6, 1e6], { strategy: "single", copies: 1 });
  const plan = makePlan({ ...asked, profile: { ...asked.profile, links: {} } });
  expect(plan.copies).toEqual({ asked: 1, count: 1, every: 1, why: null });
});

test("no number of copies that makes no sense", () => {
  expect(() => makePlan(request([1e6], { copies: -1 }))).toThrow("-1 copies were asked for");
  expect(() => makePlan(request([1e6], { copies: 1.5 }))).toThrow("1.5 copies were asked for");
});
