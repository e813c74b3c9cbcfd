/**
 * Gelu (Hendrycks and Gimpel, 2016) and its relatives, x times a gate of x. Training shares the gate between forward
 * and backward: its error function or sigmoid is the expensive part.
 */

import type { GraphBuilder } from "../../onnx/builder.ts";
import type { Node } from "../../onnx/graph.ts";
import { floatAttribute } from "../../onnx/shapes.ts";
import type { BackwardSite, GradientRule, Saved } from "../rule.ts";
import { ERF_SLOPE } from "./elementwise.ts";

/** ½(1 + tanh z) = σ(2z) with z = √(2/π)·(x + 0.044715·x³): the factors of x and of x³ in 2z. */
const TANH_LINEAR = 2 * Math.sqrt(2 / Math.PI);
const TANH_CUBIC = TANH_LINEAR * 0.044715;

/** x·Φ(x) with the exact Φ. */
function exactForward(b: GraphBuilder, node: Node): Saved {
  const x = node.inputs[0]!;
  const erf = b.op("Erf", [b.op("Mul", [x, b.scalarLike(Math.SQRT1_2, x)])]);
  const phi = b.op("Add", [b.op("Mul", [erf, b.scalarLike(0.5, x)]), b.scalarLike(0.5, x)]);
  b.op("Mul", [x, phi], {}, node.outputs[0]!);
  return { phi };
}

/**
 * The slope is Φ + x·φ(x), and x·φ(x) is written with its constant inside the exponent, one pass over the tensor less:
 * x·exp(−x²/2 − ln √2π).
 */
function exactBackward({ builder: b, node, gradient, saved }: BackwardSite): string[] {
  const x = node.inputs[0]!;
  const exponent = b.op("Mul", [b.op("Mul", [x, x]), b.scalarLike(-0.5, x)]);
  const shift = b.scalarLike(Math.log(Math.sqrt(2 * Math.PI)), x);
  const density = b.op("Exp", [b.op("Sub", [exponent, shift])]);
  const slope = b.op("Add", [saved.phi!, b.op("Mul", [density, x])]);
  return [b.op("Mul", [gradient(0)!, slope])];
}

/** x·σ(2z): one sigmoid, and no halves to add. */
function tanhForward(b: GraphBuilder, node: Node): Saved {
  const x = node.inputs[0]!;
  const square = b.op("Mul", [x, x]);
  const cubic = b.op("Mul", [square, b.scalarLike(TANH_CUBIC, x)]);
  const inner = b.op("Mul", [x, b.op("Add", [cubic, b.scalarLike(TANH_LINEAR, x)])]);
  const gate = b.op("Sigmoid", [inner]);
  b.op("Mul", [x, gate], {}, node.outputs[0]!);
  return { square, gate };
}

/** The slope is g + y·(1 − g)·(2z)′. */
function tanhBackward({ builder: b, node, gradient, saved }: BackwardSite): string[] {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  const cubic = b.op("Mul", [saved.square!, b.scalarLike(3 * TANH_CUBIC, x)]);
  const inner = b.op("Add", [cubic, b.scalarLike(TANH_LINEAR, x)]);
  return [b.op("Mul", [gradient(0)!, gatedSlope(b, saved.gate!, b.op("Mul", [y, inner]))])];
}

/** g + change·(1 − g). */
function gatedSlope(b: GraphBuilder, gate: string, change: string): string {
  const rest = b.op("Sub", [b.scalarLike(1, gate), gate]);
  return b.op("Add", [gate, b.op("Mul", [change, rest])]);
}

const isTanh = (node: Node) => node.attributes.approximate === "tanh";

export const geluRules: Readonly<Record<string, GradientRule>> = {
  Gelu: {
    spelling: "Φ shared between forward and backward; the tanh form as a sigmoid",
    forward: (b, node) => (isTanh(node) ? tanhForward(b, node) : exactForward(b, node)),
    backward: (site) => (isTanh(site.node) ? tanhBackward(site) : exactBackward(site)),
  },

  /** u·(1 + erf u), what `passes/gelu-between-products` leaves of a Gelu; derivative 1 + erf u + u·(2/√π)·e^(−u²). */
  ErfGate: {
    forward: (b, node) => {
      const u = node.inputs[0]!;
      const gate = b.op("Add", [b.op("Erf", [u]), b.scalarLike(1, u)]);
      b.op("Mul", [u, gate], {}, node.outputs[0]!);
      return { gate };
    },
    backward: ({ builder: b, node, gradient, saved }) => {
      const u = node.inputs[0]!;
      const bell = b.op("Exp", [b.op("Sub", [b.scalarLike(Math.log(ERF_SLOPE), u), b.op("Mul", [u, u])])]);
      const slope = b.op("Add", [b.op("Mul", [bell, u]), saved.gate!]);
      return [b.op("Mul", [gradient(0)!, slope])];
    },
  },

  /** x·σ(αx), also known as Swish and, with α = 1, SiLU: the slope is σ + α·y·(1 − σ). */
  QuickGelu: {
    forward: (b, node) => {
      const x = node.inputs[0]!;
      const alpha = floatAttribute(node, "alpha", 1.702);
      const gate = b.op("Sigmoid", [alpha === 1 ? x : b.op("Mul", [x, b.scalarLike(alpha, x)])]);
      b.op("Mul", [x, gate], {}, node.outputs[0]!);
      return { gate };
    },
    backward: ({ builder: b, node, gradient, saved }) => {
      const y = node.outputs[0]!;
      const alpha = floatAttribute(node, "alpha", 1.702);
      const change = alpha === 1 ? y : b.op("Mul", [y, b.scalarLike(alpha, y)]);
      return [b.op("Mul", [gradient(0)!, gatedSlope(b, saved.gate!, change)])];
    },
  },

  /** ONNX Runtime's Gelu(x + bias). */
  BiasGelu: {
    spelling: "Add, Gelu",
    expand: (b, node) => {
      b.op("Gelu", [b.op("Add", [node.inputs[0]!, node.inputs[1]!])], {}, node.outputs[0]!);
    },
  },

  /** ONNX Runtime's Gelu(x + bias) in the tanh form. */
  FastGelu: {
    spelling: "Add, Gelu",
    expand: (b, node) => {
      const [x, bias] = node.inputs;
      b.op("Gelu", [bias ? b.op("Add", [x!, bias]) : x!], { approximate: "tanh" }, node.outputs[0]!);
    },
  },
};
