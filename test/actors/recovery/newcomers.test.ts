/** Who comes into a stage whose members share micro-batches is given its copy in a first step, and has work from the next on. */

import { beforeAll, describe, expect, test } from "bun:test";
import type { Plan } from "../../../actors/scheduler/plan.ts";
import type { StepResult } from "../../../actors/scheduler/scheduler.ts";
import { Stage } from "../../../actors/stage.ts";
import { closedBehindTests } from "../clusters.ts";
import { planOf } from "../plans.ts";
import { type Bits, worst } from "./apart.ts";
import { bitsOf, elsewhere, handPlan, MODEL, type Shape } from "./runs.ts";
import { bitsAfter, type Watched, type Watching, watched, whileBroken } from "./watched.ts";

const clusters = closedBehindTests();

const STEPS = 4;
const LAST = STEPS - 1;

const shared = (...members: number[][]): Shape => ({
  stages: [{ to: [3], sharing: "data", members }, { to: [6] }],
});

const BEGUN = ["0 0", "1 1", "2 2"];
/** Devices 0 and 1, and device 2 behind them. */
const BEFORE = shared([0, 2], [1, 3]);
/** Device 3 with them; then device 4 as well. */
const NEXT = elsewhere(handPlan(shared([0], [1, 3], [2])), { 2: 3, 3: 2 });
const THEN = elsewhere(handPlan(shared([0], [1], [2], [3])), { 2: 3, 3: 4, 4: 2 });

let expected: Bits;
beforeAll(async () => {
  expected = await bitsAfter(await watched(clusters, { stages: [{ to: [6] }] }), STEPS);
});

/** Devices of a step that had micro-batches in it. */
function working({ devices, reports }: Pick<StepResult, "devices" | "reports">): string {
  const isWork = ({ op }: { readonly op: string }) => op !== "reduce" && op !== "update";
  return devices.filter((_, i) => reports[i]!.spans.some(isWork)).join("");
}

/**
 * The first one that is given what it holds is given it for so long as `during` takes once it is known that others work.
 * @returns what comes of `work`.
 */
async function whileGiven<T>(during: () => unknown, work: () => Promise<T>): Promise<T> {
  const working = Promise.withResolvers<void>();
  let isGiven = false;
  const fetching = async (_: unknown, fetch: (...args: any[]) => unknown, ...args: any[]) => {
    if (isGiven) return fetch(...args);
    isGiven = true;
    await working.promise;
    await during();
    return fetch(...args);
  };
  const delivering = (_: unknown, deliver: (...args: any[]) => unknown, ...args: any[]) => {
    if (isGiven && args[0].phase === "train") working.resolve();
    return deliver(...args);
  };
  const done = await whileBroken(Stage, "fetch", fetching, () =>
    whileBroken(Stage, "deliver", delivering, work),
  );
  expect(isGiven).toBe(true);
  return done;
}

describe("a newcomer", () => {
  interface Joining {
    readonly engine?: Watching["engine"];
    /** The step that is its first. */
    readonly first?: number;
    /** Once it is being given what it holds, and the others work. */
    readonly during?: (cluster: Watched) => unknown;
  }

  async function joined({ engine = "reference", first = 1, during = () => {} }: Joining): Promise<Watched> {
    const cluster = await watched(clusters, BEFORE, [], { spare: 1, engine });
    const { scheduler } = cluster;
    await whileGiven(
      () => during(cluster),
      async () => {
        for (let step = 0; step < STEPS; step++) {
          if (step === first) await scheduler.ask.migrate(NEXT);
          const made = await scheduler.ask.step(step, LAST);
          if (step === first) expect(working(made)).not.toContain("3");
        }
      },
    );
    return cluster;
  }

  test.each([
    ["reference", 1],
    ["native", 1],
    // There is no other step in which it would have had something to do.
    ["reference", LAST],
  ] as const)("is given its copy while others work (%s, in step %i)", async (engine, first) => {
    const cluster = await joined({ engine, first });
    expect(worst(await bitsOf(cluster), expected)).toBeLessThan(1e-5);
    expect(cluster.started).toEqual([...BEGUN, "3 2"]);
    expect(cluster.told).toEqual([]);
  });

  test.each([
    ["it", 3],
    ["whoever gives it", 1],
    ["another one", 2],
  ])("%s is lost meanwhile: the run goes on with who is left", async (_, lost) => {
    const cluster = await joined({ during: ({ hosts }) => hosts[lost]!.close(0) });
    expect(worst(await bitsOf(cluster), expected)).toBeLessThan(1e-5);
    expect(cluster.told).toHaveLength(1);
    expect(cluster.told[0]).toMatchObject({ lost: [`device-${lost}`], stepsLost: 0, fromCheckpoint: false });
  });

  test("found out: one that keeps what it was not given", async () => {
    const cluster = await whileBroken(
      Stage,
      "fetch",
      () => 0,
      () => joined({}),
    ).catch(() => null);
    const isRight = cluster && worst(await bitsOf(cluster), expected) < 1e-5;
    expect(isRight).toBeFalsy();
  });
});

describe("newcomers that come one after the other", () => {
  /** Device 4 is wanted in the first step of device 3. @returns the run, and who worked in each step behind that one. */
  async function joined(
    {
      compiling,
      during = () => {},
    }: Pick<Watching, "compiling"> & { during?: (cluster: Watched) => unknown },
    wanted: (cluster: Watched, ready: Promise<unknown>) => Promise<unknown>,
  ): Promise<readonly [Watched, readonly string[]]> {
    const cluster = await watched(clusters, BEFORE, [], { spare: 2, ...(compiling && { compiling }) });
    const { scheduler } = cluster;
    await scheduler.ask.step(0, LAST);
    await scheduler.ask.migrate(NEXT);
    expect(working(await scheduler.ask.step(1, LAST))).toBe("012");
    await wanted(cluster, scheduler.ask.migrate(THEN));
    const worked: string[] = [];
    const rest = async () => {
      for (let step = 2; step < STEPS; step++) worked.push(working(await scheduler.ask.step(step, LAST)));
    };
    await whileGiven(() => during(cluster), rest);
    return [cluster, worked];
  }

  test("one is given its copy while the other has work already", async () => {
    const [cluster, worked] = await joined({}, (_, ready) => ready);
    expect(worked).toEqual(["0132", "01342"]);
    expect(worst(await bitsOf(cluster), expected)).toBeLessThan(1e-5);
    expect(cluster.started).toEqual([...BEGUN, "3 2", "4 3"]);
    expect(cluster.told).toEqual([]);
  });

  test("who is not ready does not keep the other from its work", async () => {
    const compiled = Promise.withResolvers<void>();
    const compiling = (device: number) => (device === 4 ? compiled.promise : undefined);
    const [cluster, worked] = await joined({ compiling }, async ({ scheduler }, ready) => {
      expect(working(await scheduler.ask.step(2, LAST))).toBe("0132");
      compiled.resolve();
      await ready;
    });
    expect(worked).toEqual(["0132", "0132"]);
    expect(worst(await bitsOf(cluster), expected)).toBeLessThan(1e-5);
    // It is started once.
    expect(cluster.started).toEqual([...BEGUN, "3 2", "4 3"]);
  });

  test.each([3, 4])("device %i is lost in the first step of the second: the run goes on", async (lost) => {
    const during = ({ hosts }: Watched) => hosts[lost]!.close(0);
    const [cluster] = await joined({ during }, (_, ready) => ready);
    expect(worst(await bitsOf(cluster), expected)).toBeLessThan(1e-5);
    expect(cluster.told).toMatchObject([{ lost: [`device-${lost}`], stepsLost: 0, fromCheckpoint: false }]);
  });
});

describe("a newcomer to a stage of many", () => {
  const MICRO_BATCHES = 10;
  const many = (members: number[][]): Shape => ({
    stages: [{ to: [3], sharing: "data", members }, { to: [6] }],
  });
  const each = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => [from + i]);
  /** Ten members, and device 10 behind them; then device 11 with them. */
  const PRESENT = many(each(0, 10));
  const WITH: Plan = elsewhere(
    planOf(MODEL, { microBatches: MICRO_BATCHES, ...many([...each(0, 9), [], [9]]) }),
    { 10: 11, 11: 10 },
  );
  /** Without device 3. */
  const LEFT = [0, 1, 2, 4, 5, 6, 7, 8, 9, 11, 10].join("");

  let whole: Bits;
  beforeAll(async () => {
    whole = await bitsAfter(
      await watched(clusters, { stages: [{ to: [6] }] }, [], { microBatches: MICRO_BATCHES }),
      STEPS,
    );
  });

  /** @param compiling what the newcomer waits for before it compiles. */
  const begun = (compiling: Promise<unknown>) =>
    watched(clusters, PRESENT, [], {
      ...{ spare: 1, microBatches: MICRO_BATCHES },
      compiling: (device) => (device === 11 ? compiling : undefined),
    });

  async function expectMember(cluster: Watched, last: string): Promise<void> {
    expect(worst(await bitsOf(cluster), whole)).toBeLessThan(1e-5);
    expect(cluster.told).toMatchObject([{ lost: ["device-3"], stepsLost: 0, fromCheckpoint: false }]);
    expect(cluster.started.slice(11)).toEqual(["11 10"]);
    expect(last).toBe(LEFT);
  }

  test("is a member all the same where another is lost while it compiles", async () => {
    const compiled = Promise.withResolvers<void>();
    const cluster = await begun(compiled.promise);
    const { scheduler, hosts } = cluster;
    await scheduler.ask.step(0, LAST);
    const ready = scheduler.ask.migrate(WITH);
    await hosts[3]!.close(0);
    await scheduler.ask.step(1, LAST);
    compiled.resolve();
    await ready;
    await scheduler.ask.step(2, LAST);
    await expectMember(cluster, working(await scheduler.ask.step(3, LAST)));
  });

  test("is a member all the same where another is lost while it is given its copy", async () => {
    const cluster = await begun(Promise.resolve());
    const { scheduler, hosts } = cluster;
    await scheduler.ask.step(0, LAST);
    await scheduler.ask.migrate(WITH);
    await whileGiven(
      () => hosts[3]!.close(0),
      () => scheduler.ask.step(1, LAST),
    );
    await scheduler.ask.step(2, LAST);
    await expectMember(cluster, working(await scheduler.ask.step(3, LAST)));
  });
});
