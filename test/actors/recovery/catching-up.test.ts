/**
 * A device is lost when copies are behind: whoever takes its place makes the steps since then by itself, of what others have
 * sent in them, and nobody else makes one again; and not a bit of what comes of it is another.
 */

import { describe, expect, test } from "bun:test";
import type { Fault } from "../../../actors/chaos/fault.ts";
import { Commits } from "../../../actors/scheduler/catching-up.ts";
import { Mail } from "../../../actors/stage/mail.ts";
import { Outbox } from "../../../actors/stage/outbox.ts";
import { Stage } from "../../../actors/stage.ts";
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

/** There are copies of what the run begins with, of step 2 and of step 5. */
const EVERY = 3;
/** In which copies are two steps behind. */
const STEP = 5;

const PIPELINE: runs.Shape = { stages: runs.PIPELINE };

type Bits = Readonly<Record<string, string>>;

/** By shape, the bits of a run in which nobody is lost. */
const undisturbed = new Map<runs.Shape, Promise<Bits>>();
function spared(shape: runs.Shape, watching: Watching = {}): Promise<Bits> {
  const known =
    undisturbed.get(shape) ?? watched(clusters, shape, [], watching).then((cluster) => bitsAfter(cluster));
  undisturbed.set(shape, known);
  return known;
}

/** A run that ends as it would have without these. */
async function exact(shape: runs.Shape, faults: readonly Fault[], watching: Watching = {}): Promise<Watched> {
  const cluster = await watched(clusters, shape, faults, { every: EVERY, ...watching });
  expect(await bitsAfter(cluster)).toEqual(await spared(shape, watching));
  return cluster;
}

const replayed = ({ told }: Watched) =>
  told.reduce((sum, { operationsReplayed }) => sum + operationsReplayed, 0);

test.each([
  [0, { step: 4, microBatch: 1, phase: "backward" }, 1],
  [1, { step: 3, microBatch: 3, phase: "forward" }, 0],
  [1, { step: 5, microBatch: 0, phase: "forward" }, 2],
  [2, { step: 5, microBatch: 3, phase: "backward" }, 2],
] as const)("device %i is lost at %p, and copies are %i steps behind", async (device, at, behind) => {
  const cluster = await exact(PIPELINE, [killed(device, at)]);
  expect(cluster.told).toHaveLength(1);
  expect(cluster.told[0]).toMatchObject({ stepsLost: 0, fromCheckpoint: false });
  expect(replayed(cluster)).toBe(operationsOf(cluster, device) * (behind + 1));
});

test("of a stage that is shared: the lost member's part alone, wherever they were in adding up", async () => {
  for (const [device, phase] of [[1, "reduce"] as const, [2, "backward"] as const]) {
    const cluster = await exact(runs.SHARED_BY_DATA, [killed(device, { step: STEP, phase })]);
    expect(cluster.told).toMatchObject([{ stepsLost: 0 }]);
    expect(replayed(cluster)).toBe(operationsOf(cluster, device) * 3);
  }
});

test("with statistics that move, dropout, and a parameter that two stages hold", async () => {
  // Its undisturbed run is that of another model.
  const shape = { ...runs.SHARED_BY_DATA };
  for (const device of [1, 2]) {
    const at = { step: STEP, phase: "backward" } as const;
    const cluster = await exact(shape, [killed(device, at)], { model: motley() });
    expect(cluster.told).toMatchObject([{ stepsLost: 0 }]);
    expect(replayed(cluster)).toBe(operationsOf(cluster, device) * 3);
  }
});

/** What a run comes to when devices are lost at once in the middle of a step. */
async function lostAtOnce(cluster: Watched, ...devices: number[]): Promise<Bits> {
  let isLost = false;
  return whileBroken(
    Stage,
    "deliver",
    (stage, deliver, slip, tensor) => {
      // Data comes while the step before it is under way.
      const isOfStep = slip.step === STEP && !["ids", "targets"].includes(slip.value);
      if (!isLost && isOfStep && stage.context.node === cluster.hosts[cluster.plan.stages.length - 1]) {
        isLost = true;
        for (const lost of devices) void cluster.hosts[lost]!.close(0);
      }
      return deliver(slip, tensor);
    },
    () => bitsAfter(cluster),
  );
}

test("two are lost at once, and catch up with each other", async () => {
  const cluster = await watched(clusters, PIPELINE, [], { every: EVERY, copies: 2 });
  expect(await lostAtOnce(cluster, 0, 1)).toEqual(await spared(PIPELINE));
  expect(cluster.told.flatMap(({ lost }) => lost).sort()).toEqual(["device-0", "device-1"]);
  expect(cluster.told.every(({ stepsLost }) => stepsLost === 0)).toBe(true);
  expect(replayed(cluster)).toBe(operationsOf(cluster, 0, 1) * 3);
});

test("another is lost while the first is caught up on, and then one that has caught up", async () => {
  const cluster = await watched(
    clusters,
    PIPELINE,
    [killed(1, { step: STEP, microBatch: 1, phase: "forward" })],
    { every: EVERY, copies: 2, spare: 1 },
  );
  let commits = 0;
  const bits = await whileBroken(
    Stage,
    "commit",
    (_, commit, step, ...rest) => {
      // Three have committed it; the fourth is who catches up.
      if (step === STEP - 2 && ++commits === 4) void cluster.hosts[2]!.close(0);
      return commit(step, ...rest);
    },
    () => bitsAfter(cluster),
  );
  expect(bits).toEqual(await spared(PIPELINE));
  expect(commits).toBeGreaterThan(4);
  expect(cluster.told.every(({ stepsLost }) => stepsLost === 0)).toBe(true);
  expect(cluster.told.flatMap(({ lost }) => lost)).toEqual(["device-1", "device-2"]);
});

test("once more, before there are copies of what was caught up on", async () => {
  const faults = [
    killed(1, { step: 4, microBatch: 1, phase: "backward" }),
    killed(2, { step: 4, microBatch: 3, phase: "backward" }),
  ];
  const cluster = await exact(PIPELINE, faults, { copies: 2 });
  expect(cluster.told.every(({ stepsLost }) => stepsLost === 0)).toBe(true);
});

test("a pass of validation between steps is nothing to it", async () => {
  const faults = [killed(1, { step: STEP, microBatch: 1, phase: "forward" })];
  const cluster = await watched(clusters, PIPELINE, faults, { every: EVERY });
  const bits = await bitsAfter(cluster, runs.STEPS, (step) => cluster.scheduler.ask.evaluate(step));
  expect(bits).toEqual(await spared(PIPELINE));
  expect(cluster.told).toMatchObject([{ stepsLost: 0 }]);
});

test("a step that all others have committed is made, whatever the lost one had of it", async () => {
  const cluster = await exact(PIPELINE, [killed(1, { step: STEP, phase: "commit" })]);
  const operationsReplayed = 3 * operationsOf(cluster, 1);
  expect(cluster.told).toMatchObject([{ stepsLost: 0, operationsReplayed }]);
});

describe("all go back to what there are copies of", () => {
  test("where nobody is left who was in it", async () => {
    const shape: runs.Shape = {
      stages: [
        { to: [3], members: 1 },
        { to: [6], members: 1 },
      ],
    };
    const cluster = await watched(clusters, shape, [], { every: EVERY, copies: 2, spare: 1 });
    expect(await lostAtOnce(cluster, 0, 1)).toEqual(await spared(shape));
    expect(cluster.told).toMatchObject([{ stepsLost: 2, fromCheckpoint: false }]);
  });

  test("where members train on their own", async () => {
    const shape: runs.Shape = {
      stages: [
        {
          to: [6],
          sharing: "local",
          members: [
            [0, 2],
            [1, 3],
          ],
        },
      ],
      localSteps: 4,
    };
    const cluster = await exact(shape, [killed(1, { step: STEP, phase: "backward" })]);
    expect(cluster.told).toMatchObject([{ stepsLost: 2 }]);
  });

  test("where what was sent takes more memory than it may", async () => {
    const cluster = await whileBroken(
      Mail,
      "begin",
      (_, begin, step) => begin(step, 1000),
      () => exact(PIPELINE, [killed(1, { step: STEP, microBatch: 1, phase: "forward" })]),
    );
    expect(cluster.told).toMatchObject([{ stepsLost: 2 }]);
  });
});

test("what was sent is forgotten with each point, and its memory used again", async () => {
  const cluster = await watched(clusters, PIPELINE, [], { every: EVERY });
  const steps = new Set<number>();
  const held = new Set<number>();
  await whileBroken(
    Outbox,
    "begin",
    (outbox, begin, step, most) => {
      begin(step, most);
      held.add(outbox.first);
      steps.add(new Set([...outbox.all()].map(({ slip }) => slip.step)).size);
    },
    () => bitsAfter(cluster, 10),
  );
  expect([...steps].sort()).toEqual([0, 1, 2]);
  expect([...held].sort()).toEqual([0, 3, 6, 9]);
});

describe("found out", () => {
  const fault = killed(1, { step: STEP, microBatch: 1, phase: "forward" });
  async function broken(
    type: { prototype: object },
    method: string,
    instead: (self: any, original: (...args: any[]) => any, ...args: any[]) => unknown,
  ): Promise<Bits> {
    const cluster = await watched(clusters, PIPELINE, [fault], { every: EVERY });
    return whileBroken(type, method, instead, () => bitsAfter(cluster));
  }

  test("a commit by what another step's was told", async () => {
    const bits = await broken(Commits, "of", (_, of, step) => of(step - 1) ?? of(step + 1));
    expect(bits).not.toEqual(await spared(PIPELINE));
  });

  test("what was sent, and is written over by a later step", async () => {
    const kept = new Map<string, Uint8Array>();
    const bits = await broken(Outbox, "add", (_, add, workers, slip, tensor, codec) => {
      const sent = add(workers, slip, tensor, codec);
      const key = `${workers}/${slip.microBatch}/${slip.value}`;
      kept.get(key)?.set(tensor.bytes);
      kept.set(key, sent.tensor.bytes);
      return sent;
    });
    expect(bits).not.toEqual(await spared(PIPELINE));
  });
});
