/**
 * AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019) as a graph, so that the optimiser runs
 * where the parameters are.
 */

import type { Graph, ValueInfo } from "../onnx/graph.ts";
import {
  byScalar,
  type CommonConfig,
  firstMomentName,
  type Rule,
  secondMomentName,
  type Update,
  updatedName,
  updateGraph,
} from "./update.ts";

export { squareSumsGraph } from "./square-sums.ts";
export { firstMomentName, secondMomentName, updatedName } from "./update.ts";

/** What AdamW takes besides what all optimisers take. */
export interface Moments {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
}

export interface AdamWConfig extends CommonConfig, Moments {
  /** Left out, it is this. */
  readonly kind?: "adamw";
}

export const DEFAULT_ADAMW = {
  learningRate: 4e-3,
  warmup: 20,
  floor: 0.1,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.1,
  clip: 1,
} satisfies Omit<AdamWConfig, "steps">;

/** One update of the given parameters; see `updateGraph`. State of p: its moments `m.p` and `v.p`. */
export function adamwGraph(parameters: readonly ValueInfo[], total: number, config: AdamWConfig): Graph {
  return updateGraph("adamw", parameters, total, config, (update) => adamw(update, config));
}

/** The rule of AdamW for any parameter. */
export function adamw({ b, step, rate, scale, k, f32 }: Update, config: CommonConfig & Moments): Rule {
  const { beta1, beta2, epsilon, weightDecay } = config;
  const count = b.op("Add", [step, k(1)]);
  const correction = (beta: number) => b.op("Sub", [k(1), b.op("Pow", [k(beta), count])]);
  const root2 = b.op("Sqrt", [correction(beta2)]);

  // p −= rate/c1 · m / (√v/√c2 + ε), with √c2 moved out of the tensors and into the scalars.
  const stepSize = f32(b.op("Div", [b.op("Mul", [rate, root2]), correction(beta1)]));
  const floor = f32(b.op("Mul", [root2, k(epsilon)]));
  const keep = f32(b.op("Sub", [k(1), b.op("Mul", [rate, k(weightDecay)])]));
  const first = f32(b.op("Mul", [scale, k(1 - beta1)]));
  const second = f32(b.op("Mul", [b.op("Mul", [scale, scale]), k(1 - beta2)]));

  const times = (x: string, factor: string) => byScalar(b, "Mul", x, factor);

  return ({ name, shape, p, g, state }) => {
    const [m, v] = [state(firstMomentName), state(secondMomentName)];
    const nextM = b.op("Add", [times(m, b.scalar(beta1)), times(g, first)], {}, updatedName(m));
    const square = times(b.op("Mul", [g, g]), second);
    const nextV = b.op("Add", [times(v, b.scalar(beta2)), square], {}, updatedName(v));
    const ratio = b.op("Div", [nextM, byScalar(b, "Add", b.op("Sqrt", [nextV]), floor)]);
    const decayed = shape.length >= 2 ? times(p, keep) : p;
    b.op("Sub", [decayed, times(ratio, stepSize)], {}, updatedName(name));
  };
}
