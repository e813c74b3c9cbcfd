/**
 * The learning rate as a graph: linear warm-up, then a decay to a floor, by a cosine (Loshchilov and Hutter, "SGDR",
 * 2017) or linearly, or no decay, as a function of the step alone. Computed in f64, since bias corrections near 1 lose their digits in f32.
 */

import type { GraphBuilder } from "../onnx/builder.ts";

export interface LearningRateConfig {
  /** Peak, reached at the end of the warm-up. */
  readonly learningRate: number;
  /** Steps of linear warm-up; 0 for none. */
  readonly warmup: number;
  /** The step at which the decay ends. */
  readonly steps: number;
  /** The rate at the end as a share of the peak. */
  readonly floor: number;
  /** How it gets there; a cosine when left out. A constant rate stays at the peak. */
  readonly decay?: Decay;
}

export type Decay = "cosine" | "linear" | "constant";

/** Learning rate (f64 scalar) of a 0-based step given as an f64 scalar value. */
export function learningRate(b: GraphBuilder, step: string, config: LearningRateConfig): string {
  const { learningRate: peak, warmup, steps } = config;
  const k = (value: number) => b.scalar(value, "f64");
  const rising = b.op("Mul", [b.op("Add", [step, k(1)]), k(peak / Math.max(1, warmup))]);
  const progress = b.op("Div", [b.op("Sub", [step, k(warmup)]), k(Math.max(1, steps - warmup))]);
  const clipped = b.op("Min", [b.op("Max", [progress, k(0)]), k(1)]);
  const falling = decayed(b, config, clipped);
  return b.op("Where", [b.op("Less", [step, k(warmup)]), rising, falling]);
}

/** The rate after the warm-up, at a share of the way, 0 … 1. */
function decayed(b: GraphBuilder, config: LearningRateConfig, progress: string): string {
  const { learningRate: peak, floor, decay = "cosine" } = config;
  const k = (value: number) => b.scalar(value, "f64");
  const low = peak * floor;
  if (decay === "constant") return k(peak);
  if (decay === "linear") return b.op("Sub", [k(peak), b.op("Mul", [progress, k(peak - low)])]);
  const wave = b.op("Add", [b.op("Cos", [b.op("Mul", [progress, k(Math.PI)])]), k(1)]);
  return b.op("Add", [b.op("Mul", [wave, k(0.5 * (peak - low))]), k(low)]);
}
