/**
 * Pipelines in which a stage has nothing to train, as when adapters alone are: of the others there are copies all the same, and
 * whoever is lost costs no step.
 */

import { expect, test } from "bun:test";
import { lora } from "../../../nn/finetune/lora.ts";
import { closedBehindTests } from "../clusters.ts";
import * as runs from "./runs.ts";
import { live } from "./sim/live.ts";
import { bitsAfter, killed, type Watching, watched } from "./watched.ts";

const clusters = closedBehindTests();

/** The first stage has the embedding alone. */
const SHAPE: runs.Shape = {
  stages: [
    { to: [1], members: 1 },
    { to: [3], members: 1 },
    { to: [6], members: 1 },
  ],
};
const WATCHING: Watching = {
  model: lora(runs.MODEL, { targets: ["attn"], rank: 1, alpha: 1 }),
  every: 1,
};

test.each([0, 1, 2])(
  "device %i is lost, and the first stage holds nothing that is trained",
  async (device) => {
    const spared = await watched(clusters, SHAPE, [], WATCHING);
    const bits = await bitsAfter(spared);
    expect((await spared.scheduler.ask.keepingCost()).points).toBeGreaterThanOrEqual(runs.STEPS);
    const cluster = await watched(clusters, SHAPE, [killed(device, { step: 4, phase: "forward" })], WATCHING);
    expect(await bitsAfter(cluster)).toEqual(bits);
    expect(cluster.told).toMatchObject([{ stepsLost: 0, fromCheckpoint: false }]);
    expect((await cluster.scheduler.ask.keepingCost()).points).toBeGreaterThanOrEqual(runs.STEPS - 1);
  },
);

test("a line is lost behind the last operation of a stage that nothing comes back to: what it sent has not arrived", async () => {
  // Of this seed a world with such a stage, a line of which is cut while its last activation is on its way.
  const { breaches } = await live(20590);
  expect(breaches).toEqual([]);
});
