/**
 * A device is lost when it is through with a step, and others are not: what it had of it is there, so nothing is done again;
 * what it would have done from then on is dealt to the others behind the commit.
 */

import { expect, test } from "bun:test";
import type { Plan } from "../../../actors/scheduler/plan.ts";
import { workersOf } from "../../../actors/scheduler/plan.ts";
import { Through, unfinished } from "../../../actors/scheduler/through.ts";
import { Session } from "../../../actors/stage/session.ts";
import type { StepReport } from "../../../actors/stage/spec.ts";
import { Worker } from "../../../actors/stage/worker.ts";
import { closedBehindTests } from "../clusters.ts";
import { worst } from "./apart.ts";
import { ALL, BOTH, CUT, END, many, STEP, STEPS, spared, WATCHING } from "./dealt-runs.ts";
import type * as runs from "./runs.ts";
import { bitsAfter, microBatchOperationsOf, type Watched, watched, whileBroken } from "./watched.ts";

const clusters = closedBehindTests();

/** Of the second stage, two can be done without. */
const TEN: runs.Shape = {
  stages: [
    { to: [CUT], ...many(9) },
    { to: [END], ...many(10) },
  ],
};

/**
 * Loses devices when it is known that they are through with the step, while another is held up before it adds up, until others
 * have been told of the loss.
 * @param other what happens with it. @param further what happens when others are told.
 */
async function lostThrough(
  cluster: Watched,
  devices: readonly number[],
  heldUp: number,
  { other = () => {}, further = () => {} }: { other?: () => void; further?: () => void } = {},
) {
  const told = Promise.withResolvers<void>();
  const waiting = new Set(devices);
  let isOver = false;
  const hold = async (worker: any, carryOut: (...args: any[]) => any, operation: any, ...rest: any[]) => {
    const isIt = worker.parts.mail.options.node === cluster.hosts[heldUp]!.id;
    if (isIt && operation.op === "reduce" && rest[1].step === STEP && !isOver) await told.promise;
    return carryOut(operation, ...rest);
  };
  const lose = (_: unknown, heard: (...args: any[]) => any, step: number, worker: number, report: any) => {
    const said = heard(step, worker, report);
    if (step !== STEP || !waiting.delete(worker) || waiting.size > 0) return said;
    for (const device of devices) void cluster.hosts[device]!.close(0);
    other();
    return said;
  };
  const readdress = (_: unknown, original: (...args: any[]) => any, ...args: any[]) => {
    if (!isOver) further();
    isOver = true;
    told.resolve();
    return original(...args);
  };
  return whileBroken(Worker, "carryOut", hold, () =>
    whileBroken(Through, "heard", lose, () =>
      whileBroken(Session, "readdress", readdress, () => bitsAfter(cluster, STEPS)),
    ),
  );
}

async function expectNothingAgain(shape: runs.Shape, devices: readonly number[], heldUp: number) {
  const cluster = await watched(clusters, shape, [], WATCHING);
  const bits = await lostThrough(cluster, devices, heldUp);
  const { told } = cluster;
  expect(told.flatMap(({ lost }) => lost).sort()).toEqual(devices.map((device) => `device-${device}`));
  expect(told.reduce((sum, { operationsReplayed }) => sum + operationsReplayed, 0)).toBe(0);
  expect(told.every(({ stepsLost, movedBytes }) => stepsLost === 0 && movedBytes === 0)).toBe(true);
  expect(cluster.started).toHaveLength(workersOf(cluster.plan).length);
  const left = workersOf(told.at(-1)!.plan).map(({ member }) => member.device);
  expect(left).toHaveLength(workersOf(cluster.plan).length - devices.length);
  for (const device of devices) expect(left).not.toContain(`${device}`);
  expect(worst(bits, await spared(clusters, shape))).toBeLessThan(1e-5);
}

test("nothing of the step is done again, and it is told once", () => expectNothingAgain(BOTH, [12], 2));
test("whoever is the first of its stage, too", () => expectNothingAgain(BOTH, [9], 0));

/** Of two lost, the second when others are told of the first: what is done again is theirs. */
async function expectAgain(first: number, second: number, again: readonly number[]) {
  const cluster = await watched(clusters, BOTH, [], { ...WATCHING, copies: 2 });
  const further = () => void cluster.hosts[second]!.close(0);
  const bits = await lostThrough(cluster, [first], 2, { further });
  const { told } = cluster;
  const names = [first, second].map((device) => `device-${device}`);
  expect(told.flatMap(({ lost }) => lost).sort()).toEqual(names.sort());
  const replayed = told.reduce((sum, { operationsReplayed }) => sum + operationsReplayed, 0);
  expect(replayed).toBe(microBatchOperationsOf(cluster, ...again));
  expect(worst(bits, await spared(clusters, BOTH))).toBeLessThan(1e-5);
}

// Members of both stages have micro-batches in turn: 2 and 11 have the same.
test("another is lost that is not through: that one's part alone is done again", () =>
  expectAgain(12, 2, [2]));
test("which has the same micro-batches: what the first has sent is to be sent again", () =>
  expectAgain(11, 2, [2, 11]));

test("another of its stage is lost, that was not heard to be through: both parts are done again", async () => {
  const cluster = await watched(clusters, TEN, [], { ...WATCHING, copies: 2 });
  const unheard = 10;
  const bits = await whileBroken(
    Through,
    "with",
    (_, original, step) => {
      const known = new Map(original(step));
      known.delete(unheard);
      return known;
    },
    () => lostThrough(cluster, [12], 2, { other: () => void cluster.hosts[unheard]!.close(0) }),
  );
  const { told } = cluster;
  expect(told.flatMap(({ lost }) => lost).sort()).toEqual(["device-10", "device-12"]);
  const replayed = told.reduce((sum, { operationsReplayed }) => sum + operationsReplayed, 0);
  expect(replayed).toBe(microBatchOperationsOf(cluster, 10, 12));
  expect(worst(bits, await spared(clusters, TEN))).toBeLessThan(1e-5);
});

test("a stage cannot go on in the middle: the step is begun again, with what was done by the one that is gone", async () => {
  const cluster = await watched(clusters, BOTH, [], { ...WATCHING, copies: 2 });
  let refused = 0;
  const bits = await whileBroken(
    Session,
    "dealAnew",
    (_, dealAnew, ...args) => (refused++ === 1 ? null : dealAnew(...args)),
    () => lostThrough(cluster, [12], 2, { further: () => void cluster.hosts[2]!.close(0) }),
  );
  expect(refused).toBeGreaterThan(1);
  expect(cluster.told.flatMap(({ lost }) => lost).sort()).toEqual(["device-12", "device-2"]);
  expect(worst(bits, await spared(clusters, BOTH))).toBeLessThan(1e-5);
});

test("whose part is done again, of those that are lost", () => {
  // Members of three stages, by tens of their ids, and the last of each has the micro-batch of the next one's first.
  const stage = (first: number, from: number) => ({
    sharing: "data",
    members: Array.from({ length: 10 }, (_, i) => ({ device: `${first + i}`, microBatches: [from + i] })),
  });
  const plan = { stages: [stage(0, 0), stage(10, 9), stage(20, 18)] } as unknown as Plan;
  const again = (lost: number[], through: number[]) =>
    [...unfinished(plan, new Set(lost.map(String)), new Set(through.map(String)))].map(Number);
  expect(again([0], [0])).toEqual([]);
  expect(again([0], [1])).toEqual([0]);
  expect(again([0, 1], [1])).toEqual([0, 1]);
  expect(again([0, 10], [10])).toEqual([0]);
  expect(again([9, 10, 20], [10, 20])).toEqual([9, 10]);
  expect(again([9, 10, 19, 20], [10, 19, 20])).toEqual([9, 10, 19, 20]);
  expect(again([9, 19, 20], [19, 20])).toEqual([9]);
  // Too few are left to do without them.
  expect(again([0, 1, 2], [0, 1, 2])).toEqual([0, 1, 2]);
  // Who is not of the plan has no part.
  expect(again([70], [])).toEqual([]);
});

test("what was said counts for its own step, and whoever is gone is asked for nothing", () => {
  const report = {} as StepReport;
  const through = new Through(4, new Map([[2, report]]));
  expect(through.said(4, 2)).toBe(report);
  expect(through.said(5, 2)).toBeUndefined();
  expect(() => through.requireThere(2)).toThrow("lost");
  through.requireThere(1);
  expect([...through.with(4).keys()]).toEqual([2]);
  through.heard(4, 1, report);
  expect([...through.with(4).keys()]).toEqual([2, 1]);
  through.heard(5, 0, report);
  expect([...through.with(5).keys()]).toEqual([0]);
  expect(through.with(4).size).toBe(0);
});

test("the last step: it is over when those that are left have committed it", async () => {
  const cluster = await watched(clusters, ALL, [], WATCHING);
  let isLost = false;
  const bits = await whileBroken(
    Through,
    "heard",
    (_, heard, step, worker, report) => {
      if (step === STEPS - 1 && worker === 3 && !isLost) {
        isLost = true;
        void cluster.hosts[3]!.close(0);
      }
      return heard(step, worker, report);
    },
    () => bitsAfter(cluster, STEPS),
  );
  expect(isLost).toBe(true);
  expect(worst(bits, await spared(clusters, ALL))).toBeLessThan(1e-5);
});
