/**
 * Lion (Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023): every element moves by the learning rate
 * in the direction of the sign of an interpolated momentum. One state tensor instead of AdamW's two; learning rates
 * are three to ten times smaller than AdamW's, weight decay as many times larger.
 */

import type { Graph, ValueInfo } from "../onnx/graph.ts";
import { byScalar, type CommonConfig, firstMomentName, updatedName, updateGraph } from "./update.ts";

export interface LionConfig extends CommonConfig {
  readonly kind: "lion";
  /** Share of the momentum in the direction of a step. */
  readonly beta1: number;
  /** Decay of the momentum. */
  readonly beta2: number;
}

/** State of p: `m.p`. */
export function lionGraph(parameters: readonly ValueInfo[], total: number, config: LionConfig): Graph {
  const { beta1, beta2, weightDecay } = config;
  return updateGraph("lion", parameters, total, config, ({ b, rate, scale, k, f32 }) => {
    const step = f32(rate);
    const keep = f32(b.op("Sub", [k(1), b.op("Mul", [rate, k(weightDecay)])]));
    const [direction, memory] = [beta1, beta2].map((beta) => f32(b.op("Mul", [scale, k(1 - beta)]))) as [
      string,
      string,
    ];
    const times = (x: string, by: string) => byScalar(b, "Mul", x, by);
    return ({ name, shape, p, g, state }) => {
      const m = state(firstMomentName);
      // Read once: ONNX Runtime goes through nodes in an order of its own, and may write what takes its place before a second read.
      const kept = times(m, b.scalar(beta1 === 0 ? beta2 : beta1));
      const way = beta1 === 0 ? times(g, direction) : b.op("Add", [kept, times(g, direction)]);
      const zero = b.scalar(0);
      const back = b.op("Where", [b.op("Less", [way, zero]), b.scalar(-1), zero]);
      const sign = b.op("Where", [b.op("Greater", [way, zero]), b.scalar(1), back]);
      const decayed = shape.length >= 2 ? times(p, keep) : p;
      b.op("Sub", [decayed, times(sign, step)], {}, updatedName(name));
      const left = beta1 === 0 ? kept : times(kept, b.scalar(beta2 / beta1));
      b.op("Add", [left, times(g, memory)], {}, updatedName(m));
    };
  });
}
