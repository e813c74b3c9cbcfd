/** Runs on many devices: no search for each of them that comes or goes, and nobody gives all the others everything. */

import { expect, test } from "bun:test";
import { transfers } from "../../../actors/recovery/decision.ts";
import { Replanner } from "../../../actors/recovery/replanner.ts";
import { turnOf } from "../../../actors/recovery/turns.ts";
import type { DeviceInfo, Profile, SegmentCost } from "../../../actors/scheduler/cost.ts";
import { chunksOf, type Plan } from "../../../actors/scheduler/plan.ts";

const DEVICES = 70;
const ids = Array.from({ length: DEVICES }, (_, i) => `${i}`);
const devices: DeviceInfo[] = ids.map((id) => ({ id, name: `device ${id}` }));
const segments: SegmentCost[] = ["a", "b", "c"].map((name) => ({
  ...{ name, parameterBytes: 1000, activationBytes: 10, stashBytes: 10 },
}));
const all = <T>(value: T) => Object.fromEntries(ids.map((id) => [id, value]));
const profile: Profile = {
  devices: all({ forwardMs: [10, 10, 10], backwardMs: [20, 20, 20], stepMs: [0, 0, 0] }),
  links: all(all({ latencyMs: 0, bytesPerMs: 1e6 })),
};
const options = { strategy: "data", schedule: "1f1b", microBatches: 140, recompute: false };

test("with many devices the present plan is adapted to those that are there", () => {
  const keys = ids.map(() => "key");
  const replanner = new Replanner({ segments, profile, keys } as never, devices, options);
  const present = replanner.first();
  replanner.follow(present);
  const alive = ids.filter((id) => id !== "3" && id !== "4");
  const next = replanner.best(present, alive);
  expect(chunksOf(next)).toEqual(chunksOf(present));
  expect(next.stages[0]!.members.map(({ device }) => device)).toEqual(alive);
  expect(next.devices.some(({ reason }) => reason.includes("takes no longer without it"))).toBe(false);
  const back = replanner.best(next, ids);
  expect(new Set(back.stages[0]!.members.map(({ device }) => device))).toEqual(new Set(ids));
});

test("who comes is given what it is to hold by one or another of those that have it", () => {
  const stage = (members: readonly string[]) => ({
    ...{ stage: 0, sharing: "data", recompute: false, ranges: [{ from: 0, to: 3 }] },
    members: members.map((device) => ({ device, deviceName: device, share: 1, microBatches: [0] })),
  });
  const plan = (members: readonly string[]) => ({ stages: [stage(members)] }) as unknown as Plan;
  const moves = transfers(plan(ids.slice(0, 8)), plan(ids), segments);
  expect(moves).toHaveLength(DEVICES - 8);
  const given = Map.groupBy(moves, ({ from }) => from);
  expect(given.size).toBe(8);
  for (const own of given.values()) expect(own.length).toBeLessThan(16);
});

test("a turn is a place among those that there are, always the same for one", () => {
  const turns = ids.map((id) => turnOf(id, 5));
  expect(new Set(turns)).toEqual(new Set([0, 1, 2, 3, 4]));
  expect(ids.map((id) => turnOf(id, 5))).toEqual(turns);
  expect(turnOf("device-1", 1)).toBe(0);
});
