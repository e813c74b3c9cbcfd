/** Who stays when others are lost: stages that are as they were go on with what they have, and nothing else is started or moved. */

import { afterEach, expect, test } from "bun:test";
import type { Fault } from "../../../actors/chaos/fault.ts";
import { Device } from "../../../actors/device.ts";
import type { StageSpec } from "../../../actors/stage.ts";
import type { NodeRuntime, Ref } from "../../../runtime/index.ts";
import type { Cluster } from "../cluster.ts";
import * as runs from "./runs.ts";

const { bitsOf, LAST, STEPS } = runs;

let clusters: Cluster[] = [];
afterEach(async () => {
  for (const cluster of clusters) await cluster.close();
  clusters = [];
});

interface Watched extends runs.Disturbed {
  /** Stages that were started, as `device worker`, in order. */
  readonly started: string[];
}

async function watched(shape: runs.Shape, faults: readonly Fault[] = []): Promise<Watched> {
  const plan = runs.handPlan(shape);
  const started: string[] = [];
  const classOf = (index: number) =>
    class extends Device {
      override host(spec: StageSpec, owner: Ref<any>) {
        started.push(`${index} ${spec.program.worker}`);
        return super.host(spec, owner);
      }
    };
  const crash = (node: NodeRuntime) => void node.close(0);
  const effectsOf = (node: NodeRuntime) => ({
    kill: () => crash(node),
    ...{ stop: () => {}, hang: () => {}, cut: () => {} },
  });
  const cluster = await runs.started({ devices: plan.devices.length, classOf, effectsOf }, { plan });
  clusters.push(cluster);
  for (const fault of faults) await cluster.devices[Number(fault.device)]!.ask.arm([fault]);
  await cluster.scheduler.ask.plan();
  await cluster.scheduler.ask.deploy(cluster.initial);
  return { ...cluster, started };
}

async function bitsAfter(cluster: Watched): Promise<Readonly<Record<string, string>>> {
  for (let step = 0; step < STEPS; step++) await cluster.scheduler.ask.step(step, LAST, true);
  return bitsOf(cluster);
}

const killed = (device: number, at: Omit<Fault, "action" | "device">): Fault => {
  return { action: "kill", device: `${device}`, ...at };
};

test.each([
  ["in a step", runs.PIPELINE, { step: 3, microBatch: 1, phase: "backward" }],
  ["when others have committed it", runs.PIPELINE, { step: 3, phase: "commit" }],
  ["of a stage shared by data", runs.SHARED_BY_DATA.stages, { step: 3, microBatch: 1 }],
  ["of a stage shared by tensor", runs.SHARED_BY_TENSOR.stages, { step: 3, microBatch: 1 }],
] as const)("a device is lost %s: its stage alone is started anew", async (_, stages, at) => {
  const spared = await bitsAfter(await watched({ stages }));
  const cluster = await watched({ stages }, [killed(1, at)]);
  expect(await bitsAfter(cluster)).toEqual(spared);
  const [told] = cluster.told;
  const [successor] = told!.plan.devices.filter(({ reason }) => reason.startsWith("takes over"));
  expect(cluster.started).toEqual(["0 0", "1 1", "2 2", `${successor!.id} 1`]);
  // What it held was there already.
  expect(told!.movedBytes).toBe(0);
});

test("a run goes over to a plan that differs in one cut: the stage before it stays", async () => {
  const cluster = await watched({ stages: runs.PIPELINE });
  const { scheduler } = cluster;
  await scheduler.ask.step(0, LAST);
  await scheduler.ask.migrate(runs.handPlan({ stages: [{ to: [2] }, { to: [4] }, { to: [6] }] }));
  for (let step = 1; step < STEPS; step++) await scheduler.ask.step(step, LAST);
  expect(cluster.started).toEqual(["0 0", "1 1", "2 2", "1 1", "2 2"]);
  expect(await bitsOf(cluster)).toEqual(await bitsAfter(await watched({ stages: runs.PIPELINE })));
});
