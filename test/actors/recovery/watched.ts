/** Small runs by plans written by hand, whose devices are killed, and what they start and tell meanwhile. For tests. */

import type { Fault } from "../../../actors/chaos/fault.ts";
import type { Feed } from "../../../actors/data/feed.ts";
import { Device } from "../../../actors/device.ts";
import { Keeper } from "../../../actors/recovery/keeper.ts";
import { type Plan, planPrograms } from "../../../actors/scheduler/plan.ts";
import { isOfMicroBatch } from "../../../actors/scheduler/program.ts";
import type { StageSpec } from "../../../actors/stage.ts";
import type { Model } from "../../../nn/model.ts";
import type { NodeRuntime, Ref } from "../../../runtime/index.ts";
import type { Cluster, ClusterOptions } from "../cluster.ts";
import { planOf } from "../plans.ts";
import * as runs from "./runs.ts";

export interface Watched extends runs.Disturbed {
  readonly plan: Plan;
  /** Stages that were started, as `device worker`, in order. */
  readonly started: string[];
}

export interface Watching {
  readonly copies?: number;
  /** Of so many steps one is copied. */
  readonly every?: number;
  /** That is trained; a small GPT when left out. */
  readonly model?: Model;
  /** In a step; 4 when left out. */
  readonly microBatches?: number;
  /** Devices that the plan does not have. */
  readonly spare?: number;
  /** Of all devices. */
  readonly engine?: ClusterOptions["engine"];
  /** What the model reads instead of text. */
  readonly feed?: Feed;
  /** What starting a stage on a device waits for before it compiles. */
  readonly compiling?: (device: number) => Promise<unknown> | undefined;
}

/** A run by this plan, with its stages in place. @param faults that are to come, each over the device of its number. */
export async function watched(
  cleanups: Cluster[],
  shape: runs.Shape,
  faults: readonly Fault[] = [],
  watching: Watching = {},
): Promise<Watched> {
  const { copies = 1, every = 1, model = runs.MODEL, microBatches = 4, spare = 0 } = watching;
  const { engine, feed, compiling } = watching;
  const kept = { asked: copies, count: copies, every, why: null };
  const plan = { ...planOf(model, { microBatches, ...shape }), copies: kept };
  const started: string[] = [];
  const classOf = (index: number) =>
    class extends Device {
      override async host(spec: StageSpec, owner: Ref<any>) {
        started.push(`${index} ${spec.program.worker}`);
        await compiling?.(index);
        return super.host(spec, owner);
      }
    };
  const effectsOf = (node: NodeRuntime) => ({
    kill: () => void node.close(0),
    ...{ stop: () => {}, hang: () => {}, cut: () => {} },
  });
  const cluster = await runs.started(
    {
      devices: plan.devices.length + spare,
      classOf,
      effectsOf,
      model,
      ...(feed && { feed }),
      ...(engine && { engine }),
    },
    { plan, microBatches },
    { copies },
  );
  cleanups.push(cluster);
  for (const fault of faults) await cluster.devices[Number(fault.device)]!.ask.arm([fault]);
  await cluster.scheduler.ask.plan();
  await cluster.scheduler.ask.deploy(cluster.initial);
  return { ...cluster, plan, started };
}

/** More than it takes until copies of a step are everywhere; where they never are, nobody waits for ever. */
const TURNS = 20_000;

/**
 * All steps; each begins when copies of what the one before it left are where they go.
 * @param before what is done before each.
 */
export async function bitsAfter(
  cluster: Watched,
  steps = runs.STEPS,
  before: (step: number) => Promise<unknown> = async () => {},
): Promise<Readonly<Record<string, string>>> {
  const { scheduler } = cluster;
  /** What the run begins with is kept with the first step, and is step -1. */
  const going = { kept: -2, complete: -2 };
  /** Of this run: another one may be on its way out. */
  let keeper: unknown;
  const seen = (what: keyof typeof going, stepOf: (...args: any[]) => number) => {
    return (self: unknown, original: (...args: any[]) => any, ...args: any[]) => {
      keeper ??= self;
      if (self === keeper) going[what] = stepOf(...args);
      return original(...args);
    };
  };
  const run = async () => {
    for (let step = 0; step < steps; step++) {
      for (let turn = 0; going.complete < going.kept && turn < TURNS; turn++) {
        await scheduler.ask.keepingCost();
        await Bun.sleep(0);
      }
      await before(step);
      await scheduler.ask.step(step, steps - 1);
    }
  };
  await whileBroken(
    Keeper,
    "kept",
    seen("kept", (step) => step),
    () =>
      whileBroken(
        Keeper,
        "complete",
        seen("complete", (_, step) => step),
        run,
      ),
  );
  return runs.bitsOf(cluster);
}

export const killed = (device: number, at: Omit<Fault, "action" | "device">): Fault => {
  return { action: "kill", device: `${device}`, ...at };
};

/** Operations of these workers in a step. */
export function operationsOf({ plan }: Pick<Watched, "plan">, ...workers: number[]): number {
  const programs = planPrograms(plan);
  return workers.reduce((sum, worker) => sum + programs[worker]!.operations.length, 0);
}

/** As `operationsOf`, on micro-batches alone. */
export function microBatchOperationsOf({ plan }: Pick<Watched, "plan">, ...workers: number[]): number {
  const programs = planPrograms(plan);
  return workers.reduce((sum, worker) => sum + programs[worker]!.operations.filter(isOfMicroBatch).length, 0);
}

/** What comes of `work` while a method is another. */
export async function whileBroken<T>(
  type: { prototype: object },
  method: string,
  instead: (self: any, original: (...args: any[]) => any, ...args: any[]) => unknown,
  work: () => Promise<T>,
): Promise<T> {
  const prototype = type.prototype as any;
  const original = prototype[method];
  prototype[method] = function (...args: unknown[]) {
    return instead(this, original.bind(this), ...args);
  };
  try {
    return await work();
  } finally {
    prototype[method] = original;
  }
}
