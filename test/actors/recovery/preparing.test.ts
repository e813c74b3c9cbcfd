/** Stages of a plan to come are made ready while the run goes on by the one that it has, and nothing depends on it. */

import { beforeAll, expect, test } from "bun:test";
import type { Plan } from "../../../actors/scheduler/plan.ts";
import { Stage } from "../../../actors/stage.ts";
import { lora } from "../../../nn/finetune/lora.ts";
import { closedBehindTests } from "../clusters.ts";
import { bitsOf, elsewhere, handPlan, MODEL, PIPELINE, SHARED_BY_TENSOR } from "./runs.ts";
import { bitsAfter, type Watched, type Watching, watched, whileBroken } from "./watched.ts";

const clusters = closedBehindTests();

const STEPS = 4;
const LAST = STEPS - 1;

/** A pipeline of devices 0, 1 and 2, and others that have nothing to do. */
const run = (watching: Watching) => watched(clusters, { stages: PIPELINE }, [], { spare: 2, ...watching });

const BEGUN = ["0 0", "1 1", "2 2"];

/** Devices that hold anything. */
async function holding({ devices, hosts }: Watched, gone: readonly number[] = []): Promise<number[]> {
  const held: number[] = [];
  for (const [i, device] of devices.entries()) {
    if (gone.includes(i) || hosts[i] === undefined) continue;
    if ((await device.ask.usage()).tensorBytes > 0) held.push(i);
  }
  return held;
}

/** Waits until these devices alone hold anything: what ends does so in its own time. */
async function untilHolding(cluster: Watched, expected: readonly number[], gone: readonly number[] = []) {
  for (let turn = 0; turn < 2000; turn++) {
    if ((await holding(cluster, gone)).join() === expected.join()) return;
    await Bun.sleep(1);
  }
  expect(await holding(cluster, gone)).toEqual([...expected]);
}

let spared: Readonly<Record<string, string>>;
beforeAll(async () => {
  const cluster = await run({});
  for (let step = 0; step < STEPS; step++) await cluster.scheduler.ask.step(step, LAST);
  spared = await bitsOf(cluster);
});

test("steps are committed while a newcomer compiles; when the run goes over nothing is started", async () => {
  const compiled = Promise.withResolvers<void>();
  const cluster = await run({ compiling: (device) => (device === 3 ? compiled.promise : undefined) });
  const { scheduler, started, plan } = cluster;
  await scheduler.ask.step(0, LAST);
  const ready = scheduler.ask.migrate(elsewhere(plan, { 1: 3 }));
  for (const step of [1, 2]) await scheduler.ask.step(step, LAST);
  // By the plan before.
  expect(started).toEqual([...BEGUN, "3 1"]);
  expect(await holding(cluster)).toEqual([0, 1, 2]);
  compiled.resolve();
  await ready;
  expect(await holding(cluster)).toEqual([0, 1, 2, 3]);
  await scheduler.ask.step(3, LAST);
  expect(started).toEqual([...BEGUN, "3 1"]);
  expect(await bitsOf(cluster)).toEqual(spared);
  await untilHolding(cluster, [0, 2, 3]);
  expect(cluster.told).toEqual([]);
});

test("so it is with stages whose members have parts of the weights", async () => {
  const shape = SHARED_BY_TENSOR;
  const still = await bitsAfter(await watched(clusters, shape), STEPS);
  const cluster = await watched(clusters, shape, [], { spare: 2 });
  const { scheduler, started, plan } = cluster;
  await scheduler.ask.step(0, LAST);
  await scheduler.ask.migrate(elsewhere(plan, { 1: 3, 2: 4 }));
  const before = [...started];
  for (let step = 1; step < STEPS; step++) await scheduler.ask.step(step, LAST);
  expect(before.toSorted()).toEqual([...BEGUN, "3 1", "4 2"]);
  expect(started).toEqual(before);
  expect(await bitsOf(cluster)).toEqual(still);
});

test("a newcomer that is lost meanwhile disturbs nobody", async () => {
  const never = Promise.withResolvers<void>();
  const cluster = await run({ compiling: (device) => (device === 3 ? never.promise : undefined) });
  const { scheduler, hosts, started, plan } = cluster;
  await scheduler.ask.step(0, LAST);
  const wanted = scheduler.ask.migrate(elsewhere(plan, { 1: 3, 2: 4 }));
  await scheduler.ask.step(1, LAST);
  await hosts[3]!.close(0);
  never.resolve();
  await wanted;
  for (let step = 2; step < STEPS; step++) await scheduler.ask.step(step, LAST);
  expect(await bitsOf(cluster)).toEqual(spared);
  expect(cluster.told).toEqual([]);
  expect(started).toEqual([...BEGUN, "3 1", "4 2"]);
  // Nor is anything left of the other one.
  await untilHolding(cluster, [0, 1, 2], [3]);
});

test("a device at work is lost meanwhile: the run goes on by its plan, and what was made ready ends", async () => {
  const compiled = Promise.withResolvers<void>();
  const cluster = await run({ compiling: (device) => (device === 4 ? compiled.promise : undefined) });
  const { scheduler, hosts, plan } = cluster;
  await scheduler.ask.step(0, LAST);
  const wanted = scheduler.ask.migrate(elsewhere(plan, { 0: 3, 2: 4 }));
  await scheduler.ask.step(1, LAST);
  await hosts[1]!.close(0);
  for (let step = 2; step < STEPS; step++) await scheduler.ask.step(step, LAST);
  compiled.resolve();
  await wanted;
  expect(await bitsOf(cluster)).toEqual(spared);
  expect(cluster.told).toHaveLength(1);
  const used = cluster.told[0]!.plan.stages.flatMap(({ members }) => members.map(({ device }) => +device));
  await untilHolding(
    cluster,
    [...new Set(used)].sort((a, b) => a - b),
    [1],
  );
});

test("another plan is wanted in its place: what both have goes on, and the rest ends", async () => {
  const compiled = Promise.withResolvers<void>();
  const cluster = await run({ compiling: (device) => (device > 2 ? compiled.promise : undefined) });
  const { scheduler, started, plan } = cluster;
  await scheduler.ask.step(0, LAST);
  const first = scheduler.ask.migrate(elsewhere(plan, { 0: 3, 1: 4 }));
  await scheduler.ask.step(1, LAST);
  const second = scheduler.ask.migrate(elsewhere(plan, { 1: 4 }));
  await scheduler.ask.step(2, LAST);
  compiled.resolve();
  await Promise.all([first, second]);
  for (let step = 3; step < STEPS; step++) await scheduler.ask.step(step, LAST);
  expect(started).toEqual([...BEGUN, "3 0", "4 1"]);
  expect(await bitsOf(cluster)).toEqual(spared);
  await untilHolding(cluster, [0, 2, 4]);
});

test("a device that cannot do its part is found out beside the work, and nothing is left of what others did", async () => {
  const cluster = await run({
    compiling: (device) => (device === 3 ? Promise.reject(new Error("it has no memory")) : undefined),
  });
  const { scheduler, plan } = cluster;
  await scheduler.ask.step(0, LAST);
  await scheduler.ask.migrate(elsewhere(plan, { 0: 4, 1: 3 }));
  for (let step = 1; step < STEPS; step++) await scheduler.ask.step(step, LAST);
  expect(await bitsOf(cluster)).toEqual(spared);
  expect(cluster.told).toEqual([]);
  await untilHolding(cluster, [0, 1, 2]);
});

test("the run may end meanwhile", async () => {
  const compiled = Promise.withResolvers<void>();
  const cluster = await run({ compiling: (device) => (device === 3 ? compiled.promise : undefined) });
  const { scheduler, coordinator, plan } = cluster;
  await scheduler.ask.step(0, LAST);
  const wanted = scheduler.ask.migrate(elsewhere(plan, { 0: 3, 1: 4 })).catch(() => {});
  await scheduler.ask.step(1, LAST);
  const stopped = coordinator.stop(scheduler);
  compiled.resolve();
  await stopped;
  await wanted;
  await untilHolding(cluster, []);
});

test("where a device has no room for both, its stage is started when the one before it has ended", async () => {
  const cluster = await run({});
  const { scheduler, started } = cluster;
  const full = (of: Plan): Plan => ({
    ...of,
    stages: of.stages.map((stage) => ({
      ...stage,
      members: stage.members.map((member) => ({ ...member, memoryBytes: 2 ** 50 })),
    })),
  });
  await scheduler.ask.step(0, LAST);
  await scheduler.ask.migrate(full(handPlan({ stages: [{ to: [2] }, { to: [4] }, { to: [6] }] })));
  expect(started).toEqual(BEGUN);
  for (let step = 1; step < STEPS; step++) await scheduler.ask.step(step, LAST);
  expect(started).toEqual([...BEGUN, "1 1", "2 2"]);
  expect(await bitsOf(cluster)).toEqual(spared);
});

test("values that training does not change are given beside the work", async () => {
  const model = lora(MODEL, { targets: ["attn"], rank: 1, alpha: 1 });
  const loaded: string[][] = [];
  const loading = (_: unknown, load: (...args: any[]) => unknown, ...args: any[]) => {
    loaded.push(Object.keys(args[0]));
    return load(...args);
  };
  const cluster = await run({ model });
  const { scheduler, plan } = cluster;
  const frozen = new Set(model.frozen);
  expect(frozen.size).toBeGreaterThan(0);
  await scheduler.ask.step(0, LAST);
  await whileBroken(Stage, "load", loading, async () => {
    await scheduler.ask.migrate(elsewhere(plan, { 2: 3 }));
    expect(loaded.flat().some((name) => frozen.has(name))).toBe(true);
    expect(loaded.flat().every((name) => frozen.has(name))).toBe(true);
    loaded.length = 0;
    await scheduler.ask.step(1, LAST);
    expect(loaded.flat().length).toBeGreaterThan(0);
    expect(loaded.flat().some((name) => frozen.has(name))).toBe(false);
  });
});

test("found out: a stage that is made ready and goes on with what it held then", async () => {
  const bits = await whileBroken(
    Stage,
    "fetch",
    () => 0,
    async () => {
      const cluster = await run({});
      const { scheduler, plan } = cluster;
      await scheduler.ask.step(0, LAST);
      await scheduler.ask.migrate(elsewhere(plan, { 1: 3 }));
      for (let step = 1; step < STEPS; step++) await scheduler.ask.step(step, LAST);
      return bitsOf(cluster);
    },
  ).catch(({ code }) => code);
  expect(bits).not.toEqual(spared);
});
