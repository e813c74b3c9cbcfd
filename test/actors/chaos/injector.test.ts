/** Faults come over a device at the operation they name, once; and runs survive them. */

import { afterEach, beforeAll, describe, expect, test } from "bun:test";
import { comesAt, type Fault } from "../../../actors/chaos/fault.ts";
import { FaultsRefused, Injector } from "../../../actors/chaos/injector.ts";
import type { RunRecovery, SchedulerOptions } from "../../../actors/scheduler/scheduler.ts";
import { gptModel } from "../../../nn/models/gpt.ts";
import type { Tensor } from "../../../protocols/tensor.ts";
import { type NodeRuntime, VirtualClock } from "../../../runtime/index.ts";
import { cut, failure } from "../../runtime/world.ts";
import { type Cluster, makeCluster } from "../cluster.ts";
import { planOf } from "../plans.ts";

const KILL: Fault = { action: "kill", device: "device-1", step: 3 };

describe("a fault comes", () => {
  const cases: [string, Omit<Fault, "action" | "device">, Parameters<typeof comesAt>[1], boolean][] = [
    ["at the first operation of its step", { step: 3 }, { step: 3, phases: [] }, true],
    ["not before it", { step: 3 }, { step: 2, phases: ["forward"], microBatch: 0 }, false],
    ["behind it, where it could not come in it", { step: 3 }, { step: 5, phases: ["commit"] }, true],
    ["in its phase", { step: 3, phase: "backward" }, { step: 3, phases: ["backward"] }, true],
    ["in no other", { step: 3, phase: "backward" }, { step: 3, phases: ["forward"] }, false],
    [
      "in a pass that is both",
      { step: 3, phase: "backward" },
      { step: 3, phases: ["forward", "backward"] },
      true,
    ],
    ["at its micro-batch", { step: 3, microBatch: 2 }, { step: 3, phases: [], microBatch: 2 }, true],
    ["at no other", { step: 3, microBatch: 2 }, { step: 4, phases: [], microBatch: 1 }, false],
    ["nor at what is of none", { step: 3, microBatch: 2 }, { step: 4, phases: ["commit"] }, false],
    ["not while copies are given, unless it says so", { step: 3 }, { step: 3, phases: ["copy"] }, false],
  ];
  test.each(cases)("%s", (_, point, moment, comes) => {
    expect(comesAt({ ...KILL, ...point }, moment)).toBe(comes);
  });

  test("once, and what comes behind a kill never begins", async () => {
    const done: string[] = [];
    const say = (what: string) => () => void done.push(what);
    const slow = (factor: number) => void done.push(`slow ${factor}`);
    const effects = { kill: say("kill"), stop: say("stop"), cut: say("cut") };
    const injector = new Injector(effects, slow, new VirtualClock());
    injector.arm([
      { ...KILL, action: "stop", step: 0 },
      { ...KILL, action: "slow", factor: 3, step: 1 },
      { ...KILL, step: 1, phase: "backward", microBatch: 1 },
    ]);
    await injector.carriesOut({ op: "forward", microBatch: 1 }, 0);
    expect(injector.carriesOut({ op: "backward", microBatch: 1 }, 0)).toBeUndefined();
    await injector.carriesOut({ op: "forward", microBatch: 0 }, 1);
    const last = injector.carriesOut({ op: "forward-backward", microBatch: 1 }, 1)!;
    expect(done).toEqual(["slow 1", "stop", "slow 3", "kill"]);
    expect(await Promise.race([last, Bun.sleep(5).then(() => "waits")])).toBe("waits");
    injector.arm([]);
    expect(done.at(-1)).toBe("slow 1");
  });

  test("and is over after its time, where it has one", async () => {
    const done: string[] = [];
    const say = (what: string) => (forMs?: number) => void done.push(`${what} ${forMs}`);
    const clock = new VirtualClock();
    const slow = (factor: number) => void done.push(`slow ${factor}`);
    const injector = new Injector({ kill: say("kill"), stop: say("stop"), cut: say("cut") }, slow, clock);
    injector.offer({ ...KILL, action: "stop", step: 0, forMs: 500 });
    injector.offer({ ...KILL, action: "cut", step: 0 });
    injector.offer({ ...KILL, action: "hang", step: 0, forMs: 100 });
    injector.offer({ ...KILL, action: "slow", factor: 3, step: 1, forMs: 100 });
    await injector.carriesOut({ op: "forward", microBatch: 0 }, 0);
    await clock.advance(50);
    await injector.carriesOut({ op: "forward", microBatch: 0 }, 1);
    await clock.advance(99);
    expect(done).toEqual(["stop 500", "cut undefined", "slow Infinity", "slow 3"]);
    await clock.advance(1);
    expect(done.at(-1)).toBe("slow 1");
  });

  test("and ends by itself: of those that slow a device the strongest holds, and others go on behind it", async () => {
    const clock = new VirtualClock();
    const factors: number[] = [];
    const effects = { kill: () => {}, stop: () => {}, cut: () => {} };
    const injector = new Injector(effects, (factor) => void factors.push(factor), clock);
    const slow = { ...KILL, action: "slow" } as const;
    const hang = { ...KILL, action: "hang" } as const;
    const now = () => factors.at(-1);
    const forward = (step: number) => injector.carriesOut({ op: "forward", microBatch: 0 }, step);

    // What comes behind a hang that lasts ends nothing but itself.
    injector.arm([
      { ...hang, step: 0 },
      { ...slow, step: 0, factor: 2, forMs: 1000 },
    ]);
    await forward(0);
    expect(now()).toBe(Number.POSITIVE_INFINITY);
    await clock.advance(2000);
    expect(now()).toBe(Number.POSITIVE_INFINITY);

    injector.arm([
      { ...slow, step: 0, factor: 3, forMs: 500 },
      { ...slow, step: 0, factor: 900 },
      { ...hang, step: 1, forMs: 100 },
      { ...slow, step: 1, factor: 5, forMs: 300 },
    ]);
    expect(now()).toBe(1);
    await forward(0);
    expect(now()).toBe(900);
    await forward(1);
    expect(now()).toBe(Number.POSITIVE_INFINITY);
    await clock.advance(100);
    expect(now()).toBe(900);
    await clock.advance(1000);
    expect(now()).toBe(900);

    // What was under way when it is armed anew ends nothing later.
    injector.arm([
      { ...slow, step: 0, factor: 4, forMs: 100 },
      { ...slow, step: 0, factor: 2, forMs: 200 },
    ]);
    await forward(0);
    await clock.advance(50);
    injector.arm([{ ...hang, step: 0 }]);
    await forward(0);
    await clock.advance(1000);
    expect(now()).toBe(Number.POSITIVE_INFINITY);
  });

  test("and can be taken back, which says whether it has come; also behind its time", async () => {
    const clock = new VirtualClock();
    const done: string[] = [];
    const effects = { kill: () => {}, stop: () => {}, cut: () => void done.push("cut") };
    const injector = new Injector(effects, () => {}, clock);
    const [first, second]: Fault[] = [0, 1].map((step) => ({ ...KILL, action: "cut", step, forMs: 100 }));
    injector.offer(first!);
    injector.offer(second!);
    await injector.carriesOut({ op: "forward", microBatch: 0 }, 0);
    await clock.advance(200);
    expect(injector.withdraw({ ...first! })).toBe(false);
    expect(injector.withdraw({ ...second! })).toBe(true);
    expect(injector.withdraw({ ...second! })).toBe(false);
    injector.offer({ ...second! });
    expect(injector.withdraw(second!)).toBe(true);
    expect(injector.carriesOut({ op: "forward", microBatch: 0 }, 1)).toBeUndefined();
    expect(done).toEqual(["cut"]);
  });

  test("and not any more, where it was offered to who had nothing to do", async () => {
    const clock = new VirtualClock();
    const done: string[] = [];
    const effects = { kill: () => void done.push("kill"), stop: () => {}, cut: () => {} };
    const injector = new Injector(effects, () => {}, clock);
    injector.offer({ ...KILL, step: 0, forMs: 100 });
    await clock.advance(100);
    expect(injector.carriesOut({ op: "forward", microBatch: 0 }, 0)).toBeUndefined();
    injector.offer({ ...KILL, step: 0 });
    await clock.advance(1000);
    void injector.carriesOut({ op: "forward", microBatch: 0 }, 0);
    expect(done).toEqual(["kill"]);
  });
});

describe("a run", () => {
  const STEPS = 6;
  let clusters: Cluster[] = [];
  afterEach(async () => {
    for (const cluster of clusters) await cluster.close();
    clusters = [];
  });

  /** A node that goes as a process does: without a word, and with all that it does. */
  const crash = (node: NodeRuntime) => {
    for (const { id } of node.peers()) cut(node, { id } as NodeRuntime);
    void node.close(0);
  };

  /** @param then comes once one of the others has. */
  async function run(faults: readonly Fault[], copies = 1, then: Fault[] = []) {
    const model = gptModel({ layers: 2, width: 8, heads: 2, context: 8, vocabulary: 256 }, 2);
    const stages = [2, 3, 6].map((to) => ({ to: [to], members: 1 }));
    const plan = planOf(model, { microBatches: 4, stages });
    const told: RunRecovery[] = [];
    let initial: Readonly<Record<string, Tensor>> = {};
    const recovery: SchedulerOptions["recovery"] = {
      copies,
      restart: async () => ({ step: -1, values: initial }),
      fixed: async (names) => Object.fromEntries(names.map((name) => [name, initial[name]!])),
      tell: (each) => told.push(each),
    };
    const cluster = await makeCluster({
      ...{ devices: 3, apart: true, model, scheduling: { plan, recovery } },
      effectsOf: (node) => ({
        kill: () => {
          crash(node);
          void arm(then.splice(0));
        },
        ...{ stop: () => {}, cut: () => {} },
      }),
    });
    clusters.push(cluster);
    const { scheduler, devices } = cluster;
    const arm = async (faults: readonly Fault[]) => {
      for (const fault of faults) {
        const [i] = /\d+$/.exec(fault.device)!;
        await devices[Number(i)]!.ask.arm([fault]);
      }
    };
    await arm(faults);
    initial = cluster.initial;
    await scheduler.ask.plan();
    await scheduler.ask.deploy(initial);
    for (let step = 0; step < STEPS; step++) await scheduler.ask.step(step, STEPS - 1, true);
    const state = await scheduler.ask.state();
    const bits = Object.entries(state).map(([name, { bytes }]) => [
      name,
      Buffer.from(bytes).toString("base64"),
    ]);
    return { bits: Object.fromEntries(bits), lost: told.map(({ lost }) => lost), told };
  }

  let undisturbed: Readonly<Record<string, string>>;
  beforeAll(async () => {
    undisturbed = (await run([])).bits;
  });

  const kill = (device: number, at: Omit<Fault, "action" | "device">): Fault => {
    return { action: "kill", device: `device-${device}`, ...at };
  };
  const schedules: [string, Fault[], string[][]][] = [
    ["in a backward pass", [kill(1, { step: 3, microBatch: 2, phase: "backward" })], [["device-1"]]],
    ["at the commit", [kill(2, { step: 3, phase: "commit" })], [["device-2"]]],
    ["as copies are given", [kill(1, { step: 1, phase: "copy" })], [["device-1"]]],
    ["at the commit of the last step", [kill(0, { step: STEPS - 1, phase: "commit" })], [["device-0"]]],
  ];
  test.each(schedules)("a device is killed %s", async (_, faults, lost) => {
    const disturbed = await run(faults);
    expect(disturbed.lost).toEqual(lost);
    expect(disturbed.told.every(({ fromCheckpoint }) => !fromCheckpoint)).toBe(true);
    expect(disturbed.bits).toEqual(undisturbed);
  });

  test("another is killed while it is given what the first has held", async () => {
    const both = [kill(1, { step: 3, microBatch: 1 }), kill(2, { step: 0, phase: "recovery" })];
    const disturbed = await run(both, 2);
    expect(disturbed.lost.flat().sort()).toEqual(["device-1", "device-2"]);
    expect(disturbed.bits).toEqual(undisturbed);
  });

  test("another is killed before a step is committed again: it is told once, of both", async () => {
    // Nothing goes back before the first one's part is there again.
    const second = kill(0, { step: 3, microBatch: 3, phase: "backward" });
    const disturbed = await run([kill(1, { step: 3 })], 2, [second]);
    expect(disturbed.lost).toEqual([["device-1", "device-0"]]);
    expect(disturbed.told[0]!.stepsLost).toBeWithin(0, 3);
    expect(disturbed.bits).toEqual(undisturbed);
  });

  test("another is killed at the commit behind that: the others have made the step, and each is told", async () => {
    const disturbed = await run([kill(1, { step: 3 })], 2, [kill(0, { step: 3, phase: "commit" })]);
    expect(disturbed.lost).toEqual([["device-1"], ["device-0"]]);
    expect(disturbed.told.map(({ stepsLost }) => stepsLost)).toEqual([0, 0]);
    expect(disturbed.bits).toEqual(undisturbed);
  });

  test("slow kernels change nothing but the time", async () => {
    const slow = await run([{ action: "slow", factor: 3, device: "device-1", step: 1 }]);
    expect(slow.lost).toEqual([]);
    expect(slow.bits).toEqual(undisturbed);
  });

  test("a device that was not started for it does not let itself be broken", async () => {
    const cluster = await makeCluster({ devices: 1, together: true });
    clusters.push(cluster);
    const error = await failure(cluster.devices[0]!.ask.arm([KILL]));
    expect(error).toBeInstanceOf(FaultsRefused);
    expect(error.message).toBe("device-0 was not started to be broken: start it with troupe node --chaos");
  });
});
