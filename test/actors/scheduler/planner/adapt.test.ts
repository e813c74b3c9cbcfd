/** The present plan for other devices: who is gone has no part in it, who has come helps, and stages stay as they are. */

import { expect, test } from "bun:test";
import type { DeviceInfo, Profile, SegmentCost } from "../../../../actors/scheduler/cost.ts";
import { chunksOf, type Plan, planPrograms } from "../../../../actors/scheduler/plan.ts";
import { adaptPlan, makePlan, type PlanRequest } from "../../../../actors/scheduler/planner.ts";
import { validatePrograms } from "../../../../actors/scheduler/validate.ts";

/** Four segments on devices of these speeds, by name. */
function request(speeds: Readonly<Record<string, number>>, memoryBytes = 1e9): PlanRequest {
  const segments: SegmentCost[] = Array.from({ length: 4 }, (_, i) => ({
    ...{ name: `segment ${i}`, parameterBytes: 1000, activationBytes: 10, stashBytes: 10 },
  }));
  const devices: DeviceInfo[] = Object.keys(speeds).map((id) => ({ id, name: id, memoryBytes }));
  const link = { latencyMs: 0.01, bytesPerMs: 1e5 };
  const all = <T>(value: (id: string) => T) => Object.fromEntries(devices.map(({ id }) => [id, value(id)]));
  const times = (id: string, ms: number) => segments.map(() => ms / speeds[id]!);
  const profile: Profile = {
    devices: all((id) => ({ forwardMs: times(id, 1), backwardMs: times(id, 2), stepMs: times(id, 0) })),
    links: all(() => all(() => link)),
  };
  const options = { strategy: "hybrid", schedule: "1f1b", microBatches: 24, recompute: false };
  return { segments, devices, profile, options };
}

const SIX = { a: 1, b: 1, c: 1, d: 1, e: 1, f: 1 };
const membersOf = (plan: Plan) =>
  plan.stages.flatMap(({ members }) => members.map(({ device }) => device)).sort();

/** Two stages of three members each. */
function inTwo(): Plan {
  const plan = makePlan({ ...request(SIX), options: { ...request(SIX).options, strategy: "data" } });
  const [stage] = plan.stages;
  const half = (index: number): Plan["stages"][number] => ({
    ...{ ...stage!, stage: index, ranges: [{ from: 2 * index, to: 2 * index + 2 }] },
    members: stage!.members.slice(3 * index, 3 * index + 3).map((member, rank) => ({
      ...{ ...member, share: 8 },
      microBatches: Array.from({ length: 8 }, (_, i) => 3 * i + rank),
    })),
  });
  return { ...plan, strategy: "hybrid", stages: [half(0), half(1)] };
}

const six = inTwo();

test("who is gone has no part in it, and others of the stage take what was its own", () => {
  const { b: _, ...five } = SIX;
  const plan = adaptPlan(request(five), six);
  expect(membersOf(plan)).toEqual(["a", "c", "d", "e", "f"]);
  expect(chunksOf(plan)).toEqual(chunksOf(six));
  expect(plan.stages[0]!.members.map(({ microBatches }) => microBatches.length)).toEqual([12, 12]);
  expect(plan.predictedStepMs).toBeGreaterThan(0);
  validatePrograms(planPrograms(plan));
});

test("who has come helps where work takes longest", () => {
  const { b: _, ...five } = SIX;
  const before = adaptPlan(request(five), six);
  const plan = adaptPlan(request({ ...five, g: 1 }), before);
  expect(plan.stages[0]!.members.map(({ device }) => device)).toEqual(["a", "c", "g"]);
  expect(plan.predictedStepMs).toBeLessThan(before.predictedStepMs);
  expect(plan.devices.find(({ id }) => id === "g")).toMatchObject({ used: true });
});

test("a device that a step would wait for is left out", () => {
  const plan = adaptPlan(request({ ...SIX, slow: 0.001 }), six);
  expect(membersOf(plan)).not.toContain("slow");
  expect(plan.devices.find(({ id }) => id === "slow")).toMatchObject({ used: false });
});

test("a stage that has nobody left gets somebody who has room, or there is no such plan", () => {
  const rest = { d: 1, e: 1, f: 1 };
  expect(membersOf(adaptPlan(request({ ...rest, g: 1 }), six))).toEqual(["d", "e", "f", "g"]);
  expect(() => adaptPlan(request(rest), six)).toThrow("nobody is left for stage 0");
  expect(() => adaptPlan(request({ ...rest, g: 1 }, 100), six)).toThrow();
});
