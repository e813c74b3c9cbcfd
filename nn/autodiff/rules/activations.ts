/**
 * Gradients of activations. Where the result tells the slope, the result is read and not the input: it is needed by
 * the next layer anyway, so the input need not be kept.
 */

import type { GraphBuilder } from "../../onnx/builder.ts";
import { float, type Node } from "../../onnx/graph.ts";
import { floatAttribute } from "../../onnx/shapes.ts";
import { type GradientRule, unbroadcast } from "../rule.ts";
import { factor, masked, unary } from "./elementwise.ts";

/** dy · slope, and attributes with their defaults. */
const sloped = (
  slope: (
    b: GraphBuilder,
    x: string,
    y: string,
    attribute: (name: string, fallback: number) => number,
  ) => string,
): GradientRule => ({
  backward: ({ builder: b, node, gradient }) => {
    const attribute = (name: string, fallback: number) => floatAttribute(node, name, fallback);
    return [b.op("Mul", [gradient(0)!, slope(b, node.inputs[0]!, node.outputs[0]!, attribute)])];
  },
});

/** 1 where `condition` is true and `otherwise` where it is false. */
const oneOr = (b: GraphBuilder, condition: string, otherwise: string): string =>
  b.op("Where", [condition, b.scalarLike(1, otherwise), otherwise]);

const positive = (b: GraphBuilder, x: string) => b.op("Greater", [x, b.scalarLike(0, x)]);

/** x where it is negative, and 0 elsewhere. */
const below = (b: GraphBuilder, x: string) => b.op("Min", [x, b.scalarLike(0, x)]);

/** c·x, without the product where c is 1. */
const times = (b: GraphBuilder, x: string, c: number) => (c === 1 ? x : b.op("Mul", [x, b.scalarLike(c, x)]));

const plus = (b: GraphBuilder, x: string, c: number) => b.op("Add", [x, b.scalarLike(c, x)]);

/** 1 − x. */
const rest = (b: GraphBuilder, x: string) => b.op("Sub", [b.scalarLike(1, x), x]);

/** Strictly between low and high. */
function between(b: GraphBuilder, x: string, low: number, high: number): string {
  const above = b.op("Greater", [x, b.scalarLike(low, x)]);
  return b.op("And", [above, b.op("Less", [x, b.scalarLike(high, x)])]);
}

/** Where e²ˣ is still finite, and tanh(softplus x) is 1 to the last digit. */
const mishBound = (b: GraphBuilder, x: string) => (b.type(x).dtype === "f16" ? 5 : 20);

const hardSigmoid = (node: Node) => ({
  alpha: floatAttribute(node, "alpha", 0.2),
  beta: floatAttribute(node, "beta", 0.5),
});

export const activationRules: Readonly<Record<string, GradientRule>> = {
  Tanh: sloped((b, _, y) => rest(b, b.op("Mul", [y, y]))),
  Sigmoid: sloped((b, _, y) => b.op("Mul", [y, rest(b, y)])),
  Softplus: sloped((b, x) => b.op("Sigmoid", [x])),
  /** x/(1 + |x|) has the slope (1 − |y|)². */
  Softsign: sloped((b, _, y) => {
    const root = rest(b, b.op("Abs", [y]));
    return b.op("Mul", [root, root]);
  }),

  Relu: unary((b, _, y, dy) => masked(b, dy, positive(b, y))),
  /** The slope is the larger of the condition and a leak below 1: 0.77 of the time of a Where. */
  LeakyRelu: sloped((b, x, _, attribute) => {
    const alpha = attribute("alpha", 0.01);
    const [leak, above] = [b.scalarLike(alpha, x), positive(b, x)];
    return alpha >= 0 && alpha <= 1 ? b.op("Max", [factor(b, above, x), leak]) : oneOr(b, above, leak);
  }),
  ThresholdedRelu: unary((b, _, y, dy) =>
    masked(b, dy, b.op("Not", [b.op("Equal", [y, b.scalarLike(0, y)])])),
  ),
  /** α(eˣ − 1) below zero has the slope y + α, which is 1 at zero when α is: 0.6 of the time of a Where. */
  Elu: sloped((b, _, y, attribute) => {
    const alpha = attribute("alpha", 1);
    return alpha === 1 ? plus(b, below(b, y), 1) : oneOr(b, positive(b, y), plus(b, y, alpha));
  }),
  Selu: sloped((b, _, y, attribute) => {
    const [alpha, gamma] = [attribute("alpha", 1.6732632), attribute("gamma", 1.050701)];
    return b.op("Where", [positive(b, y), b.scalarLike(gamma, y), plus(b, y, alpha * gamma)]);
  }),
  /** α(e^(x/α) − 1) below zero has the slope y/α + 1, which is 1 at zero. */
  Celu: sloped((b, _, y, attribute) => {
    return plus(b, times(b, below(b, y), 1 / attribute("alpha", 1)), 1);
  }),
  HardSigmoid: {
    backward: ({ builder: b, node, gradient }) => {
      const inside = between(b, node.outputs[0]!, 0, 1);
      return [times(b, masked(b, gradient(0)!, inside), hardSigmoid(node).alpha)];
    },
  },
  /** x·h(x) with h = clip(x/6 + 1/2, 0, 1): the slope is h + x·h′. */
  HardSwish: {
    forward: (b, node) => {
      const x = node.inputs[0]!;
      const gate = b.op("HardSigmoid", [x], { alpha: float(1 / 6), beta: float(0.5) });
      b.op("Mul", [x, gate], {}, node.outputs[0]!);
      return { gate };
    },
    backward: ({ builder: b, node, gradient, saved }) => {
      const sixth = times(b, node.inputs[0]!, 1 / 6);
      const slope = b.op("Add", [saved.gate!, masked(b, sixth, between(b, saved.gate!, 0, 1))]);
      return [b.op("Mul", [gradient(0)!, slope])];
    },
  },
  /**
   * x·tanh(softplus x) (Misra, 2019): with t the tanh, the slope is t + x·(1 − t²)·σ(x). With e = eˣ and n = e(e + 2) the
   * tanh is n/(n + 2), without the logarithm, which takes ONNX Runtime 4 times as long; above 20 it is 1.
   */
  Mish: {
    spelling: "Exp and Div, without a logarithm",
    forward: (b, node) => {
      const x = node.inputs[0]!;
      const e = b.op("Exp", [b.op("Min", [x, b.scalarLike(mishBound(b, x), x)])]);
      const n = b.op("Mul", [e, plus(b, e, 2)]);
      const t = b.op("Div", [n, plus(b, n, 2)]);
      b.op("Mul", [x, t], {}, node.outputs[0]!);
      return { t };
    },
    backward: ({ builder: b, node, gradient, saved }) => {
      const [x, t] = [node.inputs[0]!, saved.t!];
      const inner = b.op("Mul", [rest(b, b.op("Mul", [t, t])), b.op("Sigmoid", [x])]);
      return [b.op("Mul", [gradient(0)!, b.op("Add", [t, b.op("Mul", [x, inner])])])];
    },
  },
  PRelu: {
    backward: ({ builder: b, node, gradient, wants }) => {
      const [dy, x, slope] = [gradient(0)!, node.inputs[0]!, node.inputs[1]!];
      const dx = () => b.op("Where", [positive(b, x), dy, b.op("Mul", [dy, slope])]);
      const dSlope = () => b.op("Mul", [dy, below(b, x)]);
      return [wants(0) ? dx() : undefined, wants(1) ? unbroadcast(b, dSlope(), b.shape(slope)) : undefined];
    },
  },
};
