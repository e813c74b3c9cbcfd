/** Stages of many members, who add up in trees, come to the weights that one device comes to. */

import { expect, test } from "bun:test";
import type { Feed } from "../../../actors/data/feed.ts";
import type { Slip } from "../../../actors/inbox.ts";
import { Stage } from "../../../actors/stage.ts";
import { dataInputs, type Model } from "../../../nn/model.ts";
import { mlp } from "../../../nn/models/mlp.ts";
import { DEFAULT_ADAMW } from "../../../nn/optim/adamw.ts";
import type { OptimizerConfig } from "../../../nn/optim/optimizer.ts";
import { findSegments } from "../../../nn/segments.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../../nn/engine/operator-cases.ts";
import { makeCluster } from "../cluster.ts";
import { closedBehindTests } from "../clusters.ts";
import { type HandStage, planOf } from "../plans.ts";
import { worst } from "../recovery/apart.ts";
import { bitsOf } from "../recovery/runs.ts";
import { whileBroken } from "../recovery/watched.ts";

const STEPS = 3;
const MICRO_BATCHES = 10;
/** With gradients that go in several pieces. */
const MODEL = mlp({ sample: [6], hidden: [260, 250], classes: 3, activation: "tanh" }, 2);
const END = findSegments(MODEL).length;

/** One that makes no steps of roundings, as Adam does. */
const OPTIMIZER: OptimizerConfig = {
  ...DEFAULT_ADAMW,
  ...{ kind: "sgd", momentum: 0.9, nesterov: false, learningRate: 0.1, warmup: 0, steps: STEPS },
};

const clusters = closedBehindTests();

function feedOf(model: Model): Feed {
  const drawn = (seed: number) => ({
    features: new Chance(seed).f32([2, 6], -1, 1),
    targets: Tensor.i64([2], [seed % 3, 1]),
  });
  return {
    values: dataInputs(model),
    training: (step, microBatch) => drawn(1 + MICRO_BATCHES * step + microBatch),
    validationCount: 1,
    validation: drawn,
  };
}

/** What they come to, and keys of what members were given in collectives. */
async function run(stage: HandStage) {
  const plan = planOf(MODEL, { stages: [stage], microBatches: MICRO_BATCHES });
  const cluster = await makeCluster({
    ...{ devices: plan.devices.length, model: MODEL, feed: feedOf(MODEL) },
    scheduling: { plan, microBatches: MICRO_BATCHES, optimizer: OPTIMIZER },
  });
  clusters.push(cluster);
  await cluster.scheduler.ask.plan();
  await cluster.scheduler.ask.deploy(cluster.initial);
  const keys: string[] = [];
  await whileBroken(
    Stage,
    "deliver",
    (_: Stage, deliver: (...args: unknown[]) => unknown, slip: Slip, tensor: Tensor) => {
      if (slip.phase === "collective") keys.push(slip.value);
      return deliver(slip, tensor);
    },
    async () => {
      for (let step = 0; step < STEPS; step++) await cluster.scheduler.ask.step(step, STEPS - 1);
    },
  );
  return { bits: await bitsOf(cluster), keys };
}

test.each([9, 10])("%i members that have micro-batches each", async (count) => {
  const members = Array.from({ length: count }, (): number[] => []);
  for (let m = 0; m < MICRO_BATCHES; m++) members[m % count]!.push(m);
  const many = await run({ to: [END], sharing: "data", members });
  const one = await run({ to: [END], members: 1 });
  expect(worst(many.bits, one.bits)).toBeLessThan(1e-5);
  // Several pieces, up and down, of both trees.
  expect(many.keys).toContain("gradients/0/0/up.2");
  expect(many.keys).toContain("gradients/0/1/down/0.2");
  expect(one.keys).toEqual([]);
});
