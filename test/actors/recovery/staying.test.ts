/** Who stays when others are lost: stages that are as they were go on with what they have, and nothing else is started or moved. */

import { afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { Fault } from "../../../actors/chaos/fault.ts";
import { Device } from "../../../actors/device.ts";
import { Inbox } from "../../../actors/inbox.ts";
import { planPrograms } from "../../../actors/scheduler/plan.ts";
import { Outbox } from "../../../actors/stage/outbox.ts";
import { Stage, type StageSpec } from "../../../actors/stage.ts";
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

async function watched(shape: runs.Shape, faults: readonly Fault[] = [], copies = 1): Promise<Watched> {
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
  const cluster = await runs.started(
    { devices: plan.devices.length, classOf, effectsOf },
    { plan },
    { copies },
  );
  clusters.push(cluster);
  for (const fault of faults) await cluster.devices[Number(fault.device)]!.ask.arm([fault]);
  await cluster.scheduler.ask.plan();
  await cluster.scheduler.ask.deploy(cluster.initial);
  return { ...cluster, started };
}

/** All steps; each begins when copies of what the one before it left have had all the turns that they need. */
async function bitsAfter(cluster: Watched): Promise<Readonly<Record<string, string>>> {
  const { scheduler } = cluster;
  for (let step = 0; step < STEPS; step++) {
    for (let turn = 0; turn < 20; turn++) await scheduler.ask.keepingCost();
    await scheduler.ask.step(step, LAST);
  }
  return bitsOf(cluster);
}

/** Of the pipeline, when nobody is lost. */
let spared: Readonly<Record<string, string>>;
beforeAll(async () => {
  spared = await bitsAfter(await watched({ stages: runs.PIPELINE }));
});

const killed = (device: number, at: Omit<Fault, "action" | "device">): Fault => {
  return { action: "kill", device: `${device}`, ...at };
};

test.each([
  ["in a step", runs.PIPELINE, { step: 3, microBatch: 1, phase: "backward" }],
  ["when others have committed it", runs.PIPELINE, { step: 3, phase: "commit" }],
  ["of a stage shared by data", runs.SHARED_BY_DATA.stages, { step: 3, microBatch: 1 }],
  ["of a stage shared by tensor", runs.SHARED_BY_TENSOR.stages, { step: 3, microBatch: 1 }],
] as const)("a device is lost %s: its stage alone is started anew", async (_, stages, at) => {
  const whole = stages === runs.PIPELINE ? spared : await bitsAfter(await watched({ stages }));
  const cluster = await watched({ stages }, [killed(1, at)]);
  expect(await bitsAfter(cluster)).toEqual(whole);
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
  expect(await bitsOf(cluster)).toEqual(spared);
});

describe("a step goes on where it is", () => {
  /** Operations of the pipeline's stages in a step. */
  const operations = planPrograms(runs.handPlan({ stages: runs.PIPELINE })).map(
    (program) => program.operations.length,
  );
  const of = (...workers: number[]) => workers.reduce((sum, worker) => sum + operations[worker]!, 0);
  test.each([
    [0, { step: 3, microBatch: 0, phase: "backward" }],
    [1, { step: 3, microBatch: 3, phase: "forward" }],
    [2, { step: 3, microBatch: 3, phase: "backward" }],
  ] as const)(
    "device %i is lost at %p: its stage's own part of it is all that is carried out again",
    async (device, at) => {
      const cluster = await watched({ stages: runs.PIPELINE }, [killed(device, at)]);
      expect(await bitsAfter(cluster)).toEqual(spared);
      expect(cluster.told).toHaveLength(1);
      expect(cluster.told[0]).toMatchObject({ stepsLost: 0, operationsReplayed: of(device) });
    },
  );

  test("two are lost at once: so are their parts", async () => {
    const at = { step: 3, microBatch: 2, phase: "forward" } as const;
    const cluster = await watched({ stages: runs.PIPELINE }, [killed(0, at), killed(2, at)], 2);
    expect(await bitsAfter(cluster)).toEqual(spared);
    const again = cluster.told.reduce((sum, { operationsReplayed }) => sum + operationsReplayed, 0);
    // One may have been replaced before the other was lost.
    expect(again).toBeWithin(of(0, 2), 2 * of(0, 2));
    expect(cluster.told.every(({ stepsLost }) => stepsLost === 0)).toBe(true);
  });

  test("another is lost while it is given what the first has held", async () => {
    const faults = [
      killed(1, { step: 3, microBatch: 2, phase: "backward" }),
      killed(2, { step: 0, phase: "recovery" }),
    ];
    const cluster = await watched({ stages: runs.PIPELINE }, faults, 2);
    expect(await bitsAfter(cluster)).toEqual(spared);
    expect(cluster.told).toHaveLength(1);
    expect(cluster.told[0]).toMatchObject({ stepsLost: 0, operationsReplayed: of(1, 2) });
  });

  test("not where others have committed it, or work is shared: then all of it is begun again", async () => {
    const all = of(0, 1, 2);
    const torn = await watched({ stages: runs.PIPELINE }, [killed(1, { step: 3, phase: "commit" })]);
    expect(await bitsAfter(torn)).toEqual(spared);
    expect(torn.told[0]!.operationsReplayed % all).toBe(0);
    const shared = await watched(runs.SHARED_BY_DATA, [killed(1, { step: 3, microBatch: 1 })]);
    await bitsAfter(shared);
    const programs = planPrograms(runs.handPlan(runs.SHARED_BY_DATA));
    const whole = programs.reduce((sum, program) => sum + program.operations.length, 0);
    expect(shared.told[0]!.operationsReplayed).toBe(whole);
  });
});

describe("found out", () => {
  /** What a run comes to while a method is broken: its bits, or what it ends with. */
  async function broken(
    fault: Fault,
    type: { prototype: object },
    method: string,
    instead: (original: (...args: any[]) => any, ...args: any[]) => unknown,
  ): Promise<unknown> {
    const prototype = type.prototype as any;
    const original = prototype[method];
    prototype[method] = function (...args: unknown[]) {
      return instead(original.bind(this), ...args);
    };
    try {
      return await bitsAfter(await watched({ stages: runs.PIPELINE }, [fault]));
    } catch (error) {
      return (error as { code?: unknown }).code;
    } finally {
      prototype[method] = original;
    }
  }
  test("a stage that says that it holds what it does not", async () => {
    const fault = killed(1, { step: 3, phase: "commit" });
    const bits = await broken(fault, Stage, "resume", async (resume, ...args) => {
      return { ...(await resume(...args)), holds: true };
    });
    expect(bits).not.toEqual(spared);
  });

  test("what was sent, and is written over before it is sent again", async () => {
    const fault = killed(1, { step: 3, microBatch: 3, phase: "backward" });
    const bits = await broken(fault, Outbox, "add", (add, workers, slip, tensor, codec) => {
      const sent = add(workers, slip, tensor, codec);
      sent.tensor = tensor;
      return sent;
    });
    expect(bits).not.toEqual(spared);
  });

  test("a stage that takes what it has had already", async () => {
    const fault = killed(1, { step: 3, microBatch: 0, phase: "forward" });
    expect(await broken(fault, Inbox, "passOver", () => {})).toBe("INBOX");
  });
});
