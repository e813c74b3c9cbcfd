/**
 * The gradient of x^p. ONNX Runtime's Pow costs 7 to 10 times a product, whatever the exponent but 2 and 3 (measured on
 * [512, 1024], and 9 times a Sqrt for 0.5), so common constant exponents are written as what they are, and others
 * share one Pow between forward and backward.
 */

import type { GraphBuilder } from "../../onnx/builder.ts";
import { DATA_TYPE } from "../../onnx/datatype.ts";
import type { Node } from "../../onnx/graph.ts";
import { type BackwardSite, type GradientRule, type Saved, unbroadcast } from "../rule.ts";

type Write = (b: GraphBuilder, x: string, output?: string) => string;

/** x^p for exponents that are cheaper otherwise. */
const SPELLINGS: ReadonlyMap<number, Write> = new Map<number, Write>([
  [-2, (b, x, y) => b.op("Reciprocal", [b.op("Mul", [x, x])], {}, y)],
  [-1, (b, x, y) => b.op("Reciprocal", [x], {}, y)],
  [-0.5, (b, x, y) => b.op("Reciprocal", [b.op("Sqrt", [x])], {}, y)],
  [0.5, (b, x, y) => b.op("Sqrt", [x], {}, y)],
  [1, (b, x, y) => (y ? b.op("Identity", [x], {}, y) : x)],
  [1.5, (b, x, y) => b.op("Mul", [x, b.op("Sqrt", [x])], {}, y)],
  [2, (b, x, y) => b.op("Mul", [x, x], {}, y)],
  [3, (b, x, y) => b.op("Mul", [x, b.op("Mul", [x, x])], {}, y)],
]);

/** The exponent when it is one constant number. */
function constantExponent(b: GraphBuilder, node: Node): number | undefined {
  const numbers = b.constantNumbers(node.inputs[1]);
  const widens = b.shape(node.inputs[1]!).length > b.shape(node.inputs[0]!).length;
  return numbers?.length === 1 && !widens ? numbers[0] : undefined;
}

function power(b: GraphBuilder, x: string, exponent: number, output?: string): string {
  const spelling = SPELLINGS.get(exponent);
  return spelling ? spelling(b, x, output) : b.op("Pow", [x, b.scalarLike(exponent, x)], {}, output);
}

/** dy·p·x^(p−1) and dy·y·ln x, with zero where PyTorch has zero: at p = 0, and for the exponent at x = 0. */
function generalGradients({ builder: b, node, gradient, wants }: BackwardSite): (string | undefined)[] {
  const [dy, x, y] = [gradient(0)!, node.inputs[0]!, node.outputs[0]!];
  const p = exponentLike(b, node);
  const zero = b.scalarLike(0, x);
  const dBase = () => {
    const slope = b.op("Mul", [p, b.op("Pow", [x, b.op("Sub", [p, b.scalarLike(1, p)])])]);
    return b.op("Where", [b.op("Equal", [p, zero]), zero, b.op("Mul", [dy, slope])]);
  };
  const dExponent = () => {
    const flat = b.op("And", [b.op("Equal", [x, zero]), b.op("GreaterOrEqual", [p, zero])]);
    const slope = b.op("Where", [flat, zero, b.op("Mul", [y, b.op("Log", [x])])]);
    return b.op("Mul", [dy, slope]);
  };
  return [
    wants(0) ? unbroadcast(b, dBase(), b.shape(x)) : undefined,
    wants(1) ? unbroadcast(b, dExponent(), b.shape(p)) : undefined,
  ];
}

/** The exponent in the type of the base. */
function exponentLike(b: GraphBuilder, node: Node): string {
  const { dtype } = b.type(node.inputs[0]!);
  const p = node.inputs[1]!;
  return b.type(p).dtype === dtype ? p : b.op("Cast", [p], { to: DATA_TYPE[dtype] });
}

export const powerRules: Readonly<Record<string, GradientRule>> = {
  Pow: {
    spelling: "products, Sqrt or Reciprocal for common constant exponents",
    forward: (b, node): Saved => {
      const [x, y] = [node.inputs[0]!, node.outputs[0]!];
      const p = constantExponent(b, node);
      if (p === undefined) {
        b.append(node);
        return {};
      }
      // Above 1, x·x^(p−1) is right at zero too, and the gradient wants the second factor.
      if (SPELLINGS.has(p) || p <= 1) return { y: power(b, x, p, y) };
      const lower = power(b, x, p - 1);
      return { lower, y: b.op("Mul", [x, lower], {}, y) };
    },
    backward: (site) => {
      const { builder: b, node, gradient, saved } = site;
      const p = constantExponent(b, node);
      if (p === undefined) return generalGradients(site);
      const [dy, x] = [gradient(0)!, node.inputs[0]!];
      if (p === 1) return [dy];
      const scaled = b.op("Mul", [dy, b.scalarLike(p, dy)]);
      if (p === 0.5) return [b.op("Div", [scaled, saved.y!])];
      return [b.op("Mul", [scaled, saved.lower ?? power(b, x, p - 1)])];
    },
  },
};
