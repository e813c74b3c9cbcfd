/** Faults that are drawn, dealt out and got over: which they are, who is armed with which, and when. */

import { expect, test } from "bun:test";
import { Chaos, type ChaosOptions } from "../../../actors/chaos/chaos.ts";
import { whyNever } from "../../../actors/chaos/coming.ts";
import { ACTIONS, type Fault, type Phase } from "../../../actors/chaos/fault.ts";
import { type FaultSeries, faultsOf, type Victims } from "../../../actors/chaos/series.ts";
import { slowed } from "../../../actors/chaos/slowed.ts";
import type { Device } from "../../../actors/device.ts";
import type { Plan } from "../../../actors/scheduler/plan.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { type Ref, VirtualClock } from "../../../runtime/index.ts";

const BY_STEPS: FaultSeries = { every: { steps: 5 }, seed: 7, forMs: 100 };
const BY_TIME: FaultSeries = { every: { ms: 1000 }, seed: 7, forMs: 100 };
const VICTIMS: Victims = { names: ["a", "b", "c"], mortal: true };

function drawn(series: FaultSeries, victims = VICTIMS, count = 200): Fault[] {
  return faultsOf(series, victims).take(count).toArray();
}

test("a series is its seed's, of all kinds, for all devices, and each fault passes", () => {
  const faults = drawn(BY_STEPS);
  expect(drawn(BY_STEPS)).toEqual(faults);
  expect(drawn({ ...BY_STEPS, seed: 8 })).not.toEqual(faults);
  expect(faults.slice(0, 3).map(({ step }) => step)).toEqual([4, 9, 14]);
  expect([...new Set(faults.map(({ action }) => action))].sort()).toEqual([...ACTIONS].sort());
  expect([...new Set(faults.map(({ device }) => device))].sort()).toEqual(["a", "b", "c"]);
  for (const { action, factor, forMs } of faults) {
    expect(forMs).toBe(100);
    if (action === "slow") expect(factor).toBeWithin(2, 5);
    else expect(factor).toBeUndefined();
  }
});

test("who cannot be started again is not killed", () => {
  const actions = drawn(BY_TIME, { ...VICTIMS, mortal: false }).map(({ action }) => action);
  expect(actions).not.toContain("kill");
});

const KILL: Fault = { action: "kill", device: "a", step: 2 };

/** A pipeline of these for two micro-batches, of which the first so many have nothing to train. */
const frozen = (forwardOnly: number, ...names: string[]) =>
  ({
    ...{ schedule: "1f1b", microBatches: 2, forwardOnly },
    stages: names.map((deviceName, stage) => ({
      ...{ stage, sharing: null, ranges: [{ from: stage, to: stage + 1 }] },
      members: [{ deviceName, microBatches: [0, 1] }],
    })),
  }) as unknown as Plan;
const planOf = (...names: string[]) => frozen(0, ...names);

/** A run of three devices, of whom c is away. */
function run(options: Partial<ChaosOptions>) {
  const clock = new VirtualClock();
  const all: [string, readonly Fault[], boolean][] = [];
  const told: Fault[] = [];
  /** Whether what was dealt has not come, when it is asked for. */
  const hasWaited = new Map<Fault["action"], boolean>();
  /** What is still to come, by device; who is not there is left out. */
  const toCome = new Map<string, readonly Fault[]>([
    ["a", []],
    ["b", []],
  ]);
  const device = (name: string) => {
    if (!toCome.has(name)) return undefined;
    const armed = async () => toCome.get(name)!.map((fault) => ({ ...fault }));
    const arm = async (faults: readonly Fault[], besides = false) => {
      all.push([name, faults, besides]);
    };
    const withdraw = async ({ action }: Fault) => {
      if (!toCome.has(name)) throw new Error(`${name} is gone`);
      return hasWaited.get(action) ?? false;
    };
    return { ask: { arm, armed, withdraw } } as unknown as Ref<Device>;
  };
  const base = { faults: [], series: [], victims: VICTIMS, done: 0, steps: 20 };
  const chaos = new Chaos({ ...base, ...options }, { clock, device, told: (fault) => told.push(fault) });
  return { chaos, clock, armed: all, told, toCome, hasWaited };
}

test("devices are armed with what is to come, and those that come back with what is still to come", async () => {
  const later = { ...KILL, step: 9 };
  const { chaos, armed } = run({ faults: [{ ...KILL, forMs: 500 }, later, { ...KILL, device: "b" }] });
  await chaos.begin();
  expect(armed.map(([name, faults]) => [name, faults.length])).toEqual([
    ["a", 2],
    ["b", 1],
  ]);
  chaos.reached(2);
  expect(chaos.lost("a")).toBe(500);
  expect(chaos.lost("b")).toBeUndefined();
  chaos.joined("a");
  expect(armed.at(-1)).toEqual(["a", [later], false]);
  chaos.reached(9);
  expect(chaos.lost("a")).toBeUndefined();
  expect(chaos.lost("a")).toBeUndefined();
});

test("a fault comes once, also where its step is made again with the device back", async () => {
  const slow: Fault = { action: "slow", device: "b", factor: 2, step: 2 };
  const { chaos, armed } = run({ faults: [{ ...KILL, forMs: 500 }, slow] });
  await chaos.begin();
  chaos.reached(2);
  chaos.lost("a");
  chaos.lost("b");
  armed.length = 0;
  // The run has gone back behind its first step.
  for (const done of [1, 2, 3]) {
    chaos.joined("a");
    chaos.joined("b");
    chaos.reached(done);
  }
  expect(armed).toEqual([]);
});

test("a series by steps is known from the beginning, and told step by step", async () => {
  const { chaos, told } = run({ series: [BY_STEPS], done: 5 });
  const faults = drawn(BY_STEPS, VICTIMS, 4);
  await chaos.begin();
  chaos.planned(planOf("a", "b", "c"));
  for (let done = 6; done < 20; done++) chaos.reached(done);
  expect(told).toEqual(faults.slice(1).filter(({ device }) => device !== "c"));
});

test("a fault is told when its step begins, where it may not come when it has; and what has not, at the end", async () => {
  const later: Fault = { action: "slow", device: "b", factor: 2, step: 3, phase: "copy" };
  const never: Fault = { action: "hang", device: "b", step: 4, phase: "recovery" };
  const away: Fault = { ...KILL, device: "c", step: 5 };
  const behind: Fault = { ...KILL, step: 8 };
  const { chaos, told, toCome } = run({ faults: [KILL, later, never, away, behind] });
  await chaos.begin();
  chaos.planned(planOf("a", "b", "c"));
  toCome.set("b", [later, never]);
  chaos.reached(1);
  expect(told).toEqual([]);
  chaos.reached(2);
  expect(told).toEqual([KILL]);
  chaos.lost("a");
  toCome.delete("a");
  for (const done of [3, 4, 5]) chaos.reached(done);
  await Promise.resolve();
  expect(told).toEqual([KILL]);
  toCome.set("b", [never]);
  for (const done of [6, 7, 8, 9]) chaos.reached(done);
  expect(await chaos.missed()).toEqual([
    {
      fault: never,
      why:
        "b has fetched nothing from step 5 on: in a recovery that is done by who takes the place of another, " +
        "and whoever stays where it is goes on with what it holds",
    },
    { fault: away, why: "c was not there" },
    { fault: behind, why: "a was not there" },
  ]);
  expect(told).toEqual([KILL, later]);
});

test("who is lost has met the first fault that nobody knew of", async () => {
  const first: Fault = { ...KILL, phase: "recovery" };
  const second: Fault = { ...KILL, step: 3, phase: "recovery" };
  const { chaos, told, toCome } = run({ faults: [second, first] });
  await chaos.begin();
  chaos.planned(planOf("a", "b", "c"));
  toCome.set("a", [first, second]);
  chaos.reached(3);
  chaos.lost("a");
  toCome.delete("a");
  expect(told).toEqual([first]);
  expect(await chaos.missed()).toEqual([{ fault: second, why: "a was not there" }]);

  // The step behind the one that was told last may have begun, and in that one everybody computes.
  const likelier = run({ faults: [first, { ...KILL, step: 3 }] });
  await likelier.chaos.begin();
  likelier.chaos.reached(2);
  likelier.chaos.lost("a");
  expect(likelier.told).toEqual([{ ...KILL, step: 3 }]);
});

test("a loss that is heard of late is told with the fault that it came by", async () => {
  const { chaos, told, toCome } = run({ faults: [KILL] });
  chaos.planned(planOf("a", "b"));
  chaos.reached(1);
  // It is killed in the step behind, and others have gone on before that is heard.
  toCome.delete("a");
  chaos.reached(2);
  chaos.reached(3);
  expect(told).toEqual([]);
  chaos.lost("a");
  expect(told).toEqual([KILL]);
  expect(await chaos.missed()).toEqual([]);
});

test("of who has nothing to do no fault is told, nor of micro-batches that are others'", async () => {
  const other: Fault = { ...KILL, device: "b", step: 3, microBatch: 2 };
  const { chaos, told, toCome } = run({ faults: [KILL, other], series: [BY_TIME] });
  await chaos.begin();
  toCome.set("a", [KILL]);
  toCome.set("b", [other]);
  chaos.planned(planOf("b"));
  for (const done of [1, 2, 3, 4]) chaos.reached(done);
  expect(told).toEqual([]);
  expect(await chaos.missed()).toEqual([
    { fault: KILL, why: "a has no part in the plan" },
    { fault: other, why: "by the plan micro-batch 2 is not for b" },
  ]);
  chaos.close();
});

test("of who has nothing to train no fault of a backward pass is told, nor of who gives nobody copies", async () => {
  const backward: Fault = { ...KILL, phase: "backward" };
  const commit: Fault = { ...KILL, device: "b", action: "stop", phase: "commit" };
  const second: Fault = { ...KILL, device: "b", action: "stop", phase: "backward", microBatch: 1 };
  const copy: Fault = { ...KILL, device: "b", phase: "copy" };
  const { chaos, told, toCome } = run({ faults: [backward, commit, second, copy] });
  await chaos.begin();
  toCome.set("a", [backward]);
  toCome.set("b", [copy]);
  chaos.planned(frozen(1, "a", "b"));
  for (const done of [1, 2, 3]) chaos.reached(done);
  expect(told).toEqual([commit, second]);
  expect(await chaos.missed()).toEqual([
    { fault: backward, why: "a makes no backward pass: it has nothing to train" },
    {
      fault: copy,
      why: "b has given nobody copies from step 3 on: it held nothing that others had not, or nobody was there for it",
    },
  ]);
});

test("what a plan does not have is said of it: a phase, or a device's part", () => {
  const never = (device: string, phase: Phase, plan: Plan) =>
    whyNever(plan, { action: "stop", device, step: 2, phase });
  const pipeline = planOf("a", "b");
  expect(never("a", "reduce", pipeline)).toBe(
    "a adds up gradients with nobody: the plan has no stage whose devices share micro-batches",
  );
  expect(never("c", "reduce", pipeline)).toBe("c has no part in the plan");
  expect(never("a", "send", planOf("a"))).toBe("by the plan nobody has to send: it has one stage");
  const [first, second] = pipeline.stages;
  const members = ["b", "c"].map((deviceName, i) => ({ deviceName, microBatches: [i] }));
  const shared = { ...pipeline, stages: [first, { ...second, sharing: "data", members }] } as unknown as Plan;
  expect(never("a", "reduce", shared)).toBe(
    "a adds up gradients with nobody: it shares no stage's micro-batches",
  );
  // That they have it is no reason.
  expect(never("b", "reduce", shared)).toBe("b did nothing of the kind");
  expect(never("a", "send", shared)).toBe("a did nothing of the kind");
});

test("one by the time is dealt to those that are there, until it is closed", async () => {
  const { chaos, clock, armed, told } = run({ series: [BY_TIME] });
  await chaos.begin();
  chaos.planned(planOf("a", "b", "c"));
  await clock.advance(5000);
  expect(told).toEqual([]);
  chaos.reached(1);
  chaos.reached(2);
  armed.length = 0;
  await clock.advance(30_000);
  const faults = drawn(BY_TIME, VICTIMS, 30);
  const now = faults.map((fault) => ({ ...fault, step: 2 }));
  expect(told).toEqual(now.filter(({ device }) => device !== "c"));
  expect(armed).toEqual(told.map((fault) => [fault.device, [fault], true]));
  chaos.close();
  await clock.advance(30_000);
  expect(armed).toHaveLength(told.length);
  expect(chaos.lost(told[0]!.device)).toBe(100);
});

test("of those by the time that were told, each that has not come in its time is known at the end, and no other", async () => {
  const { chaos, clock, told, hasWaited } = run({ series: [BY_TIME], steps: 3 });
  await chaos.begin();
  chaos.planned(planOf("a", "b"));
  chaos.reached(2);
  for (const action of ["hang", "stop"] as const) hasWaited.set(action, true);
  await clock.advance(20_500);
  const late = told.filter(({ action }) => action === "hang" || action === "stop");
  expect(late.length).toBeWithin(1, told.length);
  const why = ({ device }: Fault) => `its time was over before ${device} did anything of the kind`;
  expect(await chaos.missed()).toEqual(late.map((fault) => ({ fault, why: why(fault) })));
  chaos.close();
});

test("nothing is dealt behind the last step, and what was dealt just before it is taken back with the run", async () => {
  const { chaos, clock, told, armed, hasWaited } = run({ series: [BY_TIME], steps: 3 });
  for (const action of ACTIONS) hasWaited.set(action, true);
  await chaos.begin();
  chaos.planned(planOf("a", "b", "c"));
  chaos.reached(1);
  while (told.length === 0) await clock.advance(1000);
  chaos.reached(3);
  armed.length = 0;
  await clock.advance(99);
  expect(await chaos.missed()).toEqual([
    { fault: told[0]!, why: `the run was over before ${told[0]!.device} did anything of the kind` },
  ]);
  await clock.advance(60_000);
  expect(told).toHaveLength(1);
  expect(armed).toEqual([]);
});

test("of who is lost, a fault that was dealt explains it, a kill in its time before others; no other of these has come", async () => {
  const long = { ...BY_TIME, forMs: 60_000 };
  const later: Fault = { ...KILL, step: 1 };
  const { chaos, clock, told, toCome } = run({ series: [long], faults: [{ ...later, phase: "recovery" }] });
  await chaos.begin();
  chaos.planned(planOf("a", "b"));
  chaos.reached(1);
  const own = () => told.filter(({ device }) => device === "a");
  const isKill = ({ action }: Fault) => action === "kill";
  while (!own().some(isKill) || own().length < 3) await clock.advance(1000);
  const before = own();
  toCome.delete("a");
  chaos.lost("a");
  // That of a recovery has no part in it.
  expect(own()).toEqual(before);
  const others = before.filter((fault) => fault !== before.find(isKill));
  expect(await chaos.missed()).toEqual([
    { fault: { ...later, phase: "recovery" }, why: "a was not there" },
    ...others.map((fault) => ({ fault, why: "a was gone before it did anything of the kind" })),
  ]);
  chaos.close();
});

test("what hangs in an engine goes on when that is over", async () => {
  const binding = { run: async () => 1, release: () => {} };
  const engine = { name: "fake", compile: async () => ({ bind: () => binding }) } as unknown as Engine;
  const own = slowed(engine, new VirtualClock());
  const { bind } = await own.compile({} as never);
  own.factor = Number.POSITIVE_INFINITY;
  let ended = false;
  const running = Promise.resolve(bind({} as never, {} as never).run()).then(() => {
    ended = true;
  });
  await Bun.sleep(1);
  expect(ended).toBe(false);
  own.factor = 1;
  await running;
});
