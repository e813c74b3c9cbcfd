/**
 * What the graphs of all optimisers share: the step, the learning rate, and one factor that clips (Pascanu et al., 2013)
 * and undoes the loss's scale.
 *
 * Clipping needs the norm of all gradients of the model, and a stage has only its own. So there are two graphs:
 * `squareSums` gives one number per parameter; the numbers of all stages, in the model's order, are an input of
 * the update on every stage. The sum over them is then the same everywhere, however the model was cut.
 */

import { GraphBuilder } from "../onnx/builder.ts";
import type { ValueInfo } from "../onnx/graph.ts";
import { sumName } from "../passes/accumulate.ts";
import { isScaled, type LossScaleConfig } from "./loss-scale.ts";
import { type LearningRateConfig, learningRate } from "./schedule.ts";

/** What all optimisers take. */
export interface CommonConfig extends LearningRateConfig, LossScaleConfig {
  /** Applied to parameters of two or more dimensions; vectors (biases, normalisation) are left alone. */
  readonly weightDecay: number;
  /** The most the global gradient norm may be; 0 for no clipping. */
  readonly clip: number;
}

/** Name of the optimiser's running mean of a parameter's gradient, or of its square. */
export const firstMomentName = (parameter: string): string => `m.${parameter}`;
export const secondMomentName = (parameter: string): string => `v.${parameter}`;
export const updatedName = (value: string): string => `new.${value}`;

/** An update graph under construction. */
export interface Update {
  readonly b: GraphBuilder;
  /** f64 scalars: the step counted from 0, the learning rate, and what gradients are multiplied by. */
  readonly step: string;
  readonly rate: string;
  readonly scale: string;
  readonly norm: string;
  /** An f64 constant. */
  readonly k: (value: number) => string;
  /** An f64 scalar rounded to f32. */
  readonly f32: (value: string, output?: string) => string;
}

/** Value, accumulated gradient and state of a parameter, as inputs of the graph. */
export interface Site extends ValueInfo {
  readonly p: string;
  readonly g: string;
  /** A state tensor of the parameter's shape; `moment` names it. */
  readonly state: (moment: (parameter: string) => string) => string;
}

/** Appends the update of one parameter: its new value and state, under `updatedName`s. */
export type Rule = (site: Site) => void;

/**
 * One update of the given parameters.
 * Inputs: `step` i64 scalar, 0-based; `square_sums` f32 [total], of all parameters of the model; `loss_scale` f32 scalar
 * where the loss is scaled; and of every parameter p its value `p`, gradient `sum.p` and state. Outputs: the new values,
 * each of which may be bound to the memory of the value it replaces; `grad_norm` and `learning_rate`, f32 scalars.
 */
export function updateGraph(
  name: string,
  parameters: readonly ValueInfo[],
  total: number,
  config: CommonConfig,
  begin: (update: Update) => Rule,
) {
  const b = new GraphBuilder(name);
  b.input("step", "i64", []);
  b.input("square_sums", "f32", [total]);
  const F64 = { to: 11 };
  const F32 = { to: 1 };
  const k = (value: number) => b.scalar(value, "f64");

  const step = b.op("Cast", ["step"], F64);
  const rate = learningRate(b, step, config);
  const { norm, scale } = factors(b, config, k);
  const f32 = (value: string, output?: string) => b.op("Cast", [value], F32, output);
  const rule = begin({ b, step, rate, scale, norm, k, f32 });
  for (const info of parameters) {
    const [p, g] = [b.input(info.name, "f32", info.shape), b.input(sumName(info.name), "f32", info.shape)];
    const changed = [info.name];
    const state = (moment: (parameter: string) => string) => {
      const key = moment(info.name);
      changed.push(key);
      return b.input(key, "f32", info.shape);
    };
    rule({ ...info, p, g, state });
    for (const key of changed) b.output(updatedName(key));
  }
  b.output(f32(norm, "grad_norm"));
  b.output(f32(rate, "learning_rate"));
  return b.build();
}

/**
 * x by a scalar. ONNX Runtime goes through a tensor whose last axis is 1, as the weights of a convolution of one tap
 * have, element by element when the other side is a scalar: 20 times as long as for a vector of the same size.
 */
export function byScalar(b: GraphBuilder, op: "Mul" | "Add", x: string, scalar: string): string {
  const shape = b.shape(x);
  if (shape.length < 2 || shape.at(-1) !== 1) return b.op(op, [x, scalar]);
  const flat = b.op(op, [b.op("Reshape", [x, b.ints([-1])]), scalar]);
  return b.op("Reshape", [flat, b.ints(shape)]);
}

function factors(b: GraphBuilder, config: CommonConfig, k: (value: number) => string) {
  const F64 = { to: 11 };
  const sum = b.op("ReduceSum", [b.op("Cast", ["square_sums"], F64)], { keepdims: 0 });
  const unscale = isScaled(config) ? b.op("Cast", [b.input("loss_scale", "f32", [])], F64) : undefined;
  const root = b.op("Sqrt", [sum]);
  const norm = unscale ? b.op("Div", [root, unscale]) : root;
  const limit = () => b.op("Div", [k(config.clip), b.op("Add", [norm, k(1e-6)])]);
  const clip = config.clip > 0 ? b.op("Min", [limit(), k(1)]) : k(1);
  return { norm, scale: unscale ? b.op("Div", [clip, unscale]) : clip };
}
