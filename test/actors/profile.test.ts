/** What a cluster is measured as: columns for the planner, and no device measured that was measured before. */

import { afterEach, expect, test } from "bun:test";
import { Device } from "../../actors/device.ts";
import { type ClusterRequest, deviceProfile, profileCluster } from "../../actors/profile.ts";
import type { ProfileCache } from "../../actors/profile-cache.ts";
import { DEFAULT_ADAMW } from "../../nn/index.ts";
import { gptModel } from "../../nn/models/gpt.ts";
import type { ModelProfile } from "../../nn/profile.ts";
import { findSegments } from "../../nn/segments.ts";
import { type Cluster, makeCluster } from "./cluster.ts";

let opened: Cluster | undefined;
afterEach(async () => {
  await opened?.close();
  opened = undefined;
});

const model = gptModel({ layers: 1, width: 8, heads: 2, context: 8, vocabulary: 16 }, 2);
const segments = findSegments(model);
const REQUEST: ClusterRequest = {
  ...{ model, segments, microBatches: 2, optimizer: { ...DEFAULT_ADAMW, steps: 10 } },
  ...{ budgetMs: 1, split: true, sharings: ["tensor"], now: () => performance.now() },
};

test("every device's times by segment, sizes, links in both directions, and the way to each", async () => {
  opened = await makeCluster({ devices: 2 });
  const { devices } = opened;
  const descriptions = await Promise.all(devices.map((device) => device.ask.describe()));
  const found = await profileCluster(devices, descriptions, REQUEST);
  const n = segments.length;
  expect(found.segments.map(({ parameterBytes }) => parameterBytes)).toEqual(
    segments.map(({ parameterBytes }) => parameterBytes),
  );
  expect(found.segments[1]!.stashBytes).toBeGreaterThan(0);
  expect(found.segments[1]!.sharded!.tensor!.dividedWork).toBeGreaterThan(0);
  for (const id of ["0", "1"]) {
    const device = found.profile.devices[id]!;
    const columns = [device.forwardMs, device.backwardMs, device.stepMs, device.jointMs!];
    const apart = [device.backwardInputMs!, device.backwardWeightMs!, device.sharded!.tensor!.forwardMs];
    for (const column of [...columns, ...apart]) expect(column.length).toBe(n);
    expect(found.profile.controlMs![id]).toBeGreaterThan(0);
  }
  const { links, cores } = found.profile;
  expect([Object.keys(links[0]!), Object.keys(links[1]!)]).toEqual([["1"], ["0"]]);
  expect(links[0]![1]!.bytesPerMs).toBeGreaterThan(0);
  // Both are on this machine.
  expect(cores).toBe(descriptions[0]!.cores);
});

/** Devices that tell when they are measured. */
function counting() {
  const measured: string[] = [];
  class Counted extends Device {
    override profile(...args: Parameters<Device["profile"]>): Promise<ModelProfile> {
      measured.push(this.describe().name);
      return super.profile(...args);
    }
  }
  return { measured, Counted };
}

test("of the devices of one machine with one engine, one is measured for all", async () => {
  const { measured, Counted } = counting();
  opened = await makeCluster({ devices: 2, classOf: () => Counted });
  const { devices } = opened;
  const descriptions = await Promise.all(devices.map((device) => device.ask.describe()));
  const { profile } = await profileCluster(devices, descriptions, { ...REQUEST, linked: () => false });
  expect(measured).toEqual(["device-0"]);
  expect(profile.devices["1"]).toEqual(profile.devices["0"]!);
});

test("a device whose profile is in the cache is not measured", async () => {
  const { measured, Counted } = counting();
  const kept = new Map<string, ModelProfile>();
  const cache: Pick<ProfileCache, "get" | "put"> = {
    get: async (key) => kept.get(key),
    put: async (key, profile) => void kept.set(key, profile),
  };
  opened = await makeCluster({ devices: 2, apart: true, classOf: () => Counted });
  const { devices } = opened;
  const descriptions = await Promise.all(devices.map((device) => device.ask.describe()));
  const request = { ...REQUEST, cache, linked: () => false };
  const first = await profileCluster(devices, descriptions, request);
  expect(measured).toEqual(["device-0", "device-1"]);
  const again = await profileCluster(devices, descriptions, request);
  expect(measured.length).toBe(2);
  expect(again.profile.devices).toEqual(first.profile.devices);
  kept.delete(first.keys[1]!);
  await profileCluster(devices, descriptions, request);
  expect(measured.slice(2)).toEqual(["device-1"]);
});

test("a run that is given a cache keeps its devices' profiles there", async () => {
  const kept: string[] = [];
  const profiles = {
    get: async () => undefined,
    put: async (key: string) => void kept.push(key),
  } as Partial<ProfileCache> as ProfileCache;
  opened = await makeCluster({ devices: 2, scheduling: { profiles } });
  await opened.scheduler.ask.plan();
  expect(new Set(kept).size).toBe(2);
});

test("columns have a segment's own figure where a sharing leaves it whole", () => {
  const segment = { forwardMs: 1, backwardMs: 2, jointMs: 3, stepMs: 4, stashBytes: 5, workingBytes: 6 };
  const rank = { ranks: 2, forwardMs: 0.6, backwardMs: 1.1, forwardRuns: 2, backwardRuns: 2 };
  const chunk = { forwardMs: 0, backwardMs: 0, jointMs: 0, stepMs: 0, otherMs: 0 };
  const profile = deviceProfile({ segments: [segment, { ...segment, sharded: { tensor: rank } }], chunk });
  expect(profile.sharded).toEqual({ tensor: { ranks: 2, forwardMs: [1, 0.6], backwardMs: [2, 1.1] } });
  expect(profile.backwardInputMs).toBeUndefined();
});
