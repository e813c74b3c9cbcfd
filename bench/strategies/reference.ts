/**
 * What one device makes of it: the whole model as a single stage on a device in this process, at full speed and on no line.
 * Every strategy's losses and weights are compared with these.
 */

import { Device } from "../../actors/device.ts";
import type { Plan } from "../../actors/scheduler/plan.ts";
import { Stage } from "../../actors/stage.ts";
import type { Engine } from "../../nn/engine/engine.ts";
import { findSegments } from "../../nn/segments.ts";
import { NodeRuntime } from "../../runtime/index.ts";
import { digestFor } from "../digest.ts";
import { type RunSteps, runPlan, type Training, type Weights } from "./run.ts";

export interface Reference {
  /** By step, warm-up included. */
  readonly losses: readonly number[];
  /** After each of them. */
  readonly weights: readonly Weights[];
}

/** @param engine the same kind as the devices': others have other bits. */
export async function runReference(
  training: Training,
  steps: RunSteps,
  engine: Engine["name"] | "auto" = "auto",
): Promise<Reference> {
  const node = new NodeRuntime({ name: "reference", actors: { Device, Stage }, log: () => {} });
  try {
    const device = await node.spawn(Device, ["reference", engine]);
    const plan = wholePlan(training);
    const place = { node, devices: [device], unshaped: <T>(work: () => Promise<T>) => work() };
    const weights: Weights[] = [];
    const { losses } = await runPlan(place, plan, training, steps, {
      stepped: async (take) => weights.push(await take()),
    });
    return { losses, weights };
  } finally {
    await node.close();
  }
}

/** Everything on the first device. */
function wholePlan({ model, microBatches }: Training): Plan {
  const member = {
    ...{ device: "0", deviceName: "reference", share: 1 },
    microBatches: Array.from({ length: microBatches }, (_, i) => i),
    ...{ forwardMs: 0, backwardMs: 0, parameterBytes: 0, memoryBytes: 0 },
  };
  const ranges = [{ from: 0, to: findSegments(model).length }];
  return {
    ...{ digest: digestFor(model, microBatches), strategy: "single", schedule: "1f1b" },
    ...{ microBatches, forwardOnly: 0, localSteps: 1 },
    stages: [{ stage: 0, ranges, sharing: null, members: [member], recompute: false }],
    codecs: { activations: null, gradients: null },
    devices: [{ id: "0", name: "reference", used: true, reason: "" }],
    ...{ predictedStepMs: 0, bubbleFraction: 0, predictedJoules: null },
  };
}
