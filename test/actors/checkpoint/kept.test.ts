/** What a step has left can be asked for while others are made: what checkpoints are written from in the meantime. */

import { expect, test } from "bun:test";
import { weightsSha256 } from "../../../actors/checkpoint.ts";
import { gptModel } from "../../../nn/models/gpt.ts";
import type { Tensor } from "../../../protocols/tensor.ts";
import { failure } from "../../runtime/world.ts";
import { type Cluster, makeCluster } from "../cluster.ts";
import { closedBehindTests } from "../clusters.ts";
import { type HandStage, planOf } from "../plans.ts";

const GPT = { layers: 2, width: 8, heads: 2, context: 8, vocabulary: 256 };
const LAST = 5;

const clusters = closedBehindTests();

async function deployed(stages: HandStage[]): Promise<Cluster> {
  const model = gptModel(GPT, 2);
  const plan = planOf(model, { microBatches: 4, stages });
  let initial: Readonly<Record<string, Tensor>> = {};
  const recovery = {
    copies: 1,
    restart: async () => ({ step: -1, values: initial }),
    fixed: async (names: readonly string[]) =>
      Object.fromEntries(names.map((name) => [name, initial[name]!])),
    tell: () => {},
  };
  const cluster = await makeCluster({
    ...{ devices: plan.devices.length, apart: true, model },
    scheduling: { plan, recovery },
  });
  clusters.push(cluster);
  initial = cluster.initial;
  await cluster.scheduler.ask.plan();
  await cluster.scheduler.ask.deploy(initial);
  return cluster;
}

const hash = (values: Readonly<Record<string, Tensor>>) => weightsSha256(new Map(Object.entries(values)));

test.each<[string, HandStage[]]>([
  [
    "a pipeline",
    [
      { to: [2], members: 1 },
      { to: [6], members: 1 },
    ],
  ],
  [
    "a stage shared by tensor",
    [
      { to: [3], members: 1 },
      { to: [6], sharing: "tensor", members: 2 },
    ],
  ],
])("%s keeps what was held until it is released, and no longer", async (_, stages) => {
  const { scheduler } = await deployed(stages);
  await scheduler.ask.step(0, LAST);
  await scheduler.ask.step(1, LAST, false, true);
  const expected = hash(await scheduler.ask.state());
  const layout = await scheduler.ask.layout();
  expect(layout).toHaveLength(2);
  const asked: Record<string, Tensor> = {};
  const stepping = scheduler.ask.step(2, LAST, true);
  Object.assign(asked, await scheduler.ask.kept(1, layout[0]!));
  await stepping;
  for (const step of [3, 4]) await scheduler.ask.step(step, LAST, true);
  Object.assign(asked, await scheduler.ask.kept(1, layout[1]!));
  expect(hash(asked)).toBe(expected);
  expect(hash(await scheduler.ask.state())).not.toBe(expected);
  await scheduler.ask.release();
  expect((await failure(scheduler.ask.kept(1, layout[0]!))).message).toBe("what step 2 left is not held");
});

test("a device that is lost takes with it what it held", async () => {
  const { scheduler, hosts } = await deployed([
    { to: [2], members: 1 },
    { to: [6], members: 1 },
  ]);
  await scheduler.ask.step(0, LAST, false, true);
  const [first, second] = (await scheduler.ask.layout()) as [string[], string[]];
  await hosts[0]!.close();
  await scheduler.ask.step(1, LAST);
  await failure(scheduler.ask.kept(0, [...first, ...second]));
});
