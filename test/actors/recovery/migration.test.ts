/** Runs that go from one plan to another between two steps: none is lost, and the weights are those of a run that stayed. */

import { beforeAll, describe, expect, test } from "bun:test";
import type { Tensor } from "../../../protocols/tensor.ts";
import { closedBehindTests } from "../clusters.ts";
import {
  bitsOf,
  type Disturbed,
  deployed,
  handPlan,
  LAST,
  PIPELINE,
  SHARED_BY_DATA,
  SHARED_BY_TENSOR,
  type Shape,
  STEPS,
} from "./runs.ts";

const clusters = closedBehindTests();

/** All steps, going over to `next` behind the second and back behind the fourth. */
async function moved(cluster: Disturbed, from: Shape, next: Shape): Promise<number[]> {
  const losses: number[] = [];
  for (let step = 0; step < STEPS; step++) {
    if (step === 2) await cluster.scheduler.ask.migrate(handPlan(next));
    if (step === 4) await cluster.scheduler.ask.migrate(handPlan(from));
    losses.push((await cluster.scheduler.ask.step(step, LAST, step % 2 === 0)).loss);
  }
  return losses;
}

interface Ended {
  readonly losses: number[];
  readonly bits: Readonly<Record<string, string>>;
  readonly state: Readonly<Record<string, Tensor>>;
}

/** Of a run that stays with its plan, the pipeline. */
let still: Ended;
beforeAll(async () => {
  const cluster = await deployed(clusters, pipeline);
  const losses: number[] = [];
  for (let step = 0; step < STEPS; step++)
    losses.push((await cluster.scheduler.ask.step(step, LAST, true)).loss);
  still = { losses, bits: await bitsOf(cluster), state: await cluster.scheduler.ask.state() };
});

const pipeline: Shape = { stages: PIPELINE };

describe("a pipeline keeps its bits", () => {
  const others: Record<string, Shape> = {
    "with other cuts": { stages: [{ to: [1] }, { to: [4] }, { to: [6] }] },
    "on fewer devices": { stages: [{ to: [4] }, { to: [6] }] },
    "on one": { stages: [{ to: [6] }] },
    "with two chunks on a device": { stages: [{ to: [1, 5] }, { to: [4, 6] }], schedule: "interleaved" },
    "keeping less": { stages: [{ to: [3], recompute: true }, { to: [6] }], schedule: "gpipe" },
  };
  test.each(Object.entries(others))("%s, and back", async (_, next) => {
    const cluster = await deployed(clusters, pipeline);
    expect(await moved(cluster, pipeline, next)).toEqual(still.losses);
    expect(await bitsOf(cluster)).toEqual(still.bits);
    expect(cluster.told).toEqual([]);
  });
});

test.each([
  ["shared by data", SHARED_BY_DATA],
  ["shared by tensor", SHARED_BY_TENSOR],
])("from a pipeline to a stage %s and back: within 1e-5", async (_, next) => {
  const cluster = await deployed(clusters, pipeline);
  const losses = await moved(cluster, pipeline, next);
  for (const [step, loss] of losses.entries()) expect(loss).toBeCloseTo(still.losses[step]!, 5);
  const state = await cluster.scheduler.ask.state();
  expect(Object.keys(state).sort()).toEqual(Object.keys(still.state).sort());
  expect(apart(state, still.state)).toBeLessThan(1e-5);
});

test("a device that is lost while the run goes over, or right behind it, costs nothing but that", async () => {
  const next: Shape = { stages: [{ to: [1] }, { to: [4] }, { to: [6] }] };
  for (const waits of [false, true]) {
    const cluster = await deployed(clusters, pipeline);
    const { scheduler, hosts } = cluster;
    for (let step = 0; step < STEPS; step++) {
      if (step === 3) await scheduler.ask.migrate(handPlan(next));
      const stepping = scheduler.ask.step(step, LAST, true);
      if (step === 3) {
        if (waits) await stepping;
        await hosts[1]!.close();
      }
      await stepping;
    }
    expect(await bitsOf(cluster)).toEqual(still.bits);
    expect(cluster.told).toHaveLength(1);
    expect(cluster.told[0]).toMatchObject({ lost: ["device-1"], fromCheckpoint: false });
  }
});

test("devices hold nothing of the plan before", async () => {
  const { scheduler, devices, coordinator } = await deployed(clusters, pipeline);
  await scheduler.ask.step(0, LAST);
  await scheduler.ask.migrate(handPlan({ stages: [{ to: [6] }] }));
  for (let step = 1; step < STEPS; step++) await scheduler.ask.step(step, LAST);
  for (const device of devices.slice(1)) expect((await device.ask.usage()).tensorBytes).toBe(0);
  await coordinator.stop(scheduler);
  while ((await devices[0]!.ask.usage()).tensorBytes > 0) await Bun.sleep(1);
});

/**
 * How far all values together are apart, relative to them. Keys' biases are left out, which a softmax does not see: what
 * Adam makes of their gradients is rounding.
 */
function apart(a: Readonly<Record<string, Tensor>>, b: Readonly<Record<string, Tensor>>): number {
  let [difference, size] = [0, 0];
  for (const [name, tensor] of Object.entries(a)) {
    if (/attn\.(k|c_attn)\.bias/.test(name)) continue;
    const others = b[name]!.f32();
    for (const [i, value] of tensor.f32().entries()) {
      difference += (value - others[i]!) ** 2;
      size += others[i]! ** 2;
    }
  }
  return Math.sqrt(difference / size);
}
