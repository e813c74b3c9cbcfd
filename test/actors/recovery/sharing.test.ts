/**
 * A device is lost that shares a stage: of a step that is under way, its own part is done again by whoever takes its place,
 * and nothing else, wherever the members were in adding up; and not a bit of what comes of it is another.
 */

import { describe, expect, test } from "bun:test";
import type { Feed } from "../../../actors/data/feed.ts";
import { Outbox } from "../../../actors/stage/outbox.ts";
import { Stage } from "../../../actors/stage.ts";
import { dataInputs } from "../../../nn/model.ts";
import { mlp } from "../../../nn/models/mlp.ts";
import { findSegments } from "../../../nn/segments.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../../nn/engine/operator-cases.ts";
import { motley } from "../../nn/motley.ts";
import { closedBehindTests } from "../clusters.ts";
import * as runs from "./runs.ts";
import {
  bitsAfter,
  killed,
  operationsOf,
  type Watched,
  type Watching,
  watched,
  whileBroken,
} from "./watched.ts";

const clusters = closedBehindTests();

type Bits = Readonly<Record<string, string>>;
const STEPS = 4;
/** The step in which somebody is lost. */
const STEP = 2;
const made = (cluster: Watched): Promise<Bits> => bitsAfter(cluster, STEPS);

const data = (...members: number[][]) => ({ sharing: "data" as const, members });
const ALL: runs.Shape = { stages: [{ to: [6], ...data([0, 3], [1], [2]) }] };
const BEHIND: runs.Shape = {
  stages: [
    { to: [3], members: 1 },
    { to: [6], ...data([0, 2], [1, 3]) },
  ],
};

/** By shape and model, the bits of a run in which nobody is lost. */
const undisturbed = new Map<unknown, Promise<Bits>>();
function spared(shape: runs.Shape, watching: Watching = {}): Promise<Bits> {
  const key = watching.model ?? shape;
  const known = undisturbed.get(key) ?? watched(clusters, shape, [], watching).then(made);
  undisturbed.set(key, known);
  return known;
}

test.each([
  ["ahead of its reduction", ALL, 1, { phase: "reduce" }],
  ["in a forward pass", ALL, 0, { microBatch: 3, phase: "forward" }],
  ["in a backward pass", runs.SHARED_BY_DATA, 1, { microBatch: 3, phase: "backward" }],
  ["when a stage behind it has reported", BEHIND, 0, { microBatch: 3, phase: "backward" }],
  ["of a shared stage behind one that is not", BEHIND, 2, { microBatch: 1, phase: "backward" }],
  ["of a shared stage before one that is not", runs.SHARED_BY_DATA, 2, { microBatch: 2, phase: "backward" }],
] as const)("a device is lost %s", async (_, shape, device, at) => {
  const cluster = await watched(clusters, shape, [killed(device, { step: STEP, ...at })]);
  expect(await made(cluster)).toEqual(await spared(shape));
  expect(cluster.told).toHaveLength(1);
  expect(cluster.told[0]).toMatchObject({
    ...{ stepsLost: 0, movedBytes: 0 },
    operationsReplayed: operationsOf(cluster, device),
  });
});

/** Devices are lost when so many messages of its ring have come to the first of them in a step. */
async function lostInRing(
  [device, ...others]: [number, ...number[]],
  messages: number,
  shape: runs.Shape,
  watching: Watching = {},
) {
  const cluster = await watched(clusters, shape, [], watching);
  const host = cluster.hosts[device]!;
  let left = messages;
  const bits = await whileBroken(
    Stage,
    "deliver",
    (stage, deliver, slip, tensor) => {
      if (slip.phase === "collective" && slip.step === STEP && stage.context.node === host && --left === 0) {
        for (const lost of [device, ...others]) void cluster.hosts[lost]!.close(0);
        return new Promise(() => {});
      }
      return deliver(slip, tensor);
    },
    () => made(cluster),
  );
  expect(left).toBeLessThanOrEqual(0);
  return { cluster, bits };
}

describe("a device is lost in the middle of adding up", () => {
  test.each([1, 2, 3, 4])("with message %i of 4", async (message) => {
    const { cluster, bits } = await lostInRing([1], message, ALL);
    expect(bits).toEqual(await spared(ALL));
    expect(cluster.told[0]).toMatchObject({ stepsLost: 0, operationsReplayed: operationsOf(cluster, 1) });
  });

  test("what is added up is in several pieces", async () => {
    const model = mlp({ sample: [512], hidden: [420], classes: 3, activation: "tanh" }, 2);
    const drawn = (seed: number) => {
      const chance = new Chance(seed);
      return { features: chance.f32([2, 512], -1, 1), targets: Tensor.i64([2], [seed % 3, 1]) };
    };
    const feed: Feed = {
      values: dataInputs(model),
      training: (step, microBatch) => drawn(4 * step + microBatch),
      validationCount: 1,
      validation: drawn,
    };
    const watching = { model, feed, engine: "native" } as const;
    const wide: runs.Shape = { stages: [{ to: [findSegments(model).length], ...data([0, 3], [1], [2]) }] };
    const { cluster, bits } = await lostInRing([2], 5, wide, watching);
    expect(bits).toEqual(await spared(wide, watching));
    expect(cluster.told[0]).toMatchObject({ stepsLost: 0, operationsReplayed: operationsOf(cluster, 2) });
  });

  test("with statistics that move, dropout, and a parameter that two stages hold", async () => {
    const model = motley();
    const shape = {
      stages: [
        { to: [3], ...data([0, 2], [1, 3]) },
        { to: [6], ...data([0, 3], [1, 2]) },
      ],
    };
    for (const message of [1, 2]) {
      const { cluster, bits } = await lostInRing([1], message, shape, { model });
      expect(bits).toEqual(await spared(shape, { model }));
      expect(cluster.told[0]).toMatchObject({ stepsLost: 0, operationsReplayed: operationsOf(cluster, 1) });
    }
  });
});

test("two are lost at once", async () => {
  const at = { step: STEP, phase: "reduce" } as const;
  const cluster = await watched(clusters, ALL, [killed(0, at), killed(2, at)], { copies: 2 });
  expect(await made(cluster)).toEqual(await spared(ALL));
  const again = cluster.told.reduce((sum, { operationsReplayed }) => sum + operationsReplayed, 0);
  // One may have been replaced before the other was lost.
  expect(again).toBeWithin(operationsOf(cluster, 0, 2), 2 * operationsOf(cluster, 0, 2));
  expect(cluster.told.every(({ stepsLost }) => stepsLost === 0)).toBe(true);
});

test("another is lost while it is given what the first has held", async () => {
  const faults = [
    killed(1, { step: STEP, microBatch: 2, phase: "backward" }),
    killed(2, { step: 0, phase: "recovery" }),
  ];
  const cluster = await watched(clusters, BEHIND, faults, { copies: 2 });
  expect(await made(cluster)).toEqual(await spared(BEHIND));
  expect(cluster.told).toHaveLength(1);
  expect(cluster.told[0]).toMatchObject({ stepsLost: 0 });
});

test("members train on their own: the one that is lost", async () => {
  const shape: runs.Shape = {
    stages: [{ to: [6], sharing: "local", members: [[0, 2], [1], [3]] }],
    localSteps: 2,
  };
  const cluster = await watched(clusters, shape, [killed(1, { step: STEP, phase: "backward" })]);
  expect(await made(cluster)).toEqual(await spared(shape));
  expect(cluster.told[0]).toMatchObject({ stepsLost: 0, operationsReplayed: operationsOf(cluster, 1) });
});

test("what gradients' codecs have left out is with nobody: all of the step is begun again", async () => {
  const shape = { ...ALL, codecs: { activations: null, gradients: "int8" } };
  const cluster = await watched(clusters, shape, [killed(1, { step: STEP, phase: "reduce" })]);
  await made(cluster);
  expect(cluster.told[0]).toMatchObject({ operationsReplayed: operationsOf(cluster, 0, 1, 2) });
});

test("found out: what was lent to the ring, and is written over before it is sent again", async () => {
  const bits = await whileBroken(
    Outbox,
    "add",
    (outbox, add, workers, slip, tensor, codec) => {
      return slip.phase === "collective"
        ? outbox.keep(workers, slip, tensor, codec)
        : add(workers, slip, tensor, codec);
    },
    async () => (await lostInRing([1, 2], 4, ALL, { copies: 2 })).bits,
  );
  expect(bits).not.toEqual(await spared(ALL));
});
