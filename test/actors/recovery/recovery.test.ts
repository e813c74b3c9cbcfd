/** Runs whose devices are lost: they go on with those that are left, and end with the weights of a run that was spared. */

import { describe, expect, test } from "bun:test";
import { failure } from "../../runtime/world.ts";
import { closedBehindTests } from "../clusters.ts";
import * as runs from "./runs.ts";

const { bitsOf, LAST, STEPS } = runs;

const clusters = closedBehindTests();

const SHAPES: Record<string, runs.Shape> = {
  pipeline: { stages: runs.PIPELINE },
  "a stage shared by data": runs.SHARED_BY_DATA,
  "a stage shared by tensor": runs.SHARED_BY_TENSOR,
};

const deployed = (shape: runs.Shape, copies = 1) => runs.deployed(clusters, shape, { copies });

interface Outcome {
  readonly losses: number[];
  readonly bits: Readonly<Record<string, string>>;
}

/** By shape, what a run comes to in which nobody is lost. */
const known = new Map<runs.Shape, Promise<Outcome>>();
function undisturbed(shape: runs.Shape): Promise<Outcome> {
  const found = known.get(shape) ?? deployed(shape).then(outcomeOf);
  known.set(shape, found);
  return found;
}

async function outcomeOf(cluster: runs.Disturbed): Promise<Outcome> {
  const losses: number[] = [];
  for (let step = 0; step < STEPS; step++) losses.push((await cluster.scheduler.ask.step(step, LAST)).loss);
  return { losses, bits: await bitsOf(cluster) };
}

describe.each(Object.entries(SHAPES))("%s", (_, shape) => {
  const devices = shape.stages.reduce(
    (sum, { members }) => sum + (Array.isArray(members) ? members.length : (members as number)),
    0,
  );

  test.each(Array.from({ length: devices }, (_, i) => [i]))("device %i is lost in a step", async (index) => {
    const expected = await undisturbed(shape);
    const cluster = await deployed(shape);
    const losses: number[] = [];
    for (let step = 0; step < STEPS; step++) {
      const stepping = cluster.scheduler.ask.step(step, LAST, step % 2 === 0);
      if (step === 3) await cluster.hosts[index]!.close();
      losses.push((await stepping).loss);
    }
    expect(losses).toEqual(expected.losses);
    expect(await bitsOf(cluster)).toEqual(expected.bits);
    const [told] = cluster.told;
    expect(cluster.told).toHaveLength(1);
    expect(told).toMatchObject({ lost: [`device-${index}`], fromCheckpoint: false });
    expect(told!.stepsLost).toBeWithin(0, 2);
    expect(told!.plan.devices[index]).toMatchObject({ used: false, reason: "left out: it is gone" });
  });
});

test("devices are lost one after the other, until one is left", async () => {
  const shape = SHAPES.pipeline!;
  const expected = await undisturbed(shape);
  const cluster = await deployed(shape);
  for (let step = 0; step < STEPS; step++) {
    const stepping = cluster.scheduler.ask.step(step, LAST, true);
    if (step === 1) await cluster.hosts[1]!.close();
    if (step === 4) await cluster.hosts[0]!.close();
    await stepping;
  }
  expect(await bitsOf(cluster)).toEqual(expected.bits);
  expect(cluster.told.map(({ lost }) => lost)).toEqual([["device-1"], ["device-0"]]);
});

test("two are lost at once: with two copies nothing is, with one the run begins again from its checkpoint", async () => {
  const shape = SHAPES.pipeline!;
  const expected = await undisturbed(shape);
  for (const copies of [2, 1]) {
    const cluster = await deployed(shape, copies);
    for (let step = 0; step < STEPS; step++) {
      const stepping = cluster.scheduler.ask.step(step, LAST);
      if (step === 3) await Promise.all([cluster.hosts[0]!.close(), cluster.hosts[1]!.close()]);
      await stepping;
    }
    expect(await bitsOf(cluster)).toEqual(expected.bits);
    const stepsLost = cluster.told.reduce((sum, told) => sum + told.stepsLost, 0);
    if (copies === 2) {
      expect(cluster.told.every(({ fromCheckpoint }) => !fromCheckpoint)).toBe(true);
      expect(stepsLost).toBeLessThanOrEqual(2);
    } else {
      expect(cluster.told.some(({ fromCheckpoint }) => fromCheckpoint)).toBe(true);
      expect(stepsLost).toBeGreaterThanOrEqual(3);
    }
  }
});

test("a device is lost between steps, in validation, and while the state is asked for", async () => {
  const shape = SHAPES.pipeline!;
  const expected = await undisturbed(shape);
  const cluster = await deployed(shape);
  const { scheduler, hosts } = cluster;
  for (let step = 0; step < 3; step++) await scheduler.ask.step(step, LAST);
  await hosts[2]!.close();
  await scheduler.ask.step(3, LAST);
  const [loss] = await Promise.all([scheduler.ask.evaluate(4), hosts[1]!.close()]);
  expect(loss).toBeFinite();
  for (let step = 4; step < STEPS; step++) await scheduler.ask.step(step, LAST);
  expect(await bitsOf(cluster)).toEqual(expected.bits);
});

test("nobody is left: the run ends, and says who was lost first", async () => {
  const { scheduler, hosts } = await deployed(SHAPES.pipeline!);
  await scheduler.ask.step(0, LAST);
  const failing = failure(scheduler.ask.step(1, LAST));
  for (const host of hosts) await host.close();
  const { code, message } = await failing;
  expect(code).toBe("DEVICE_LOST");
  expect(message).toMatch(/^device-0 is gone: /);
});

test("devices that are left hold no more than one run's stages and copies", async () => {
  const cluster = await deployed(SHAPES.pipeline!);
  const { scheduler, hosts, devices, coordinator } = cluster;
  for (let step = 0; step < 2; step++) await scheduler.ask.step(step, LAST);
  await hosts[0]!.close();
  for (let step = 2; step < STEPS; step++) await scheduler.ask.step(step, LAST);
  const held = async () =>
    Promise.all(devices.slice(1).map(async (device) => (await device.ask.usage()).tensorBytes));
  const before = await held();
  await hosts[1]!.close();
  await scheduler.ask.step(LAST, LAST + 1);
  // One has all three stages now.
  expect((await devices[2]!.ask.usage()).tensorBytes).toBeGreaterThan(Math.max(...before));
  await coordinator.stop(scheduler);
  while ((await devices[2]!.ask.usage()).tensorBytes > 0) await Bun.sleep(1);
});
