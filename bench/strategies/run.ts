/**
 * One plan carried out: deployed, warmed up, timed step by step, and its weights taken at the end. Every run begins with the
 * same weights and reads the same data, so that runs can be compared with each other.
 */

import type { Feed } from "../../actors/data/feed.ts";
import { DataSource } from "../../actors/data/source.ts";
import type { Device } from "../../actors/device.ts";
import type { Plan } from "../../actors/scheduler/plan.ts";
import { Scheduler, type StepResult } from "../../actors/scheduler/scheduler.ts";
import { initialState } from "../../actors/train.ts";
import type { Model } from "../../nn/model.ts";
import type { OptimizerConfig } from "../../nn/optim/optimizer.ts";
import { Tensor } from "../../protocols/tensor.ts";
import type { NodeRuntime, Ref } from "../../runtime/index.ts";

/** What is trained, and how. */
export interface Training {
  readonly model: Model;
  readonly feed: Feed;
  readonly optimizer: OptimizerConfig;
  readonly seed: number;
  readonly microBatches: number;
}

export interface RunSteps {
  readonly warmUp: number;
  readonly steps: number;
}

export interface TimedStep extends StepResult {
  readonly ms: number;
}

export interface PlanRun {
  /** Of all steps, warm-up included. */
  readonly losses: readonly number[];
  readonly steps: readonly TimedStep[];
  /** Copies. */
  readonly weights: Weights;
}

/** Where it runs. */
export interface Place {
  readonly node: NodeRuntime;
  /** In the order of the plan's ids. */
  readonly devices: readonly Ref<Device>[];
  /** Around what nobody measures. */
  unshaped<T>(work: () => Promise<T>): Promise<T>;
}

/** Hooks of a run. */
export interface RunHooks {
  /** Around the steps that are timed. */
  before?(): Promise<unknown>;
  after?(): Promise<unknown>;
  /** After each step, warm-up included; `take` copies the weights. */
  stepped?(take: () => Promise<Weights>): Promise<unknown>;
  /** By `performance.now()`: behind it no further step is begun once one has been timed. */
  readonly until?: number;
}

/** What has been trained, by name. */
export type Weights = ReadonlyMap<string, Tensor>;

export async function runPlan(
  { node, devices, unshaped }: Place,
  plan: Plan,
  { model, feed, optimizer, seed, microBatches }: Training,
  { warmUp, steps }: RunSteps,
  { before, after, stepped, until = Number.POSITIVE_INFINITY }: RunHooks = {},
): Promise<PlanRun> {
  const { strategy, schedule } = plan;
  const data = await node.spawn(DataSource, [feed]);
  const options = { strategy, schedule, recompute: false, microBatches, model, optimizer, seed, plan };
  const scheduler = await node.spawn(Scheduler, [devices, data, options]);
  try {
    await scheduler.ask.plan();
    const initial = await initialState(model, seed);
    await unshaped(() => scheduler.ask.deploy(initial));
    const losses: number[] = [];
    const timed: TimedStep[] = [];
    const take = async () => copied(model, await unshaped(() => scheduler.ask.state()));
    let begun = false;
    for (let step = 0; step < warmUp + steps; step++) {
      if (timed.length > 0 && !begun && performance.now() > until) break;
      if (step === warmUp) await before?.();
      const began = performance.now();
      // As in training, where the next step begins behind the commit.
      begun = step >= warmUp && began < until && step + 1 < warmUp + steps;
      const result = await scheduler.ask.step(step, warmUp + steps - 1, begun);
      losses.push(result.loss);
      if (step >= warmUp) timed.push({ ...result, ms: performance.now() - began });
      await stepped?.(take);
    }
    await after?.();
    return { losses, steps: timed, weights: await take() };
  } finally {
    await node.stop(scheduler);
    await node.stop(data);
  }
}

function copied({ parameters }: Model, state: Readonly<Record<string, Tensor>>): Weights {
  return new Map(
    parameters.flatMap((name) => {
      const tensor = state[name];
      return tensor ? [[name, new Tensor(tensor.dtype, tensor.shape, tensor.bytes.slice())]] : [];
    }),
  );
}
