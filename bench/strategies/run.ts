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
  /** Copies of what has been trained, by name. */
  readonly weights: ReadonlyMap<string, Tensor>;
}

/** Where it runs. */
export interface Place {
  readonly node: NodeRuntime;
  /** In the order of the plan's ids. */
  readonly devices: readonly Ref<Device>[];
  /** Around what nobody measures. */
  unshaped<T>(work: () => Promise<T>): Promise<T>;
}

/** @param measured called around the steps that are timed. */
export async function runPlan(
  { node, devices, unshaped }: Place,
  plan: Plan,
  { model, feed, optimizer, seed, microBatches }: Training,
  { warmUp, steps }: RunSteps,
  measured: { before?(): Promise<unknown>; after?(): Promise<unknown> } = {},
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
    for (let step = 0; step < warmUp + steps; step++) {
      if (step === warmUp) await measured.before?.();
      const began = performance.now();
      const result = await scheduler.ask.step(step, warmUp + steps - 1);
      losses.push(result.loss);
      if (step >= warmUp) timed.push({ ...result, ms: performance.now() - began });
    }
    await measured.after?.();
    const state = await unshaped(() => scheduler.ask.state());
    const weights = model.parameters.flatMap((name) => {
      const tensor = state[name];
      return tensor ? [[name, new Tensor(tensor.dtype, tensor.shape, tensor.bytes.slice())] as const] : [];
    });
    return { losses, steps: timed, weights: new Map(weights) };
  } finally {
    await node.stop(scheduler);
    await node.stop(data);
  }
}

/**
 * Biases of keys: a softmax does not see them. In exact arithmetic their gradients are 0; what is computed is rounding, and
 * Adam makes whole steps of that.
 */
const UNSEEN = /\bk(_proj)?\.bias$/;

/** The largest difference of two values of a tensor, as a part of the tensor's largest; the largest of all tensors. */
export function largestDifference(
  found: ReadonlyMap<string, Tensor>,
  reference: ReadonlyMap<string, Tensor>,
): number {
  let largest = 0;
  for (const [name, expected] of reference) {
    if (UNSEEN.test(name)) continue;
    const [a, b] = [found.get(name)?.f32(), expected.f32()];
    if (a?.length !== b.length) throw new RangeError(`weights ${name} are missing, or of another shape`);
    let [difference, scale] = [0, 0];
    for (let i = 0; i < b.length; i++) {
      difference = Math.max(difference, Math.abs(a[i]! - b[i]!));
      scale = Math.max(scale, Math.abs(b[i]!));
    }
    largest = Math.max(largest, difference / (scale || 1));
  }
  return largest;
}
