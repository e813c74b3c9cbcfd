/**
 * Runs that look for another plan because devices are lost, join or drift: whatever they go over to, they end with the bits
 * of a run that nobody disturbed. Devices' profiles are made up, so that it is known which plan is the better one.
 */

import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { Device } from "../../../actors/device.ts";
import type { ProfileCache } from "../../../actors/profile-cache.ts";
import { Preparing } from "../../../actors/recovery/preparing.ts";
import { type Plan, workersOf } from "../../../actors/scheduler/plan.ts";
import type { Replanning, SchedulerOptions } from "../../../actors/scheduler/scheduler.ts";
import { Stage } from "../../../actors/stage.ts";
import { createEngine } from "../../../nn/engine/create.ts";
import type { Engine, Executable } from "../../../nn/engine/engine.ts";
import type { ModelProfile } from "../../../nn/profile.ts";
import { findSegments } from "../../../nn/segments.ts";
import { memory, NodeRuntime, type Ref } from "../../../runtime/index.ts";
import { failure } from "../../runtime/world.ts";
import type { Cluster } from "../cluster.ts";
import { bitsOf, type Disturbed, MODEL, started } from "./runs.ts";

const STEPS = 10;
/** So many that a move pays, and more than are made. */
const LAST = 10_000;

let cleanups: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const cleanup of cleanups) await cleanup.close();
  cleanups = [];
});

/** Of a device that takes so long for a pass through a segment. */
function profile(ms: number, stashBytes: number): ModelProfile {
  const segment = { forwardMs: ms, backwardMs: 2 * ms, jointMs: 3 * ms, stepMs: ms / 10 };
  return {
    segments: findSegments(MODEL).map(() => ({ ...segment, stashBytes, workingBytes: 0 })),
    chunk: { forwardMs: 0, backwardMs: 0, jointMs: 0, stepMs: 0, otherMs: 0 },
  };
}

/** Known profiles, in the order in which devices are asked for. */
function known(speeds: readonly number[], stashBytes = 1000): ProfileCache {
  const left = speeds.map((ms) => profile(ms, stashBytes));
  const cache = { get: async () => left.shift(), put: async () => {}, drop: async () => {} };
  return cache as unknown as ProfileCache;
}

interface Replanned extends Disturbed {
  readonly plan: Plan;
  readonly considered: Replanning[];
  readonly paused: string[];
}

interface Options {
  readonly devices: number;
  readonly speeds: readonly number[];
  readonly waits?: boolean;
  /** Of a segment, for a micro-batch. */
  readonly stashBytes?: number;
  readonly scheduling?: Partial<SchedulerOptions>;
  readonly classOf?: (index: number) => typeof Device;
}

async function planned({
  devices,
  speeds,
  waits = false,
  stashBytes,
  scheduling = {},
  classOf,
}: Options): Promise<Replanned> {
  const considered: Replanning[] = [];
  const paused: string[] = [];
  const cluster = await started(
    { devices, ...(classOf && { classOf }) },
    { strategy: "pipeline", profiles: known(speeds, stashBytes), ...scheduling },
    {
      considered: (each) => considered.push(each),
      ...(waits && { paused: (reason: string) => void paused.push(reason) }),
    },
  );
  cleanups.push(cluster);
  const plan = await cluster.scheduler.ask.plan();
  await cluster.scheduler.ask.deploy(cluster.initial);
  return { ...cluster, plan, considered, paused };
}

/** Segments of each device that a plan uses. */
function held(plan: Plan): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { member, stage } of workersOf(plan)) {
    const own = stage.ranges.reduce((sum, { from, to }) => sum + to - from, 0);
    counts[member.device] = (counts[member.device] ?? 0) + own;
  }
  return counts;
}

/** Another device, on a machine of its own. */
async function newDevice(
  { coordinator, network }: Cluster,
  name: string,
): Promise<[Ref<Device>, NodeRuntime]> {
  const host = new NodeRuntime({
    ...{ name, transports: [memory(network)], actors: { Device, Stage }, log: () => {} },
  });
  cleanups.push(host);
  await host.spawn(Device, [name, "reference", { host: name }], { name });
  const peer = await coordinator.connect(await host.listen(`memory://${name}`));
  return [(await coordinator.lookup<Device>(peer.id, name))!, host];
}

/** Plans that are made ready: steps are sooner done here than stages are started. */
const preparing: Promise<unknown>[] = [];
const { prepare } = Preparing.prototype;
beforeAll(() => {
  Preparing.prototype.prepare = function (...args) {
    const prepared = prepare.apply(this, args);
    preparing.push(prepared);
    return prepared;
  };
});
afterAll(() => {
  Preparing.prototype.prepare = prepare;
});

/** The next one begins at once, unless there is another plan; whoever goes over to one does before the step behind that. */
const step = async (cluster: Cluster, at: number) => {
  const stepped = await cluster.scheduler.ask.step(at, LAST, true);
  await Promise.allSettled(preparing.splice(0));
  return stepped;
};

let bits: Readonly<Record<string, string>>;
beforeAll(async () => {
  const cluster = await planned({ devices: 1, speeds: [10], scheduling: { strategy: "single" } });
  for (let at = 0; at < STEPS; at++) await step(cluster, at);
  bits = await bitsOf(cluster);
});

test("behind a loss, a run goes over from what is left to the best plan for those that are", async () => {
  const cluster = await planned({ devices: 3, speeds: [10, 10, 10] });
  for (let at = 0; at < STEPS; at++) {
    if (at === 3) await cluster.hosts[1]!.close();
    await step(cluster, at);
  }
  expect(await bitsOf(cluster)).toEqual(bits);
  expect(cluster.told).toHaveLength(1);
  // One has taken over another's stage.
  expect(Object.values(held(cluster.told[0]!.plan)).sort()).toEqual([2, 4]);
  const [moved] = cluster.considered;
  expect(cluster.considered).toHaveLength(1);
  expect(moved).toMatchObject({ cause: "lost", moved: true });
  expect(held(moved!.plan)).toEqual({ 0: 3, 2: 3 });
  expect(moved!.newStepMs!).toBeLessThan(0.9 * moved!.oldStepMs!);
  expect(moved!.movedBytes).toBeGreaterThan(0);
});

test("a device that joins is used from a next step on", async () => {
  const cluster = await planned({ devices: 2, speeds: [10, 10, 10] });
  for (let at = 0; at < STEPS; at++) {
    if (at === 3) await cluster.scheduler.ask.join((await newDevice(cluster, "fresh"))[0]);
    await step(cluster, at);
  }
  expect(await bitsOf(cluster)).toEqual(bits);
  expect(cluster.considered).toMatchObject([{ cause: "joined", moved: true }]);
  expect(held(cluster.considered[0]!.plan)).toEqual({ 0: 2, 1: 2, 2: 2 });
  expect(cluster.told).toEqual([]);
  expect((await cluster.scheduler.ask.descriptions()).map(({ id, name }) => [id, name])).toEqual([
    ["0", "device-0"],
    ["1", "device-1"],
    ["2", "fresh"],
  ]);
});

test("where the run ends in the first step of a device that shares micro-batches, it is told that it was used", async () => {
  const cluster = await planned({ devices: 3, speeds: [10, 10, 10, 10], scheduling: { strategy: "data" } });
  const { scheduler, considered } = cluster;
  await scheduler.ask.step(0, LAST);
  await scheduler.ask.join((await newDevice(cluster, "fresh"))[0]);
  await scheduler.ask.step(1, LAST);
  await Promise.allSettled(preparing.splice(0));
  expect(considered).toEqual([]);
  await scheduler.ask.step(2, 2);
  expect(considered).toMatchObject([{ cause: "joined", moved: true }]);
  expect(considered[0]!.movedBytes).toBeGreaterThan(0);
  expect(Object.keys(held(considered[0]!.plan))).toEqual(["0", "1", "2", "3"]);
});

test("one that would not be of use is not, and why is told", async () => {
  const cluster = await planned({ devices: 2, speeds: [10, 10, 1000] });
  for (let at = 0; at < 4; at++) {
    if (at === 1) await cluster.scheduler.ask.join((await newDevice(cluster, "slow"))[0]);
    await step(cluster, at);
  }
  expect(cluster.considered).toMatchObject([{ cause: "joined", moved: false }]);
  expect(cluster.considered[0]!.why).toBe("the present plan is the best");
});

test("a device that comes back is a new one, and a loss of one that is not needed is none", async () => {
  const cluster = await planned({ devices: 2, speeds: [10, 10, 10, 1000] });
  const { scheduler, hosts } = cluster;
  for (let at = 0; at < STEPS; at++) {
    if (at === 2) await hosts[1]!.close();
    if (at === 4) await scheduler.ask.join((await newDevice(cluster, "device-1"))[0]);
    if (at === 6) {
      const [device, host] = await newDevice(cluster, "spare");
      await scheduler.ask.join(device);
      await host.close();
    }
    await step(cluster, at);
  }
  expect(await bitsOf(cluster)).toEqual(bits);
  expect(cluster.told.map(({ lost }) => lost)).toEqual([["device-1"]]);
  const last = cluster.considered.findLast(({ moved }) => moved)!;
  expect([last.cause, held(last.plan)]).toEqual(["joined", { 0: 3, 2: 3 }]);
  expect((await scheduler.ask.usage()).map((used) => used !== null)).toEqual([true, false, true, false]);
});

test("nobody is left: the run waits, and goes on when a device joins", async () => {
  const cluster = await planned({ devices: 2, speeds: [10, 10, 10], waits: true });
  for (let at = 0; at < 4; at++) await step(cluster, at);
  const stepping = step(cluster, 4);
  for (const host of cluster.hosts) await host.close();
  while (cluster.paused.length === 0) await Bun.sleep(1);
  expect(cluster.paused[0]).toBe("device-0, device-1 gone: no device is left");
  const joining = cluster.scheduler.ask.join((await newDevice(cluster, "rescue"))[0]);
  expect((await stepping).step).toBe(4);
  await joining;
  for (let at = 5; at < STEPS; at++) await step(cluster, at);
  expect(await bitsOf(cluster)).toEqual(bits);
  expect(cluster.told).toMatchObject([{ fromCheckpoint: true }]);
});

test("one that is left is too small: the run waits with what it has, and loses no step", async () => {
  // Activations take the room, so that there is enough for copies.
  const large = { stashBytes: 1e6, scheduling: { schedule: "gpipe" } };
  const alone = await planned({ devices: 1, speeds: [10], ...large });
  const wholeBytes = alone.plan.stages[0]!.members[0]!.memoryBytes;
  class Small extends Device {
    override describe() {
      return { ...super.describe(), memoryBytes: 0.9 * wholeBytes };
    }
  }
  const cluster = await planned({
    ...{ devices: 2, speeds: [10, 10, 10], waits: true, ...large },
    classOf: () => Small,
  });
  const { paused } = cluster;
  for (let at = 0; at < 4; at++) await step(cluster, at);
  const stepping = step(cluster, 4);
  await cluster.hosts[0]!.close();
  while (paused.length === 0) await Bun.sleep(1);
  expect(paused[0]).toMatch(/^device-0 gone: device-1 has \S+ MiB, and would need \S+ MiB$/);
  await cluster.scheduler.ask.join((await newDevice(cluster, "rescue"))[0]);
  await stepping;
  for (let at = 5; at < STEPS; at++) await step(cluster, at);
  expect(await bitsOf(cluster)).toEqual(bits);
  expect(cluster.told).toMatchObject([{ lost: ["device-0"], fromCheckpoint: false }]);
});

test("a run that cannot wait fails as it did", async () => {
  const cluster = await planned({ devices: 2, speeds: [10, 10] });
  await step(cluster, 0);
  const failing = failure(step(cluster, 1));
  for (const host of cluster.hosts) await host.close();
  expect((await failing).code).toBe("DEVICE_LOST");
});

/** A device whose engine says of each run that it took so long. */
function saying(ms: number): typeof Device {
  const open = async () => {
    const engine = await createEngine({ engine: "reference" });
    const slow = Object.create(engine, {
      compile: {
        value: async (...args: Parameters<Engine["compile"]>) => {
          const executable = await engine.compile(...args);
          const bind: Executable["bind"] = (...all) => {
            const binding = executable.bind(...all);
            return { run: () => binding.run().then(() => ms), release: () => binding.release() };
          };
          return Object.create(executable, { bind: { value: bind } });
        },
      },
    });
    return slow as Engine;
  };
  return class extends Device {
    constructor(name: string, _: unknown, claims: object) {
      super(name, open, claims);
    }
  };
}

test("a device that has become slow is given less, once", async () => {
  const cluster = await planned({
    ...{ devices: 2, speeds: [10, 10] },
    classOf: (index) => saying(index === 0 ? 50 : 500),
  });
  const drifted: string[] = [];
  for (let at = 0; at < STEPS; at++) {
    drifted.push(...(await step(cluster, at)).drifted.map(({ device }) => device));
  }
  expect(drifted).toContain("device-1");
  expect(cluster.considered).toMatchObject([{ cause: "drifted", moved: true }]);
  expect(held(cluster.considered[0]!.plan)).toEqual({ 0: 5, 1: 1 });
  expect(await bitsOf(cluster)).toEqual(bits);
});
