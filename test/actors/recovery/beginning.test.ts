/** Devices that are lost before the first step: the run begins with the others, and makes the same weights. */

import { beforeAll, describe, expect, test } from "bun:test";
import { Device } from "../../../actors/device.ts";
import type { Behind, RecoveryOptions, SchedulerOptions } from "../../../actors/scheduler/scheduler.ts";
import { Stage } from "../../../actors/stage.ts";
import { memory, NodeRuntime, type Ref } from "../../../runtime/index.ts";
import { failure } from "../../runtime/world.ts";
import { type ClusterOptions, makeCluster } from "../cluster.ts";
import { closedBehindTests } from "../clusters.ts";
import * as runs from "./runs.ts";

const clusters = closedBehindTests();

/** Two are enough: what comes behind them is the same as in any run. */
const LAST = 1;

/** At the first call of `method` device 1 is lost. */
type Point = "describe" | "profile" | "measureLink" | "host";

async function begun(
  options: Partial<ClusterOptions> = {},
  scheduling: Partial<SchedulerOptions> = {},
  recovery: Partial<RecoveryOptions> = {},
) {
  const cluster = await runs.started({ devices: 3, ...options }, scheduling, recovery);
  clusters.push(cluster);
  return cluster;
}

/** A device that is lost when it is first asked for something. @param lose ends its node. */
function lostAt(point: Point, lose: () => unknown): typeof Device {
  class Lost extends Device {}
  Object.defineProperty(Lost.prototype, point, {
    value() {
      lose();
      return new Promise(() => {});
    },
  });
  return Lost;
}

async function trained(cluster: runs.Disturbed) {
  const { scheduler, initial } = cluster;
  const plan = await scheduler.ask.plan();
  await scheduler.ask.deploy(initial);
  for (let step = 0; step <= LAST; step++) await scheduler.ask.step(step, LAST);
  return { plan, bits: await runs.bitsOf(cluster) };
}

async function lostOne(point: Point, devices: number, scheduling: Partial<SchedulerOptions>) {
  let cluster: runs.Disturbed | undefined;
  const Lost = lostAt(point, () => void cluster!.hosts[1]!.close(0));
  cluster = await begun({ devices, classOf: (i) => (i === 1 ? Lost : Device) }, scheduling);
  return { ...cluster, ...(await trained(cluster)) };
}

let expected: Record<string, string>;
beforeAll(async () => {
  const cluster = await begun({}, { plan: runs.handPlan({ stages: runs.PIPELINE }) });
  expected = (await trained(cluster)).bits;
});

describe("a device is lost", () => {
  test.each<[string, Point]>([
    ["while it is measured", "profile"],
    ["while its links are measured", "measureLink"],
    ["when it is given a stage", "host"],
  ])(
    "%s: the others are planned for, and the run has the weights of one that was spared",
    async (_, point) => {
      const { bits, told, plan } = await lostOne(point, 2, { strategy: "pipeline" });
      expect(bits).toEqual(expected);
      expect(told).toHaveLength(1);
      expect(told[0]).toMatchObject({
        lost: [expect.any(String)],
        stepsLost: 0,
        movedBytes: 0,
        fromCheckpoint: false,
      });
      const used = told[0]!.plan.stages.flatMap(({ members }) => members.map(({ device }) => device));
      expect(used).not.toContain("1");
      if (point !== "host") expect(plan).toEqual(told[0]!.plan);
    },
  );

  test("of a plan that was given: others take its place", async () => {
    const plan = runs.handPlan({ stages: runs.PIPELINE });
    const { bits, told } = await lostOne("describe", 3, { plan });
    expect(bits).toEqual(expected);
    const [first, second, third] = told[0]!.plan.stages.map(({ members }) => members[0]!.device);
    expect([first, third]).toEqual(["0", "2"]);
    expect(["0", "2"]).toContain(second!);
    expect(told[0]!.plan.devices[1]).toMatchObject({ used: false, reason: "left out: it is gone" });
  });

  test("before it has said what it is: it is told by the name that it has come by", async () => {
    const plan = runs.handPlan({ stages: runs.PIPELINE });
    const keys: string[] = [];
    const called = ({ key }: Ref<Device>) => {
      keys.push(key);
      return "attic";
    };
    const { told, scheduler, devices } = await lostOne("describe", 3, { plan, called });
    expect(told).toMatchObject([{ lost: ["attic"] }]);
    expect(await scheduler.ask.unknown()).toEqual({ lost: ["attic"], coming: [] });
    expect([...new Set(keys)]).toEqual([devices[1]!.key]);
    // Of the others it knows what they are.
    expect((await scheduler.ask.descriptions()).map(({ id }) => id)).toEqual(["0", "2"]);
  });

  test("between any two of planning, deploying and the first step", async () => {
    for (const lostBehind of [0, 1]) {
      const cluster = await begun({}, { plan: runs.handPlan({ stages: runs.PIPELINE }) });
      const { scheduler, initial, hosts, told } = cluster;
      await scheduler.ask.plan();
      if (lostBehind === 0) await hosts[1]!.close(0);
      await scheduler.ask.deploy(initial);
      if (lostBehind === 1) await hosts[1]!.close(0);
      for (let step = 0; step <= LAST; step++) await scheduler.ask.step(step, LAST);
      expect(await runs.bitsOf(cluster)).toEqual(expected);
      expect(told).toMatchObject([{ lost: ["device-1"], stepsLost: 0 }]);
    }
  });
});

test("two are lost, one after the other, and the last one does it all", async () => {
  let cluster: runs.Disturbed | undefined;
  const [Second, First] = (["profile", "host"] as const).map((point, i) =>
    lostAt(point, () => void cluster!.hosts[i + 1]!.close(0)),
  ) as [typeof Device, typeof Device];
  // Both would be measured for all of their machine.
  const classOf = (i: number) => [Device, Second, First][i]!;
  cluster = await begun({ classOf }, { strategy: "pipeline" });
  const { bits } = await trained(cluster);
  expect(bits).toEqual(expected);
  expect(cluster.told).toMatchObject([{ lost: ["device-1", "device-2"], stepsLost: 0 }]);
});

test("all are lost: it says who was the first", async () => {
  const cluster = await begun();
  for (const host of cluster.hosts) await host.close(0);
  const { code, message } = await failure(cluster.scheduler.ask.plan());
  expect(code).toBe("DEVICE_LOST");
  expect(message).toMatch(/^device 1 is gone: /);
});

describe("all are lost behind the plan: the run waits, and begins with who joins", () => {
  test.each(["while stages are started", "between deploying and the first step"])("%s", async (point) => {
    const { promise: paused, resolve } = Promise.withResolvers<string>();
    const resumed: Behind[] = [];
    const recovery = { paused: resolve, resumed: (behind: Behind) => void resumed.push(behind) };
    const plan = runs.handPlan({ stages: runs.PIPELINE });
    const cluster = await begun({}, { plan }, recovery);
    const { scheduler, coordinator, network, hosts, initial, told } = cluster;
    const lose = () => Promise.all(hosts.map((host) => host.close(0)));
    await scheduler.ask.plan();
    if (point === "while stages are started") await lose();
    const deployed = scheduler.ask.deploy(initial);
    if (point === "while stages are started") expect(await paused).toMatch(/ gone: no device is left$/);
    else {
      await deployed;
      await lose();
    }
    const made = deployed.then(() => scheduler.ask.step(0, LAST));
    await paused;
    const host = new NodeRuntime({
      ...{ name: "late", transports: [memory(network)], actors: { Device, Stage }, log: () => {} },
    });
    try {
      await host.spawn(Device, ["late", "reference"], { name: "late" });
      const { id } = await coordinator.connect(await host.listen("memory://late"));
      await scheduler.ask.join((await coordinator.lookup<Device>(id, "late"))!);
      await made;
      await scheduler.ask.step(1, LAST);
      expect(await runs.bitsOf(cluster)).toEqual(expected);
    } finally {
      await host.close(0);
    }
    expect(resumed).toMatchObject([{ step: -1, stepsLost: 0 }]);
    expect(told).toMatchObject([{ lost: ["device-0", "device-1", "device-2"], stepsLost: 0 }]);
  });
});

test("a run that keeps no copies ends, as with any other loss", async () => {
  const plan = runs.handPlan({ stages: runs.PIPELINE });
  const cluster = await makeCluster({ devices: 3, model: runs.MODEL, scheduling: { plan } });
  clusters.push(cluster);
  await cluster.scheduler.ask.plan();
  await cluster.hosts[1]!.close(0);
  expect(await failure(cluster.scheduler.ask.deploy(cluster.initial))).toMatchObject({ code: "DEVICE_LOST" });
});
