/** Cases of activations: see operator-cases.ts. */

import { float, MICROSOFT } from "../../../../nn/onnx/graph.ts";
import type { Chance, OperatorCase } from "../operator-cases.ts";

type Maker = (chance: Chance) => OperatorCase;

/** With the defaults of its parameters, or with these. */
const activation =
  (parameters: Readonly<Record<string, number>> = {}): Maker =>
  (c) => {
    const others = Object.entries(parameters).map(([name, value]) => [name, float(value)] as const);
    return { inputs: [c.f32(c.shape(), -5, 5)], attributes: Object.fromEntries(c.pick([], others)) };
  };

/** A bias of the last axis. */
const biased = (optional: boolean): Maker => {
  return (c) => {
    const shape = c.shape();
    const inputs = [c.f32(shape, -3, 3), c.f32(shape.slice(-1))];
    return { domain: MICROSOFT, inputs: optional && c.int(0, 1) ? inputs.slice(0, 1) : inputs };
  };
};

export const ACTIVATION_CASES: Readonly<Record<string, Maker>> = {
  LeakyRelu: activation({ alpha: 0.25 }),
  ThresholdedRelu: activation({ alpha: 0.5 }),
  Elu: activation({ alpha: 0.5 }),
  Celu: activation({ alpha: 2 }),
  Selu: activation({ alpha: 1.5, gamma: 1.25 }),
  HardSigmoid: activation({ alpha: 0.25, beta: 0.75 }),
  HardSwish: activation(),
  Mish: activation(),
  Softplus: activation(),
  Softsign: activation(),
  PRelu: (c) => {
    const shape = c.shape();
    return { inputs: [c.f32(shape), c.f32(c.narrowed(shape), 0, 1)] };
  },
  /** The standard operator in both forms, or ONNX Runtime's own of the same name. */
  Gelu: (c) => ({
    inputs: [c.f32(c.shape(), -6, 6)],
    ...c.pick<Pick<OperatorCase, "domain" | "attributes">>(
      { attributes: { approximate: "none" } },
      { attributes: { approximate: "tanh" } },
      { domain: MICROSOFT },
    ),
  }),
  BiasGelu: biased(false),
  FastGelu: biased(true),
  QuickGelu: (c) => ({ ...activation({ alpha: 1 })(c), domain: MICROSOFT }),
};
