/**
 * AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019) with clipping by global norm
 * (Pascanu et al., 2013), as graphs, so that the optimiser runs where the parameters are.
 *
 * Clipping needs the norm of all gradients of the model, and a stage has only its own. So there are two graphs:
 * `squareSums` gives one number per parameter; the numbers of all stages, in the model's order, are an input of
 * `update` on every stage. The sum over them is then the same everywhere, however the model was cut.
 */

import { GraphBuilder } from "../onnx/builder.ts";
import type { Graph, ValueInfo } from "../onnx/graph.ts";
import { sumName } from "../passes/accumulate.ts";
import { type LearningRateConfig, learningRate } from "./schedule.ts";

export interface AdamWConfig extends LearningRateConfig {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Applied to parameters of two or more dimensions; vectors (biases, normalisation) are left alone. */
  readonly weightDecay: number;
  /** The most the global gradient norm may be; 0 for no clipping. */
  readonly clip: number;
}

export const DEFAULT_ADAMW: Omit<AdamWConfig, "steps"> = {
  learningRate: 4e-3,
  warmup: 20,
  floor: 0.1,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.1,
  clip: 1,
};

export const firstMomentName = (parameter: string): string => `m.${parameter}`;
export const secondMomentName = (parameter: string): string => `v.${parameter}`;
export const updatedName = (value: string): string => `new.${value}`;

/** `sum.<p>` of every parameter in, `square_sums` f32 [parameters] out, in the given order. */
export function squareSumsGraph(parameters: readonly ValueInfo[]): Graph {
  const b = new GraphBuilder("square_sums");
  const parts = parameters.map(({ name, shape }) => {
    const gradient = b.input(sumName(name), "f32", shape);
    return b.op("Reshape", [b.op("ReduceSumSquare", [gradient], { keepdims: 0 }), b.ints([1])]);
  });
  b.op("Concat", parts, { axis: 0 }, "square_sums");
  b.output("square_sums");
  return b.build();
}

/**
 * One update of the given parameters.
 * Inputs: `step` i64 scalar, 0-based; `square_sums` f32 [total], of all parameters of the model; and of every
 * parameter p its value `p`, gradient `sum.p` and moments `m.p`, `v.p`. Outputs: `new.p`, `new.m.p`, `new.v.p`, each
 * of which may be bound to the memory of the value it replaces; `grad_norm` and `learning_rate`, f32 scalars.
 */
export function adamwGraph(parameters: readonly ValueInfo[], total: number, config: AdamWConfig): Graph {
  const { beta1, beta2, epsilon, weightDecay, clip } = config;
  const b = new GraphBuilder("adamw");
  b.input("step", "i64", []);
  b.input("square_sums", "f32", [total]);
  const F64 = { to: 11 };
  const F32 = { to: 1 };
  const k = (value: number) => b.scalar(value, "f64");

  const step = b.op("Cast", ["step"], F64);
  const rate = learningRate(b, step, config);
  const count = b.op("Add", [step, k(1)]);
  const correction = (beta: number) => b.op("Sub", [k(1), b.op("Pow", [k(beta), count])]);
  const root2 = b.op("Sqrt", [correction(beta2)]);
  const norm = b.op("Sqrt", [b.op("ReduceSum", [b.op("Cast", ["square_sums"], F64)], { keepdims: 0 })]);
  const limit = () => b.op("Div", [k(clip), b.op("Add", [norm, k(1e-6)])]);
  const scale = clip > 0 ? b.op("Min", [limit(), k(1)]) : k(1);

  // p −= rate/c1 · m / (√v/√c2 + ε), with √c2 moved out of the tensors and into the scalars.
  const stepSize = b.op("Cast", [b.op("Div", [b.op("Mul", [rate, root2]), correction(beta1)])], F32);
  const floor = b.op("Cast", [b.op("Mul", [root2, k(epsilon)])], F32);
  const keep = b.op("Cast", [b.op("Sub", [k(1), b.op("Mul", [rate, k(weightDecay)])])], F32);
  const first = b.op("Cast", [b.op("Mul", [scale, k(1 - beta1)])], F32);
  const second = b.op("Cast", [b.op("Mul", [b.op("Mul", [scale, scale]), k(1 - beta2)])], F32);

  for (const { name, shape } of parameters) {
    const [p, g] = [b.input(name, "f32", shape), b.input(sumName(name), "f32", shape)];
    const m = b.input(firstMomentName(name), "f32", shape);
    const v = b.input(secondMomentName(name), "f32", shape);
    const nextM = b.op(
      "Add",
      [b.op("Mul", [m, b.scalar(beta1)]), b.op("Mul", [g, first])],
      {},
      updatedName(m),
    );
    const square = b.op("Mul", [b.op("Mul", [g, g]), second]);
    const nextV = b.op("Add", [b.op("Mul", [v, b.scalar(beta2)]), square], {}, updatedName(v));
    const ratio = b.op("Div", [nextM, b.op("Add", [b.op("Sqrt", [nextV]), floor])]);
    const decayed = shape.length >= 2 ? b.op("Mul", [p, keep]) : p;
    b.op("Sub", [decayed, b.op("Mul", [ratio, stepSize])], {}, updatedName(name));
    for (const output of [updatedName(name), nextM, nextV]) b.output(output);
  }
  b.op("Cast", [norm], F32, "grad_norm");
  b.op("Cast", [rate], F32, "learning_rate");
  b.output("grad_norm");
  b.output("learning_rate");
  return b.build();
}
