/**
 * Gradients of elementwise arithmetic with numpy broadcasting. At a kink the slope is the one PyTorch takes: zero for
 * Abs at 0, shared between equal operands of Min and Max, one at a bound of Clip.
 *
 * A condition reaches the gradient as a factor of zeros and ones, Mul(dy, Cast(condition)): 0.75 of the time of
 * Where(condition, dy, 0) in ONNX Runtime.
 */

import type { GraphBuilder } from "../../onnx/builder.ts";
import { DATA_TYPE } from "../../onnx/datatype.ts";
import { type BackwardSite, FLAT, type GradientRule, unbroadcast } from "../rule.ts";

/** dy · ∂y/∂input, of the output's shape. */
export type Slope = (b: GraphBuilder, site: BackwardSite, dy: string) => string;

/** A rule of one gradient per input, each of the output's shape and summed back to the input's. */
export function broadcasting(partial: (index: number) => Slope): GradientRule {
  return {
    backward: (site) => {
      const dy = site.gradient(0)!;
      return site.node.inputs.map((input, index) => {
        if (!site.wants(index)) return undefined;
        const gradient = partial(index)(site.builder, site, dy);
        return unbroadcast(site.builder, gradient, site.builder.shape(input));
      });
    },
  };
}

/** dy · f′(x) for an operator of one input. */
export const unary = (
  derivative: (b: GraphBuilder, x: string, y: string, dy: string) => string,
): GradientRule => ({
  backward: ({ builder, node, gradient }) => [
    derivative(builder, node.inputs[0]!, node.outputs[0]!, gradient(0)!),
  ],
});

/** A bool as a factor: 1 where it is true, of the element type of `like`. */
export function factor(b: GraphBuilder, condition: string, like: string): string {
  return b.op("Cast", [condition], { to: DATA_TYPE[b.type(like).dtype] });
}

/** dy where the condition holds, elsewhere 0. */
export const masked = (b: GraphBuilder, dy: string, condition: string): string =>
  b.op("Mul", [dy, factor(b, condition, dy)]);

const pass: Slope = (_, __, dy) => dy;
const negate: Slope = (b, _, dy) => b.op("Neg", [dy]);
const pair = (first: Slope, second: Slope) => broadcasting((index) => (index === 0 ? first : second));

/** dy · (1 + sign·x²), the inverse of a slope. */
function overSquare(b: GraphBuilder, x: string, sign: 1 | -1): string {
  return b.op(sign === 1 ? "Add" : "Sub", [b.scalarLike(1, x), b.op("Mul", [x, x])]);
}

/** Operands equal to the result share its gradient evenly. */
const extreme: GradientRule = {
  backward: ({ builder: b, node, gradient, wants }) => {
    const [dy, y] = [gradient(0)!, node.outputs[0]!];
    if (node.inputs.length === 1) return [dy];
    const chosen = node.inputs.map((input) => factor(b, b.op("Equal", [input, y]), dy));
    const share = b.op("Div", [dy, chosen.reduce((sum, one) => b.op("Add", [sum, one]))]);
    return node.inputs.map((input, index) =>
      wants(index) ? unbroadcast(b, b.op("Mul", [share, chosen[index]!]), b.shape(input)) : undefined,
    );
  },
};

/** The gradient of a choice goes where the choice went. */
const chosen = (when: boolean): Slope => {
  return (b, { node }, dy) => {
    const condition = node.inputs[0]!;
    return masked(b, dy, when ? condition : b.op("Not", [condition]));
  };
};

/** A bound has the gradient of what it holds back. */
const heldBack =
  (comparison: "Less" | "Greater"): Slope =>
  (b, { node }, dy) =>
    masked(b, dy, b.op(comparison, [node.inputs[0]!, node.inputs[comparison === "Less" ? 1 : 2]!]));

const cast: GradientRule = {
  backward: ({ builder: b, node, gradient }) => [factor(b, gradient(0)!, node.inputs[0]!)],
};

/** 2/√π, the derivative of erf at 0. */
export const ERF_SLOPE = 2 / Math.sqrt(Math.PI);

export const elementwiseRules: Readonly<Record<string, GradientRule>> = {
  Identity: unary((_, __, ___, dy) => dy),
  Add: broadcasting(() => pass),
  Sum: broadcasting(() => pass),
  Mean: broadcasting(
    () =>
      (b, { node }, dy) =>
        b.op("Mul", [dy, b.scalarLike(1 / node.inputs.length, dy)]),
  ),
  Sub: pair(pass, negate),
  Neg: unary((b, _, __, dy) => b.op("Neg", [dy])),
  Mul: pair(
    (b, { node }, dy) => b.op("Mul", [dy, node.inputs[1]!]),
    (b, { node }, dy) => b.op("Mul", [dy, node.inputs[0]!]),
  ),
  Div: pair(
    (b, { node }, dy) => b.op("Div", [dy, node.inputs[1]!]),
    (b, { node }, dy) => {
      const ratio = b.op("Div", [node.outputs[0]!, node.inputs[1]!]);
      return b.op("Neg", [b.op("Mul", [dy, ratio])]);
    },
  ),
  /** x − q·y with the quotient q cut to a whole number: (x − mod)/y, rounded since that division need not be exact. */
  Mod: {
    limits: "integers",
    ...pair(pass, (b, { node }, dy) => {
      const [x, y] = node.inputs;
      const quotient = b.op("Round", [b.op("Div", [b.op("Sub", [x!, node.outputs[0]!]), y!])]);
      return b.op("Neg", [b.op("Mul", [dy, quotient])]);
    }),
  },
  Abs: unary((b, x, _, dy) => b.op("Mul", [dy, b.op("Sign", [x])])),
  Exp: unary((b, _, y, dy) => b.op("Mul", [dy, y])),
  Log: unary((b, x, _, dy) => b.op("Div", [dy, x])),
  Sqrt: unary((b, _, y, dy) => b.op("Div", [b.op("Mul", [dy, b.scalarLike(0.5, dy)]), y])),
  Reciprocal: unary((b, _, y, dy) => b.op("Neg", [b.op("Mul", [dy, b.op("Mul", [y, y])])])),
  Erf: unary((b, x, _, dy) => {
    const bell = b.op("Exp", [b.op("Neg", [b.op("Mul", [x, x])])]);
    return b.op("Mul", [dy, b.op("Mul", [bell, b.scalarLike(ERF_SLOPE, dy)])]);
  }),

  Sin: unary((b, x, _, dy) => b.op("Mul", [dy, b.op("Cos", [x])])),
  Cos: unary((b, x, _, dy) => b.op("Neg", [b.op("Mul", [dy, b.op("Sin", [x])])])),
  Tan: unary((b, _, y, dy) => b.op("Mul", [dy, overSquare(b, y, 1)])),
  Asin: unary((b, x, _, dy) => b.op("Div", [dy, b.op("Sqrt", [overSquare(b, x, -1)])])),
  Acos: unary((b, x, _, dy) => b.op("Neg", [b.op("Div", [dy, b.op("Sqrt", [overSquare(b, x, -1)])])])),
  Atan: unary((b, x, _, dy) => b.op("Div", [dy, overSquare(b, x, 1)])),
  Sinh: unary((b, x, _, dy) => b.op("Mul", [dy, b.op("Cosh", [x])])),
  Cosh: unary((b, x, _, dy) => b.op("Mul", [dy, b.op("Sinh", [x])])),
  Asinh: unary((b, x, _, dy) => b.op("Div", [dy, b.op("Sqrt", [overSquare(b, x, 1)])])),
  Acosh: unary((b, x, _, dy) => {
    const square = b.op("Sub", [b.op("Mul", [x, x]), b.scalarLike(1, x)]);
    return b.op("Div", [dy, b.op("Sqrt", [square])]);
  }),
  Atanh: unary((b, x, _, dy) => b.op("Div", [dy, overSquare(b, x, -1)])),

  Sign: FLAT,
  Floor: FLAT,
  Ceil: FLAT,
  Round: FLAT,
  Min: extreme,
  Max: extreme,
  Where: broadcasting((index) => chosen(index === 1)),
  /** Inside the bounds, and at them, the result is the input itself. */
  Clip: broadcasting((index) => {
    if (index === 0)
      return (b, { node }, dy) => masked(b, dy, b.op("Equal", [node.inputs[0]!, node.outputs[0]!]));
    return heldBack(index === 1 ? "Less" : "Greater");
  }),
  Cast: { limits: "integers", ...cast },
  CastLike: { limits: "integers", ...cast },
};
