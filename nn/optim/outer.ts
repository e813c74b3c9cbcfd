/**
 * The outer optimiser of low-communication data parallelism (Douillard et al., "DiLoCo: Distributed Low-Communication
 * Training of Language Models", 2023): every member trains on its own for some steps, from the same parameters θ_start;
 * then the mean of what each has moved, θ_start − θ_local, is taken for a gradient of θ_start, and gradient descent with
 * Nesterov's momentum goes a step by it. As PyTorch's SGD computes it, with Δ that mean and v the momentum,
 *
 *     v ← μ·v + Δ        θ_start ← θ_start − η·(Δ + μ·v)        θ_local ← θ_start
 *
 * The members' own optimisers keep their state from one meeting to the next. Not the same result as one device's; with one
 * member, η = 1 and μ = 0 it is.
 */

import { GraphBuilder } from "../onnx/builder.ts";
import type { Graph, ValueInfo } from "../onnx/graph.ts";
import { accumulatorName } from "../passes/accumulate.ts";
import { byScalar, updatedName } from "./update.ts";

export interface OuterConfig {
  readonly learningRate: number;
  readonly momentum: number;
}

/** What the paper found best. */
export const DILOCO: OuterConfig = { learningRate: 0.7, momentum: 0.9 };

/** Names of a parameter's value at the last meeting, and of its outer momentum. */
export const startName = (parameter: string): string => `start.${parameter}`;
export const outerMomentName = (parameter: string): string => `outer.${parameter}`;

/** What is kept of a parameter between meetings, of its type. The first begins as the parameter, the second as zeros. */
export function outerStateNames({ name }: Pick<ValueInfo, "name">): string[] {
  return [startName(name), outerMomentName(name)];
}

/**
 * What each parameter has moved since the last meeting, as a gradient: p and `start.p` in, and `share`, f32 scalar; out
 * `acc.p` = share · (start.p − p), where gradients are added up over members.
 */
export function pseudoGradientGraph(parameters: readonly ValueInfo[]): Graph {
  const b = new GraphBuilder("pseudo_gradients");
  const share = b.input("share", "f32", []);
  for (const { name, shape } of parameters) {
    const [now, start] = [b.input(name, "f32", shape), b.input(startName(name), "f32", shape)];
    const moved = byScalar(b, "Mul", b.op("Sub", [start, now]), share);
    b.op("Identity", [moved], {}, accumulatorName(name));
    b.output(accumulatorName(name));
  }
  return b.build();
}

/** The outer step: `start.p`, `outer.p` and `acc.p`, the mean, in; `new.start.p` and `new.outer.p` out, in place or not. */
export function outerGraph(parameters: readonly ValueInfo[], { learningRate, momentum }: OuterConfig): Graph {
  const b = new GraphBuilder("outer");
  const [rate, decay] = [b.scalar(learningRate), b.scalar(momentum)];
  for (const { name, shape } of parameters) {
    const [start, moment] = [startName(name), outerMomentName(name)].map((key) => b.input(key, "f32", shape));
    const mean = b.input(accumulatorName(name), "f32", shape);
    const next = b.op("Add", [byScalar(b, "Mul", moment!, decay), mean], {}, updatedName(moment!));
    const way = b.op("Add", [mean, byScalar(b, "Mul", next, decay)]);
    b.op("Sub", [start!, byScalar(b, "Mul", way, rate)], {}, updatedName(start!));
    b.output(updatedName(start!));
    b.output(updatedName(moment!));
  }
  return b.build();
}
