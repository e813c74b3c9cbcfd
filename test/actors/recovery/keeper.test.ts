/** Recovery points: one at a time, complete when all copies are there, whichever lines copies have to go by. */

import { beforeEach, expect, test } from "bun:test";
import { Keeper, type KeepingCost } from "../../../actors/recovery/keeper.ts";
import type { Deployment } from "../../../actors/scheduler/deployment.ts";
import { VirtualClock } from "../../../runtime/clock.ts";

let clock = new VirtualClock();

type Device = ConstructorParameters<typeof Keeper>[0][number];

/** What came to pass, in order. */
let heard: string[] = [];
/** Pairs of devices that do not reach each other, as `0>1`; and devices that are gone. */
let cut = new Set<string>();
/** Whether replicas were to make what they were given by themselves. */
let asked: boolean[] = [];
beforeEach(() => {
  asked = [];
  clock = new VirtualClock();
  heard = [];
  cut = new Set();
});

const replica = (device: number) =>
  ({ device, ask: { keep: async (step: number) => void heard.push(`${device} keeps ${step}`) } }) as const;
const devices = [0, 1, 2].map((i) => ({
  ask: {
    replica: async () => {
      if (cut.has(`${i}`)) throw new Error("it is gone");
      return replica(i);
    },
    end: async () => {},
  },
})) as unknown as Device[];

/** A pipeline of three. */
const deployment = {
  held: () =>
    [0, 1, 2].map((i) => ({
      holding: { worker: `1/${i}`, names: [`w${i}`], cuts: {}, rank: 0, ranks: 1, apart: false },
      ...{ device: `${i}`, bytes: 4 },
      stage: {
        ask: {
          replicate: async (worker: string, step: number, [to]: { device: number }[], follows: boolean) => {
            await undefined;
            if (cut.has(`${i}>${to!.device}`)) throw new Error("it cannot be reached");
            heard.push(`${worker} after ${step} to ${to!.device}`);
            asked.push(follows);
            return follows ? 1 : 4;
          },
          forgetBefore: async (step: number, asked: readonly number[]) =>
            void (i === 0 && heard.push(`0 forgets before ${step}, but ${asked}`)),
        },
      },
    })),
} as unknown as Deployment;
const ring = { replicas: [["1"], ["2"], ["0"]], reserves: [["2"], ["0"], ["1"]], short: [] };
const NAMES = ["w0", "w1", "w2"];

function watching(placement = ring): Keeper {
  const keeper = new Keeper(devices, {} as never, clock);
  keeper.watch(deployment, placement);
  return keeper;
}

/** Nothing here waits for more than promises. */
const settle = () => Bun.sleep(0);

test("one point is on its way at a time, and the one before is there until it is complete", async () => {
  const keeper = watching();
  expect(keeper.wants()).toBe(true);
  keeper.kept(0);
  expect(keeper.wants()).toBe(false);
  await settle();
  expect(keeper.wants()).toBe(true);
  expect(keeper.cost).toEqual({ points: 1, bytes: 12, every: 1, measured: null });
  keeper.kept(1);
  keeper.lose("1");
  // What device 1 held of step 1 is with nobody yet.
  expect(keeper.ledger.point(NAMES)).toBe(0);
  await settle();
  expect(heard.slice(0, 3)).toEqual(["1/0 after 0 to 1", "1/1 after 0 to 2", "1/2 after 0 to 0"]);
});

test("where lines have little time for copies, only one of so many steps is kept", async () => {
  const keeper = new Keeper(devices, {} as never, clock);
  keeper.watch(deployment, ring, 3);
  keeper.kept(0);
  await settle();
  expect([1, 2, 3].map(() => keeper.wants())).toEqual([false, false, true]);
  keeper.kept(3);
  await settle();
  expect([4, 5, 6].map(() => keeper.wants())).toEqual([false, false, true]);
  // A step that was to be kept and was not committed is followed by one that is.
  expect(keeper.wants()).toBe(true);
});

test("those who are meant to have a copy come first, whoever was given it first", async () => {
  const keeper = watching({ ...ring, replicas: [["2", "1"], ["2"], ["0"]] });
  const [first] = deployment.held();
  keeper.kept(0);
  const copy = { holding: first!.holding, step: 0, device: "1", source: first!.stage };
  keeper.ledger.add({ ...copy, source: {} as never });
  await settle();
  expect(keeper.ledger.devicesWith(0, "1/0")).toEqual(["0", "1", "2"]);
  expect(keeper.devicesWith(0, 0, first!)).toEqual(["2", "1", "0"]);
});

test("replicas are to make copies by themselves where those are of every step", async () => {
  const keeper = new Keeper(devices, {} as never, clock);
  keeper.watch(deployment, ring, 1, 3);
  keeper.kept(0);
  await settle();
  expect(keeper.cost).toMatchObject({ points: 1, bytes: 3 });
  keeper.watch({ ...deployment } as Deployment, ring, 4, 3);
  keeper.kept(4);
  await settle();
  expect(asked).toEqual([true, true, true, false, false, false]);
});

test("copies that cost more than they may are made of fewer steps, and what they cost is told", async () => {
  const keeper = watching();
  const told: KeepingCost[] = [];
  keeper.changed = (cost) => told.push(cost);
  let kept = 0;
  // A fifth longer with copies on their way.
  for (let step = 0; step < 60; step++) {
    const keeps = keeper.wants();
    if (keeps) {
      kept++;
      keeper.kept(step);
    }
    await clock.advance(keeps ? 120 : 100);
    await settle();
  }
  expect(told[0]).toMatchObject({ every: 4, measured: { stepMs: 100, extraMs: 20 } });
  expect(keeper.cost.every).toBe(4);
  expect(kept).toBeLessThan(45);
  // Another deployment begins as its plan says, and what is known of copies is what the last one had.
  keeper.watch({ ...deployment } as Deployment, ring, 2);
  expect(keeper.cost).toMatchObject({ every: 2, measured: { extraMs: 20 } });
});

test("where two devices do not reach each other, copies go to another one, from then on", async () => {
  const keeper = watching();
  cut.add("0>1");
  keeper.kept(0);
  await settle();
  expect(keeper.cost.points).toBe(0);
  // With the next step.
  expect(keeper.wants()).toBe(false);
  await settle();
  expect(keeper.cost.points).toBe(1);
  expect(keeper.ledger.devicesWith(0, "1/0")).toEqual(["0", "2"]);
  // Nobody was given anything twice.
  expect(heard.filter((line) => line.includes("after"))).toHaveLength(3);
  expect(keeper.wants()).toBe(true);
  keeper.kept(1);
  await settle();
  expect(keeper.cost.points).toBe(2);
});

test("where there is no other one, it is tried with each step, and what there was before is kept", async () => {
  const keeper = watching({ ...ring, reserves: [[], [], []] });
  keeper.kept(0);
  await settle();
  cut.add("0>1");
  expect(keeper.wants()).toBe(true);
  keeper.kept(1);
  await settle();
  for (let step = 2; step < 6; step++) {
    expect(keeper.wants()).toBe(false);
    await settle();
  }
  keeper.lose("2");
  expect(keeper.ledger.point(NAMES)).toBe(1);
  keeper.lose("0");
  expect(keeper.ledger.point(["w0"])).toBe(0);
  cut.clear();
  keeper.wants();
  await settle();
  expect(keeper.ledger.devicesWith(1, "1/0")).toContain("1");
});

test("a device that could not make room is asked again", async () => {
  const keeper = watching({ ...ring, reserves: [[], [], []] });
  cut.add("1");
  keeper.kept(0);
  await settle();
  expect(keeper.cost.points).toBe(0);
  cut.clear();
  keeper.wants();
  await settle();
  expect(keeper.cost.points).toBe(1);
});

test("whoever is lost while it is given a copy has none, also where it is heard afterwards that it was given", async () => {
  const keeper = watching();
  keeper.kept(0);
  keeper.lose("1");
  await settle();
  expect(heard).toContain("1/0 after 0 to 1");
  expect(keeper.ledger.devicesWith(0, "1/0")).toEqual(["0"]);
});

test("what an earlier deployment was still giving is no point of the next one", async () => {
  const keeper = watching();
  keeper.kept(0);
  keeper.watch({ ...deployment } as Deployment, ring);
  await settle();
  expect(keeper.cost.points).toBe(0);
  expect(keeper.wants()).toBe(true);
});

test("who comes or goes costs no point that is on its way, and the next step is copied for them", async () => {
  const keeper = new Keeper(devices, {} as never, clock);
  keeper.watch(deployment, ring, 5);
  keeper.kept(0);
  keeper.watch(deployment, { ...ring, replicas: [["2"], ["2"], ["0"]] }, 5);
  // The one that is on its way comes first.
  expect(keeper.wants()).toBe(false);
  await settle();
  expect(keeper.cost.points).toBe(1);
  expect(keeper.wants()).toBe(true);
});

test("points of a deployment that is to be replaced stay as they are, whoever joins meanwhile", async () => {
  const keeper = watching();
  keeper.kept(0);
  await settle();
  keeper.kept(1);
  // Step 0 is what a recovery goes back to.
  keeper.suspend();
  keeper.watch(deployment, ring);
  await settle();
  expect(keeper.wants()).toBe(false);
  expect(keeper.ledger.devicesWith(0, "1/0")).toEqual(["0", "1"]);
  expect(keeper.cost.points).toBe(1);
});

test("on one device what is held for a checkpoint is a point, so that what was held before is forgotten", async () => {
  const forgotten: [step: number, asked: readonly number[]][] = [];
  const forgetBefore = async (step: number, asked: readonly number[]) => void forgotten.push([step, asked]);
  const [{ holding }] = deployment.held() as [ReturnType<Deployment["held"]>[number]];
  const alone = {
    held: () => [{ holding, device: "0", bytes: 4, stage: { ask: { forgetBefore } } }],
  } as unknown as Deployment;
  const keeper = new Keeper(devices, {} as never, clock);
  keeper.watch(alone, { replicas: [[]], reserves: [[]], short: [0] });
  expect(keeper.wants()).toBe(false);
  keeper.hold(3);
  await settle();
  keeper.release();
  keeper.hold(6);
  await settle();
  expect(forgotten).toEqual([
    [3, [3]],
    [6, [6]],
  ]);
  expect(keeper.ledger.point(["w0"])).toBe(6);
});

test("what is held in turn while a point is on its way is forgotten one by one", async () => {
  const keeper = watching();
  keeper.wants();
  keeper.kept(0);
  await settle();
  for (const to of ["2", "0"]) cut.add(`1>${to}`);
  keeper.wants();
  keeper.kept(1);
  await settle();
  heard = [];
  for (const step of [2, 4]) {
    keeper.hold(step);
    keeper.release();
    // Whoever saves something else releases it as well.
    keeper.release();
    keeper.wants();
    await settle();
  }
  expect(heard.filter((line) => line.includes("forgets"))).toEqual([
    "0 forgets before 3, but 0,1",
    "0 forgets before 5, but 0,1",
  ]);
});
