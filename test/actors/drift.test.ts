/** When a device is said to have drifted, by how much, and what its profile is then. */

import { describe, expect, test } from "bun:test";
import {
  correctedModelProfile,
  correctedProfile,
  type Drift,
  DriftWatch,
  driftText,
  hasDrifted,
  machineDrifts,
  NO_DRIFT,
  observe,
  stepTime,
  watchPlan,
} from "../../actors/drift.ts";
import { makePlan } from "../../actors/scheduler/planner.ts";
import type { OperationSpan } from "../../actors/stage.ts";
import { randomWorld } from "./scheduler/planner/worlds.ts";

const after = (ratios: readonly number[], drift: Drift = NO_DRIFT) =>
  ratios.reduce((known, ratio) => observe(known, { measuredMs: 1000 * ratio, predictedMs: 1000 }), drift);
const times = (count: number, ratio: number) => new Array<number>(count).fill(ratio);

describe("drift", () => {
  test("is the median of the last steps, once there are enough of them", () => {
    expect(hasDrifted(after(times(6, 2)))).toBe(false);
    const slower = after(times(7, 2));
    expect([slower.factor, driftText("laptop", slower)]).toEqual([
      2,
      "laptop takes 2.0 times as long as it was measured to",
    ]);
    expect(driftText("phone", after(times(7, 0.5)))).toBe(
      "phone is 2.0 times as fast as it was measured to be",
    );
    const again = "phone is as fast again as it was measured to be";
    for (const factor of [0.96, 1, 1.04]) expect(driftText("phone", { factor })).toBe(again);
  });

  test("is not a few steps that were disturbed, nor a small difference", () => {
    expect(hasDrifted(after([1, 1, 9, 1, 9, 1, 9]))).toBe(false);
    expect(hasDrifted(after(times(20, 1.15)))).toBe(false);
  });

  test("does not waver: a factor stays until the median is far from it", () => {
    const slower = after(times(7, 1.5));
    expect(after([...times(10, 1.3), ...times(10, 1.7)], slower).factor).toBe(1.5);
    expect(after(times(7, 1), slower).factor).toBe(1);
    expect(after(times(7, 2.4), slower).factor).toBe(2.4);
  });

  /**
   * A device with so short steps, some of whose time others take half of. @returns when its factor changes, in seconds of
   * its work, and to what.
   */
  const changes = (ms: number, factorAt: (ms: number) => number): readonly [number, number][] => {
    const found: [number, number][] = [];
    let drift = NO_DRIFT;
    for (let now = 0; now < 60_000; ) {
      const measuredMs = ms * factorAt(now);
      now += measuredMs;
      const next = observe(drift, { measuredMs, predictedMs: ms });
      if (next.factor !== drift.factor) found.push([now / 1000, next.factor]);
      drift = next;
    }
    return found;
  };

  test("is not another program that comes for half a second, however many steps that are", () => {
    for (const stepMs of [1, 15, 50, 200, 700]) {
      expect(changes(stepMs, (now) => (now % 3000 < 500 ? 2 : 1))).toEqual([]);
    }
  });

  test("is known behind some seconds of work where steps are short, and stays", () => {
    for (const stepMs of [1, 15, 50]) {
      const found = changes(stepMs, (now) => (now < 10_000 ? 1 : 3));
      // The median may be of the very moment, and is then corrected at once.
      expect(found.length).toBeLessThanOrEqual(2);
      for (const [at] of found) expect(Math.abs(at - 11.5)).toBeLessThan(0.7);
      expect(found.at(-1)![1]).toBeCloseTo(3, 5);
    }
  });

  test("is not made from a step of which nothing was predicted", () => {
    expect(observe(NO_DRIFT, { measuredMs: 5, predictedMs: 0 })).toBe(NO_DRIFT);
  });
});

test("a step's time is that of its kernels, by chunk, beside what was predicted of them", () => {
  const span = (op: OperationSpan["op"], kernelMs: number, chunk = 0): OperationSpan => {
    return { op, microBatch: 0, chunk, start: 0, end: 100, kernelMs };
  };
  const cost = { forwardMs: 3, backwardMs: 6, stepMs: 9, outputBytes: 0, gradientBytes: 0 };
  const chunks = [cost, { ...cost, backwardInputMs: 5, backwardWeightMs: 2 }];
  const spans = [
    ...[span("forward", 4), span("send-activation", 0), span("backward", 8), span("forward-backward", 12)],
    ...[
      span("backward-input", 6, 1),
      span("backward-weight", 3, 1),
      span("backward-input", 4),
      span("update", 50),
    ],
  ];
  expect(stepTime(spans, chunks, 0.5)).toEqual({
    measuredMs: 4 + 8 + 12 + 6 + 3 + 4 + 6 * 0.5,
    predictedMs: 3 + 6 + 9 + 5 + 2 + 3,
  });
});

test("a watch says once which device of a run has drifted", () => {
  const chunks = [{ forwardMs: 300, backwardMs: 600, stepMs: 900, outputBytes: 0, gradientBytes: 0 }];
  const watch = new DriftWatch(["a", "b", "b"].map((device) => ({ device, chunks, otherMs: 0 })));
  const spans = (ms: number): OperationSpan[] => [
    { op: "forward", microBatch: 0, start: 0, end: ms, kernelMs: ms },
  ];
  const said = Array.from({ length: 9 }, () => watch.observe([spans(300), spans(300), spans(900)]));
  expect(said.flat()).toEqual(["b"]);
  expect([watch.drifts.a!.factor, watch.drifts.b!.factor]).toEqual([1, 2]);
});

test("a plan is watched where each worker has a core for itself, and not where they wait for each other", () => {
  const world = randomWorld(7, { devices: 2, segments: 4, microBatches: 4 });
  const devices = world.devices.map(({ memoryBytes: _, ...device }) => device);
  const plan = makePlan({ ...world, devices, options: { ...world.options, strategy: "pipeline" } });
  const watch = (cores: number) =>
    watchPlan(plan, { ...world, devices, profile: { ...world.profile, cores } });
  expect(watch(2)).toBeInstanceOf(DriftWatch);
  expect(watch(1)).toBeNull();
});

test("who does nothing is as slow as its machine is at least for those that do", () => {
  const [slow, slower] = [after(times(7, 2)), after(times(7, 3))];
  const hosts = { a: "desk", b: "desk", spare: "desk", d: "shelf", other: "attic" };
  expect(machineDrifts({ a: slower, b: slow, d: slower }, hosts)).toEqual({
    ...{ a: slower, b: slow, spare: slow, d: slower },
  });
  expect(machineDrifts({ a: slow }, {})).toEqual({ a: slow });
});

test("a corrected profile has other times, and the same of everything else", () => {
  const drift = after(times(7, 2));
  const sharded = { tensor: { ranks: 2, forwardMs: [1], backwardMs: [2] } };
  const device = { forwardMs: [1, 2], backwardMs: [3, 4], stepMs: [5, 6], sharded };
  const links = { a: { b: { latencyMs: 1, bytesPerMs: 2 } } };
  const profile = { devices: { a: device, b: device }, links };
  const corrected = correctedProfile(profile, { b: drift });
  expect(corrected.devices.a).toEqual(device);
  expect(corrected.devices.b).toEqual({
    ...{ forwardMs: [2, 4], backwardMs: [6, 8], stepMs: [10, 12] },
    sharded: { tensor: { ranks: 2, forwardMs: [2], backwardMs: [4] } },
  });
  expect(corrected.links).toEqual(links);

  const segment = { forwardMs: 1, backwardMs: 2, jointMs: 3, stepMs: 4, stashBytes: 5, workingBytes: 6 };
  const chunk = { forwardMs: 1, backwardMs: 1, jointMs: 1, stepMs: 1, otherMs: 1 };
  expect(correctedModelProfile({ segments: [segment], chunk }, drift)).toEqual({
    segments: [{ forwardMs: 2, backwardMs: 4, jointMs: 6, stepMs: 8, stashBytes: 5, workingBytes: 6 }],
    chunk: { forwardMs: 2, backwardMs: 2, jointMs: 2, stepMs: 2, otherMs: 2 },
  });
});
