/** What an optimiser is told where every micro-batch is a step of its own. */

import { isScaled } from "./loss-scale.ts";
import type { OptimizerConfig } from "./optimizer.ts";

/**
 * The same schedule of the learning rate, counted in micro-batches. A scaled loss goes with one scale for all stages at
 * one time, which there is not when each updates when it can.
 * @throws RangeError for a scaled loss.
 */
export function perMicroBatch<Config extends OptimizerConfig>(config: Config, microBatches: number): Config {
  if (isScaled(config)) {
    throw new RangeError("asynchronous schedules cannot scale the loss: train in f32 or bf16, or use 1f1b");
  }
  return { ...config, warmup: config.warmup * microBatches, steps: config.steps * microBatches };
}
