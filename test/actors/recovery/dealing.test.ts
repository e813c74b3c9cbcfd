/**
 * A run goes over to a plan in which micro-batches are dealt in another way, or stages have more or fewer members: whoever
 * has their part of the model goes on with it. Nothing is compiled anew or given but where somebody is new.
 */

import { expect, test } from "bun:test";
import type { Plan } from "../../../actors/scheduler/plan.ts";
import { Stage } from "../../../actors/stage.ts";
import type { Model } from "../../../nn/model.ts";
import { motley } from "../../nn/motley.ts";
import { closedBehindTests } from "../clusters.ts";
import { type HandPlan, planOf } from "../plans.ts";
import { type Bits, worst } from "./apart.ts";
import { MODEL } from "./runs.ts";
import { bitsAfter, killed, operationsOf, type Watched, watched, whileBroken } from "./watched.ts";

const clusters = closedBehindTests();

type Shape = Omit<HandPlan, "microBatches">;
const STEPS = 4;
/** Before this step the run goes over. */
const STEP = 2;
const data = (...members: number[][]) => ({ sharing: "data" as const, members });

/** Of a shape, on these devices by worker. */
function planOn(shape: Shape, devices: readonly number[], model: Model = MODEL): Plan {
  const plan = planOf(model, { microBatches: 4, ...shape });
  let next = 0;
  const stages = plan.stages.map((stage) => ({
    ...stage,
    members: stage.members.map((member) => {
      const device = `${devices[next++]}`;
      return { ...member, device, deviceName: `device-${device}` };
    }),
  }));
  const used = [...new Set(devices)].sort((a, b) => a - b);
  return {
    ...plan,
    stages,
    devices: used.map((id) => ({ id: `${id}`, name: `device-${id}`, used: true, reason: "" })),
  };
}

interface Over {
  readonly bits: Bits;
  /** Stages that were started for the second plan. */
  readonly started: readonly string[];
  /** Devices whose stages were given something for it. */
  readonly given: readonly number[];
}

/** A run by this cluster's plan, then by another. */
async function goOver(cluster: Watched, next: Plan): Promise<Over> {
  const given = new Set<number>();
  let began = Number.POSITIVE_INFINITY;
  const noting = (stage: any, original: (...args: any[]) => unknown, ...args: unknown[]) => {
    if (began < Number.POSITIVE_INFINITY) given.add(cluster.hosts.indexOf(stage.context.node));
    return original(...args);
  };
  const run = () =>
    bitsAfter(cluster, STEPS, async (step) => {
      if (step !== STEP) return;
      began = cluster.started.length;
      await cluster.scheduler.ask.migrate(next);
    });
  const bits = await whileBroken(Stage, "fetch", noting, () => whileBroken(Stage, "load", noting, run));
  return { bits, started: cluster.started.slice(began), given: [...given] };
}

const spared = (shape: Shape, model: Model = MODEL) =>
  watched(clusters, shape, [], { model }).then((cluster) => bitsAfter(cluster, STEPS));

const THREE: Shape = {
  stages: [
    { to: [3], members: 1 },
    { to: [6], ...data([0, 2], [1, 3]) },
  ],
};
const REDEALT: Shape = {
  stages: [
    { to: [3], members: 1 },
    { to: [6], ...data([0], [1, 2, 3]) },
  ],
};
const FOUR: Shape = {
  stages: [
    { to: [3], members: 1 },
    { to: [6], ...data([0, 3], [1], [2]) },
  ],
};
const MORE_BEFORE: Shape = {
  stages: [
    { to: [3], ...data([0, 1, 2], [3]) },
    { to: [6], ...data([0, 2], [1, 3]) },
  ],
};
const FEWER: Shape = {
  stages: [
    { to: [3], members: 1 },
    { to: [6], members: 1 },
  ],
};

test.each([
  ["micro-batches are dealt in another way", THREE, REDEALT, [0, 1, 2], []],
  ["a device joins a shared stage", THREE, FOUR, [0, 1, 2, 3], ["3 3"]],
  ["a device joins a stage of one", THREE, MORE_BEFORE, [0, 3, 1, 2], ["3 1"]],
  ["a member is left out", THREE, FEWER, [0, 2], []],
  ["members come in another order", FOUR, FOUR, [0, 3, 1, 2], []],
] as const)("%s: nothing is started or given but that", async (_, from, to, devices, starting) => {
  const cluster = await watched(clusters, from, [], { spare: 1 });
  const { bits, started, given } = await goOver(cluster, planOn(to, devices));
  expect([...started]).toEqual([...starting]);
  expect(given).toEqual(starting.map((each) => Number(each.split(" ")[0])));
  expect(worst(bits, await spared(from))).toBeLessThan(1e-5);
});

test("statistics that move, dropout, and a parameter that two stages hold", async () => {
  const model = motley();
  const from: Shape = {
    stages: [
      { to: [3], ...data([0, 2], [1, 3]) },
      { to: [6], members: 1 },
    ],
  };
  const to: Shape = {
    stages: [
      { to: [3], ...data([1], [0, 3], [2]) },
      { to: [6], members: 1 },
    ],
  };
  const cluster = await watched(clusters, from, [], { spare: 1, model });
  const { bits, started } = await goOver(cluster, planOn(to, [1, 3, 0, 2], model));
  expect([...started]).toEqual(["3 1"]);
  expect(worst(bits, await spared(from, model))).toBeLessThan(1e-5);
});

test("a pipeline whose stages take their turns in another way: the same bits", async () => {
  const stages = [
    { to: [3], members: 1 },
    { to: [6], members: 1 },
  ];
  const cluster = await watched(clusters, { stages, schedule: "1f1b" });
  // More micro-batches are in flight at once.
  const { bits, started, given } = await goOver(cluster, planOn({ stages, schedule: "gpipe" }, [0, 1]));
  expect({ started, given }).toEqual({ started: [], given: [] });
  expect(bits).toEqual(await spared({ stages }));
});

test("a device is lost behind such a move: copies of who stayed are known, and one stage is started", async () => {
  const cluster = await watched(clusters, THREE, [], { spare: 1 });
  await cluster.devices[0]!.ask.arm([killed(0, { step: STEP + 1, microBatch: 3, phase: "backward" })]);
  const { bits, started } = await goOver(cluster, planOn(MORE_BEFORE, [3, 0, 1, 2]));
  const [told] = cluster.told;
  expect(told).toMatchObject({ stepsLost: 0, movedBytes: 0 });
  expect(told!.operationsReplayed).toBe(operationsOf({ plan: told!.plan }, 1));
  expect(started).toEqual(["3 0", "3 1"]);
  expect(worst(bits, await spared(THREE))).toBeLessThan(1e-5);
});

test("a device that never had copies elsewhere than with others is lost behind such a move", async () => {
  const cluster = await watched(clusters, MORE_BEFORE);
  await cluster.devices[1]!.ask.arm([killed(1, { step: STEP + 1, microBatch: 1, phase: "forward" })]);
  // The first stage has one member from here on, whose copies are with another device.
  const { bits } = await goOver(cluster, planOn(THREE, [1, 2, 3]));
  expect(cluster.told[0]).toMatchObject({ stepsLost: 0, fromCheckpoint: false });
  expect(worst(bits, await spared(MORE_BEFORE))).toBeLessThan(1e-5);
});
