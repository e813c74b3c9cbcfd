/** A device that answers and gets nothing done is found out; one that is slow, or waits for others, is not. */

import { afterEach, describe, expect, test } from "bun:test";
import type { Fault } from "../../../actors/chaos/fault.ts";
import { type DeviceStuck, Lease, leased } from "../../../actors/recovery/lease.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { VirtualClock } from "../../../runtime/clock.ts";
import type { Down } from "../../../runtime/index.ts";
import { Host } from "../../sim/host.ts";
import type { Cluster } from "../cluster.ts";
import { inTime } from "./in-time.ts";
import * as runs from "./runs.ts";

const START = 1_000_000;
const TIMES = { leaseMs: 3000, firstLeaseMs: 60_000 };

/** A lease on a machine of its own, and an engine that is asked for kernels which take so long. */
async function working() {
  const clock = new VirtualClock(START);
  const host = new Host("device", clock);
  const stuck: { at: number; why: DeviceStuck }[] = [];
  const lease = new Lease(host, TIMES, (why) => stuck.push({ at: clock.now() - START, why }));
  let ms = 0;
  const run = async () => {
    await (ms < Number.POSITIVE_INFINITY ? host.sleep(ms) : new Promise(() => {}));
    return ms;
  };
  const bare = {
    compile: async () => ({ bind: () => ({ run, release() {} }), release() {} }),
  } as unknown as Engine;
  const engine = leased(bare, lease);
  const executable = await engine.compile({} as any);
  const fresh = () => executable.bind({}, {});
  const binding = fresh();
  return {
    ...{ clock, host, lease, stuck, fresh },
    /** A kernel that is known, and how long it takes. @returns when it is over, or two minutes later. */
    async kernel(takesMs: number, of = binding) {
      ms = takesMs;
      let over = false;
      void of.run().then(() => {
        over = true;
      });
      await clock.advance(120_000, () => over || stuck.length > 0);
      return over;
    },
  };
}

describe("a lease", () => {
  test("runs out when nothing has ended for as long as it lasts, and says what was", async () => {
    const { kernel, stuck, clock } = await working();
    expect(await kernel(20)).toBe(true);
    expect(await kernel(20)).toBe(true);
    expect(await kernel(Number.POSITIVE_INFINITY)).toBe(false);
    const [{ at, why }] = stuck as [{ at: number; why: DeviceStuck }];
    expect(at - 40).toBeWithin(3000, 3301);
    expect(why.silentMs).toBe(at - 40);
    expect(why.message).toMatch(
      /^its engine has done nothing of what it was asked for in 3(\.\d)? s: kernels took 0\.02 s at most until then$/,
    );
    await clock.advance(100_000);
    expect(stuck).toHaveLength(1);
  });

  test("costs nothing while nothing is asked for", async () => {
    const { kernel, stuck, clock } = await working();
    await kernel(20);
    await clock.advance(1_000_000);
    expect(stuck).toEqual([]);
    expect(clock.pending).toBe(0);
  });

  test("is renewed by each end, however much waits behind it", async () => {
    const { kernel, stuck, clock } = await working();
    await kernel(2000);
    const all = Promise.all(Array.from({ length: 50 }, (_, i) => kernel(2000 * i)));
    await clock.advance(200_000);
    await all;
    expect(stuck).toEqual([]);
  });

  test("lasts ten times as long as the slowest kernel seen", async () => {
    const { kernel, stuck } = await working();
    for (const ms of [1, 2900, 28_000]) expect(await kernel(ms)).toBe(true);
    expect(stuck).toEqual([]);
  });

  test("lasts longer for what has not been done before", async () => {
    const { kernel, stuck, fresh } = await working();
    for (let i = 0; i < 3; i++) expect(await kernel(20)).toBe(true);
    expect(await kernel(55_000, fresh())).toBe(true);
    expect(await kernel(Number.POSITIVE_INFINITY, fresh())).toBe(false);
    expect(stuck[0]!.why.silentMs).toBeWithin(60_000, 60_301);
  });

  test("does not count the time in which the device itself stood still", async () => {
    const { kernel, stuck, clock, host } = await working();
    for (let i = 0; i < 3; i++) await kernel(20);
    const done = kernel(1000);
    await clock.advance(500);
    host.freeze();
    clock.setTimer(() => host.thaw(), 20_000);
    expect(await done).toBe(true);
    expect(stuck).toEqual([]);
  });

  test("is over when it is closed", async () => {
    const { kernel, stuck, clock, lease } = await working();
    for (let i = 0; i < 3; i++) await kernel(20);
    const done = kernel(Number.POSITIVE_INFINITY);
    await clock.advance(100);
    lease.close();
    await done;
    expect(stuck).toEqual([]);
    expect(clock.pending).toBe(0);
  });
});

describe("a run", () => {
  let clusters: { cluster: Cluster; clock: VirtualClock }[] = [];
  afterEach(async () => {
    for (const { cluster, clock } of clusters) await inTime(clock, cluster.close());
    clusters = [];
  });

  async function run(faults: readonly Fault[]) {
    const clock = new VirtualClock(START);
    const plan = runs.handPlan({ stages: runs.PIPELINE });
    const effects = { kill() {}, stop() {}, cut() {} };
    const options = { devices: 3, clock, patienceMs: 1000, effectsOf: () => effects };
    const cluster = await runs.started(options, { plan });
    clusters.push({ cluster, clock });
    const { scheduler, devices, coordinator, initial } = cluster;
    for (const fault of faults) await devices[Number(fault.device.at(-1))]!.ask.arm([fault]);
    const downs: Down[] = [];
    for (const device of devices) coordinator.monitor(device, (down) => downs.push(down));
    await inTime(clock, scheduler.ask.plan());
    await inTime(clock, scheduler.ask.deploy(initial));
    for (let step = 0; step < runs.STEPS; step++) {
      await inTime(clock, scheduler.ask.step(step, runs.LAST, step % 2 === 0));
    }
    return { ...cluster, clock, downs, bits: await inTime(clock, runs.bitsOf(cluster)) };
  }

  test.each([["forward"], ["backward"]] as const)(
    "goes on without a device that hangs in a %s pass",
    async (phase) => {
      const undisturbed = await run([]);
      expect(undisturbed.told).toEqual([]);
      const hung = await run([{ action: "hang", device: "device-1", step: 2, phase }]);
      expect(hung.bits).toEqual(undisturbed.bits);
      expect(hung.told).toMatchObject([{ lost: ["device-1"], fromCheckpoint: false }]);
      expect(hung.told[0]!.detectMs).toBeWithin(3000, 3500);
      const [{ reason }] = hung.downs as [Down];
      expect(hung.downs).toHaveLength(1);
      expect(reason.error).toMatchObject({ code: "DEVICE_STUCK" });
      // Of the device nothing is left on its node, so that another can be started there.
      expect(hung.hosts[1]!.status().actors).toBe(0);
    },
  );
});
