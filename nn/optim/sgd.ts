/**
 * Stochastic gradient descent, with momentum where it is not 0 (Polyak, 1964; Nesterov's form as in Sutskever et al.,
 * "On the importance of initialization and momentum", 2013), as PyTorch's SGD computes it: weight decay is added to
 * the gradient, and momentum is a plain sum.
 */

import type { Graph, ValueInfo } from "../onnx/graph.ts";
import { byScalar, type CommonConfig, firstMomentName, updatedName, updateGraph } from "./update.ts";

export interface SgdConfig extends CommonConfig {
  readonly kind: "sgd";
  /** 0 for plain gradient descent, which keeps no state. */
  readonly momentum: number;
  /** Looks ahead by the momentum. */
  readonly nesterov: boolean;
}

/** State of p, with momentum: `m.p`. */
export function sgdGraph(parameters: readonly ValueInfo[], total: number, config: SgdConfig): Graph {
  const { momentum, nesterov, weightDecay } = config;
  return updateGraph("sgd", parameters, total, config, ({ b, rate, scale, f32 }) => {
    const [step, factor] = [f32(rate), f32(scale)];
    const times = (x: string, by: string) => byScalar(b, "Mul", x, by);
    return ({ name, shape, p, g, state }) => {
      const gradient = times(g, factor);
      const decays = shape.length >= 2 && weightDecay !== 0;
      const slope = decays ? b.op("Add", [gradient, times(p, b.scalar(weightDecay))]) : gradient;
      let way = slope;
      if (momentum !== 0) {
        const m = state(firstMomentName);
        const scaled = (value: string) => times(value, b.scalar(momentum));
        const next = b.op("Add", [scaled(m), slope], {}, updatedName(m));
        way = nesterov ? b.op("Add", [slope, scaled(next)]) : next;
      }
      b.op("Sub", [p, times(way, step)], {}, updatedName(name));
    };
  });
}
