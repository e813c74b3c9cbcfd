/**
 * How long the kernels of the stand-in take. Every chunk of the model costs the same, whatever it computes: a forward
 * pass F, the gradient of its input B, and those of its parameters W, in the letters of Qi et al. ("Zero Bubble Pipeline
 * Parallelism", 2023). A backward pass that is not split takes B + W. Nothing else takes time.
 */

import { sumName } from "../../nn/passes/accumulate.ts";
import { gradientName } from "../../nn/training.ts";
import { activationName, LOSS, parameterName } from "./model.ts";

/** Milliseconds, of one micro-batch through one chunk. */
export interface KernelTimes {
  readonly forwardMs: number;
  readonly backwardInputMs: number;
  readonly backwardWeightMs: number;
}

/** What a device process has to know of a pipeline: chunks of the whole model, and what each takes. */
export interface Kernels {
  readonly chunks: number;
  readonly times: KernelTimes;
}

/** Of the device, among those of its process, whose kernels are these. */
export function deviceName({ chunks, times }: Kernels): string {
  return `device ${[chunks, times.forwardMs, times.backwardInputMs, times.backwardWeightMs].join("/")}`;
}

/**
 * How long a graph runs, by what comes out of it. The first chunk has no input whose gradient anyone wants; what that
 * would have taken is counted to the gradients of its parameters, so that all chunks are equal.
 */
export function runMs(outputs: readonly string[], chunks: number, times: KernelTimes): number {
  const names = new Set(outputs);
  let ms = 0;
  for (let chunk = 0; chunk < chunks; chunk++) {
    if (names.has(chunk === chunks - 1 ? LOSS : activationName(chunk))) ms += times.forwardMs;
    if (chunk > 0 && names.has(gradientName(activationName(chunk - 1)))) ms += times.backwardInputMs;
    if (names.has(sumName(parameterName(chunk)))) {
      ms += times.backwardWeightMs + (chunk === 0 ? times.backwardInputMs : 0);
    }
  }
  return ms;
}
