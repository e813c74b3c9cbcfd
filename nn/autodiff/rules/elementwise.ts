/** Gradients of elementwise arithmetic with numpy broadcasting. */

import type { GraphBuilder } from "../../onnx/builder.ts";
import { type BackwardSite, type GradientRule, unbroadcast } from "../rule.ts";

/** A rule of one gradient per input, each of the output's shape and summed back to the input's. */
function broadcasting(
  partials: readonly ((b: GraphBuilder, site: BackwardSite, dy: string) => string)[],
): GradientRule {
  return {
    backward: (site) => {
      const dy = site.gradient(0)!;
      return site.node.inputs.map((input, index) => {
        if (!site.wants(index)) return undefined;
        const partial = partials[index]!(site.builder, site, dy);
        return unbroadcast(site.builder, partial, site.builder.shape(input));
      });
    },
  };
}

const pass = (_: GraphBuilder, __: BackwardSite, dy: string) => dy;
const negate = (b: GraphBuilder, _: BackwardSite, dy: string) => b.op("Neg", [dy]);

/** dy · f′(x) for an operator of one input. */
const unary = (derivative: (b: GraphBuilder, x: string, y: string, dy: string) => string) =>
  broadcasting([(b, { node }, dy) => derivative(b, node.inputs[0]!, node.outputs[0]!, dy)]);

/** 2/√π, the derivative of erf at 0. */
const ERF_SLOPE = 2 / Math.sqrt(Math.PI);

export const elementwiseRules: Readonly<Record<string, GradientRule>> = {
  Identity: broadcasting([pass]),
  Add: broadcasting([pass, pass]),
  Sub: broadcasting([pass, negate]),
  Neg: broadcasting([negate]),
  Mul: broadcasting([
    (b, { node }, dy) => b.op("Mul", [dy, node.inputs[1]!]),
    (b, { node }, dy) => b.op("Mul", [dy, node.inputs[0]!]),
  ]),
  Div: broadcasting([
    (b, { node }, dy) => b.op("Div", [dy, node.inputs[1]!]),
    (b, { node }, dy) => {
      const ratio = b.op("Div", [node.outputs[0]!, node.inputs[1]!]);
      return b.op("Neg", [b.op("Mul", [dy, ratio])]);
    },
  ]),
  Exp: unary((b, _, y, dy) => b.op("Mul", [dy, y])),
  Log: unary((b, x, _, dy) => b.op("Div", [dy, x])),
  Sqrt: unary((b, _, y, dy) => b.op("Div", [b.op("Mul", [dy, b.scalar(0.5)]), y])),
  Tanh: unary((b, _, y, dy) => b.op("Mul", [dy, b.op("Sub", [b.scalar(1), b.op("Mul", [y, y])])])),
  Sigmoid: unary((b, _, y, dy) => b.op("Mul", [dy, b.op("Mul", [y, b.op("Sub", [b.scalar(1), y])])])),
  Relu: unary((b, x, _, dy) => b.op("Where", [b.op("Greater", [x, b.scalar(0)]), dy, b.scalar(0)])),
  Erf: unary((b, x, _, dy) => {
    const bell = b.op("Exp", [b.op("Neg", [b.op("Mul", [x, x])])]);
    return b.op("Mul", [dy, b.op("Mul", [bell, b.scalar(ERF_SLOPE)])]);
  }),

  /**
   * Gelu(x) = x·Φ(x) (Hendrycks and Gimpel, 2016), with the exact Φ. Training shares Φ between forward and
   * backward, since erf is the expensive part: dGelu/dx = Φ + x·φ(x), and x·φ(x) is written with its constant
   * inside the exponent, one pass over the tensor less: x·exp(−x²/2 − ln √2π).
   */
  Gelu: {
    forward: (b, node) => {
      const x = node.inputs[0]!;
      const erf = b.op("Erf", [b.op("Mul", [x, b.scalar(Math.SQRT1_2)])]);
      const phi = b.op("Add", [b.op("Mul", [erf, b.scalar(0.5)]), b.scalar(0.5)]);
      b.op("Mul", [x, phi], {}, node.outputs[0]!);
      return { phi };
    },
    backward: ({ builder: b, node, gradient, saved }) => {
      const x = node.inputs[0]!;
      const exponent = b.op("Mul", [b.op("Mul", [x, x]), b.scalar(-0.5)]);
      const density = b.op("Exp", [b.op("Sub", [exponent, b.scalar(Math.log(Math.sqrt(2 * Math.PI)))])]);
      const slope = b.op("Add", [saved.phi!, b.op("Mul", [density, x])]);
      return [b.op("Mul", [gradient(0)!, slope])];
    },
  },

  /** u·(1 + erf u), what `passes/gelu-between-products` leaves of a Gelu; derivative 1 + erf u + u·(2/√π)·e^(−u²). */
  ErfGate: {
    forward: (b, node) => {
      const u = node.inputs[0]!;
      const gate = b.op("Add", [b.op("Erf", [u]), b.scalar(1)]);
      b.op("Mul", [u, gate], {}, node.outputs[0]!);
      return { gate };
    },
    backward: ({ builder: b, node, gradient, saved }) => {
      const u = node.inputs[0]!;
      const bell = b.op("Exp", [b.op("Sub", [b.scalar(Math.log(ERF_SLOPE)), b.op("Mul", [u, u])])]);
      const slope = b.op("Add", [b.op("Mul", [bell, u]), saved.gate!]);
      return [b.op("Mul", [gradient(0)!, slope])];
    },
  },
};
