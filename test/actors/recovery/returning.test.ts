/** A device that is cut off and comes again as it was is a new one all the same, as often as it does; and how joining is told. */

import { afterEach, expect, test } from "bun:test";
import { Device } from "../../../actors/device.ts";
import { MemoryJournal } from "../../../actors/journal/memory.ts";
import { RunJournal } from "../../../actors/journal/run-journal.ts";
import type { RecoveryOptions, Replanning, RunRecovery } from "../../../actors/scheduler/scheduler.ts";
import { Stage } from "../../../actors/stage.ts";
import { MemoryNetwork, memory, NodeRuntime, type Ref, type Transport } from "../../../runtime/index.ts";
import type { Pipe } from "../../../runtime/transports/transport.ts";
import { type Cluster, lead, makeCluster } from "../cluster.ts";
import { bitsOf, handPlan, LAST, MODEL, PIPELINE, STEPS, started } from "./runs.ts";

let cleanups: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of cleanups) await each.close();
  cleanups = [];
});

interface Edge {
  readonly device: Ref<Device>;
  /** Breaks the connections that others have made to it. */
  cut(): void;
}

async function edgeOf(
  { coordinator, network }: Pick<Cluster, "coordinator" | "network">,
  name = "edge",
): Promise<Edge> {
  const pipes: Pipe[] = [];
  const plain = memory(network);
  const transport: Transport = {
    ...plain,
    listen: (address, accept) =>
      plain.listen(address, (pipe) => {
        pipes.push(pipe);
        return accept(pipe);
      }),
  };
  const host = new NodeRuntime({
    ...{ name, transports: [transport], actors: { Device, Stage }, log: () => {} },
  });
  cleanups.push(host);
  await host.spawn(Device, [name, "reference", { host: name }], { name });
  const { id } = await coordinator.connect(await host.listen(`memory://${name}`));
  return {
    device: (await coordinator.lookup<Device>(id, name))!,
    cut: () => {
      for (const pipe of pipes.splice(0)) pipe.close(new Error("out of reach"));
    },
  };
}

test("cut off twice, it comes back twice, and the run waits for it with what there is", async () => {
  const plan = handPlan({ stages: [{ to: [6], members: 1 }] });
  const spared = await makeCluster({ devices: 1, model: MODEL, scheduling: { plan } });
  cleanups.push(spared);
  await spared.scheduler.ask.plan();
  await spared.scheduler.ask.deploy(spared.initial);
  for (let at = 0; at < STEPS; at++) await spared.scheduler.ask.step(at, LAST);
  const bits = await bitsOf(spared);

  const considered: Replanning[] = [];
  let paused = Promise.withResolvers<string>();
  const resumed: number[] = [];
  const run = await started(
    { devices: 1 },
    { plan },
    {
      considered: (each) => considered.push(each),
      paused: (reason) => paused.resolve(reason),
      resumed: ({ step }) => resumed.push(step),
    },
  );
  cleanups.push(run);
  const { scheduler } = run;
  await scheduler.ask.plan();
  await scheduler.ask.deploy(run.initial);
  const edge = await edgeOf(run);
  await scheduler.ask.step(0, LAST);
  expect(await scheduler.ask.join(edge.device)).toMatchObject({ id: "1", name: "edge" });
  await scheduler.ask.step(1, LAST);
  expect(considered).toMatchObject([{ cause: "joined", moved: false, oldStepMs: null }]);
  expect(considered[0]!.why).toMatch(/^it was given, .*; whoever comes keeps copies, and takes over/);
  await run.hosts[0]!.close();
  await scheduler.ask.step(2, LAST);

  for (const at of [3, 4]) {
    const stepping = scheduler.ask.step(at, LAST);
    edge.cut();
    expect(await paused.promise).toBe("edge gone: no device is left");
    paused = Promise.withResolvers();
    await scheduler.ask.join(edge.device);
    await stepping;
  }
  for (let at = 5; at < STEPS; at++) await scheduler.ask.step(at, LAST);
  expect(await bitsOf(run)).toEqual(bits);
  expect(resumed).toHaveLength(2);
  expect(run.told.map(({ lost }) => lost)).toEqual([["device-0"], ["edge"], ["edge"]]);
  // It is there again when that is told.
  const { devices } = run.told[1]!.plan;
  expect(devices.filter(({ used }) => !used).map(({ name, reason }) => [name, reason])).toEqual([
    ["device-0", "left out: it is gone"],
    ["edge", "left out so far: it was gone"],
  ]);
  const there = await scheduler.ask.usage();
  expect(there.map((used) => used !== null)).toEqual([false, false, false, true]);
});

test("all are lost at once and come back, as to a coordinator that stood still: nothing is, whoever comes first", async () => {
  const plan = handPlan({ stages: PIPELINE });
  const spared = await started({ devices: 3 }, { plan });
  cleanups.push(spared);
  await spared.scheduler.ask.plan();
  await spared.scheduler.ask.deploy(spared.initial);
  for (let at = 0; at < STEPS; at++) await spared.scheduler.ask.step(at, LAST);

  const { initial } = spared;
  const network = new MemoryNetwork();
  const coordinator = new NodeRuntime({ name: "coordinator", transports: [memory(network)], log: () => {} });
  cleanups.push(coordinator);
  const edges = [];
  for (const { name } of plan.devices) edges.push(await edgeOf({ coordinator, network }, name));
  const devices = edges.map(({ device }) => device);
  const continuity = await RunJournal.begin(new MemoryJournal(), "a run", {});
  const paused = Promise.withResolvers<string>();
  const told: RunRecovery[] = [];
  const recovery: RecoveryOptions = {
    ...{ copies: 1, continuity, tell: (each) => told.push(each), paused: paused.resolve },
    restart: async () => ({ step: -1, values: initial }),
    fixed: async (names) => Object.fromEntries(names.map((name) => [name, initial[name]!])),
  };
  const scheduler = await lead(coordinator, devices, { model: MODEL, scheduling: { plan, recovery } });
  await scheduler.ask.plan();
  await scheduler.ask.deploy(initial);
  for (let at = 0; at < 3; at++) {
    await scheduler.ask.step(at, LAST);
    // Copies of what it began with, and then of what steps have left.
    while ((await scheduler.ask.keepingCost()).points < at + 1) await Bun.sleep(1);
  }
  const stepping = scheduler.ask.step(3, LAST);
  for (const { cut } of edges) cut();
  await paused.promise;
  await Promise.all(devices.map((device) => scheduler.ask.join(device)));
  await stepping;
  for (let at = 4; at < STEPS; at++) await scheduler.ask.step(at, LAST);
  expect(told).toMatchObject([{ fromCheckpoint: false }]);
  expect(told[0]!.stepsLost).toBeWithin(0, 3);
  expect(await bitsOf({ ...spared, scheduler })).toEqual(await bitsOf(spared));
});
