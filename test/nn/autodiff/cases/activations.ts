/** Cases of the rules of activations: see rule-cases.ts. */

import { float, MICROSOFT } from "../../../../nn/onnx/graph.ts";
import type { Chance } from "../../engine/operator-cases.ts";
import type { RuleCase } from "../rule-cases.ts";
import { away, unary } from "./elementwise.ts";

type Maker = (chance: Chance) => RuleCase;

/** Away from kinks, with the default of the parameter or with another. */
const parameter =
  (name: string, other: number, make: Maker = away(3)): Maker =>
  (c) => ({ ...make(c), attributes: c.int(0, 1) ? { [name]: float(other) } : {} });

const biased: Maker = (c) => {
  const shape = c.shape();
  return { domain: MICROSOFT, inputs: [c.f32(shape), c.f32(shape.slice(-1))] };
};

export const ACTIVATION_RULE_CASES: Readonly<Record<string, Maker>> = {
  Gelu: (c) => ({ ...unary(-4, 4)(c), attributes: { approximate: c.pick("none", "tanh") } }),
  LeakyRelu: (c) => parameter("alpha", c.pick(0.25, -0.5, 1.5))(c),
  ThresholdedRelu: parameter("alpha", 2, away(1)),
  Elu: parameter("alpha", 0.5),
  Celu: parameter("alpha", 2),
  Selu: parameter("gamma", 1.5),
  HardSigmoid: parameter("alpha", 0.25, (c) => away(0.5)(c)),
  HardSwish: away(3, 6),
  Mish: unary(-4, 4),
  Softplus: unary(-4, 4),
  Softsign: unary(),
  PRelu: (c) => {
    const x = away(3)(c).inputs[0]!;
    return { inputs: [x, c.f32(c.narrowed(x.shape), 0, 1)] };
  },
  BiasGelu: biased,
  FastGelu: (c) => ({ ...biased(c), inputs: biased(c).inputs.slice(0, c.int(1, 2)) }),
  QuickGelu: (c) => ({ ...parameter("alpha", 1, unary(-4, 4))(c), domain: MICROSOFT }),
};
