/**
 * Where a lost device's micro-batches are dealt to the others of its stage, each of them goes on by itself: nobody waits until
 * all have come to rest, and stages that have lost nobody neither come to rest nor add up again.
 */

import { expect, test } from "bun:test";
import { Keeper } from "../../../actors/recovery/keeper.ts";
import { Session } from "../../../actors/stage/session.ts";
import { StepUnderWay } from "../../../actors/stage/step.ts";
import { Worker } from "../../../actors/stage/worker.ts";
import { Stage } from "../../../actors/stage.ts";
import { StageExecutor } from "../../../nn/executor.ts";
import { closedBehindTests } from "../clusters.ts";
import { worst } from "./apart.ts";
import { ALL, BOTH, CUT, END, many, STEP, STEPS, spared, WATCHING } from "./dealt-runs.ts";
import type * as runs from "./runs.ts";
import { bitsAfter, killed, watched, whileBroken } from "./watched.ts";

const clusters = closedBehindTests();

/** Devices of the second stage of `BOTH`. */
const SECOND = 9;

test("whoever has come to rest goes on, though another has not", async () => {
  const cluster = await watched(
    clusters,
    ALL,
    [killed(1, { step: STEP, microBatch: 11, phase: "forward" })],
    WATCHING,
  );
  const goneOn = Promise.withResolvers<void>();
  let held: unknown;
  const bits = await whileBroken(
    StepUnderWay,
    "breakOff",
    async (under, breakOff) => {
      held ??= under;
      // It comes to rest when somebody has begun again what was lost, and not before.
      if (held === under) await goneOn.promise;
      return breakOff();
    },
    () =>
      whileBroken(
        Stage,
        "train",
        (_, train, step) => {
          if (held && step === STEP) goneOn.resolve();
          return train(step);
        },
        () => bitsAfter(cluster, STEPS),
      ),
  );
  expect(held).toBeDefined();
  expect(cluster.told[0]).toMatchObject({ stepsLost: 0, movedBytes: 0 });
  expect(worst(bits, await spared(clusters, ALL))).toBeLessThan(1e-5);
});

test.each([
  ["in a forward pass", { microBatch: 11, phase: "forward" }],
  ["in a backward pass", { microBatch: 2, phase: "backward" }],
  ["ahead of its reduction", { phase: "reduce" }],
] as const)("a stage that has lost nobody does not come to rest (%s)", async (_, at) => {
  const cluster = await watched(clusters, BOTH, [killed(2, { step: STEP, ...at })], WATCHING);
  const cameToRest: number[] = [];
  const addedUp: string[] = [];
  const bits = await whileBroken(
    Session,
    "dealAnew",
    (session, dealAnew, ...args) => {
      cameToRest.push(session.parts.spec.program.worker);
      return dealAnew(...args);
    },
    () =>
      whileBroken(
        Worker,
        "reduce",
        (worker, reduce, chunk, index, stepRun) => {
          if (stepRun.step === STEP) addedUp.push(worker.parts.mail.options.node);
          return reduce(chunk, index, stepRun);
        },
        () => bitsAfter(cluster, STEPS),
      ),
  );
  expect(new Set(cameToRest)).toEqual(new Set([0, 1, 3, 4, 5, 6, 7, 8]));
  const others = cluster.hosts.slice(SECOND).map(({ id }) => id);
  expect(addedUp.filter((node) => others.includes(node)).sort()).toEqual(others.sort());
  expect(worst(bits, await spared(clusters, BOTH))).toBeLessThan(1e-5);
});

test("a stage that cannot go on in the middle: the step is begun again, by what was dealt", async () => {
  const cluster = await watched(
    clusters,
    ALL,
    [killed(1, { step: STEP, microBatch: 11, phase: "forward" })],
    WATCHING,
  );
  let refused = 0;
  const bits = await whileBroken(
    Session,
    "dealAnew",
    (_, dealAnew, ...args) => (refused++ === 3 ? null : dealAnew(...args)),
    () => bitsAfter(cluster, STEPS),
  );
  expect(refused).toBeGreaterThan(3);
  expect(cluster.told.flatMap(({ lost }) => lost)).toEqual(["device-1"]);
  expect(cluster.told[0]).toMatchObject({ stepsLost: 0, movedBytes: 0 });
  expect(worst(bits, await spared(clusters, ALL))).toBeLessThan(1e-5);
});

test("lost in a validation pass, which one of them is in longer than others: all begin it again", async () => {
  const shape: runs.Shape = {
    stages: [
      { to: [CUT], members: 1 },
      { to: [END], ...many(10) },
    ],
  };
  const cluster = await watched(clusters, shape, [], { ...WATCHING, every: 4 });
  const { scheduler, hosts } = cluster;
  for (let step = 0; step < 2; step++) await scheduler.ask.step(step, STEPS - 1);
  const spared = await scheduler.ask.evaluate(0);
  const longer = Promise.withResolvers<void>();
  let isLost = false;
  let told = 0;
  const loss = await whileBroken(
    StageExecutor,
    "evaluate",
    async (_, evaluate, inputs, key) => {
      const result = await evaluate(inputs, key);
      if (isLost || inputs.targets === undefined) return result;
      isLost = true;
      void hosts[7]!.close(0);
      await longer.promise;
      return result;
    },
    () =>
      whileBroken(
        Stage,
        "resume",
        (_, resume, ...args) => {
          // Nine others go on, and begin the pass again, before it has heard of it.
          if (++told === 9) setTimeout(() => longer.resolve(), 20);
          return resume(...args);
        },
        () => scheduler.ask.evaluate(1),
      ),
  );
  expect(isLost).toBe(true);
  expect(loss).toBeCloseTo(spared, 6);
  // Copies are of the beginning, and all that are left have what the last step left.
  await scheduler.ask.step(2, STEPS - 1);
  expect(cluster.told).toHaveLength(1);
  expect(cluster.told[0]).toMatchObject({ lost: ["device-7"], stepsLost: 0, operationsReplayed: 0 });
});

test("nobody is said to have a copy before all have come to rest, who make theirs then", async () => {
  const cluster = await watched(
    clusters,
    ALL,
    [killed(1, { step: STEP, microBatch: 11, phase: "forward" })],
    WATCHING,
  );
  const resting = Promise.withResolvers<void>();
  let state: "before" | "held" | "released" = "before";
  const kept: string[] = [];
  const bits = await whileBroken(
    StepUnderWay,
    "breakOff",
    async (_, breakOff) => {
      if (state === "before") state = "held";
      if (state === "held") await resting.promise;
      return breakOff();
    },
    () =>
      whileBroken(
        Keeper,
        "watch",
        (_, watch, ...args) => {
          // The run goes on by what was dealt.
          if (state === "held") {
            setTimeout(() => {
              state = "released";
              resting.resolve();
            }, 5);
          }
          return watch(...args);
        },
        () =>
          whileBroken(
            Keeper,
            "kept",
            (_, keep, step) => {
              kept.push(`${step} ${state}`);
              return keep(step);
            },
            () => bitsAfter(cluster, STEPS),
          ),
      ),
  );
  expect(kept).toContain(`${STEP - 1} released`);
  expect(kept.filter((each) => each.endsWith("held"))).toEqual([]);
  expect(worst(bits, await spared(clusters, ALL))).toBeLessThan(1e-5);
});
