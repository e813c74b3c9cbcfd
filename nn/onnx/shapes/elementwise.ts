/** Shapes of elementwise operators, with numpy broadcasting. */

import { dtypeOf } from "../datatype.ts";
import { GraphError } from "../graph.ts";
import { broadcast, describe, intAttribute, type Rule, type Rules, same } from "./rule.ts";

const elementwise: Rule = ({ node, input }) => {
  let { dtype, shape } = input(0);
  for (let i = 1; i < node.inputs.length; i++) {
    const other = input(i);
    if (other.dtype !== dtype)
      throw new GraphError(`${describe(node)}: ${dtype} and ${other.dtype} do not mix`);
    shape = broadcast(shape, other.shape, describe(node));
  }
  return [{ dtype, shape }];
};

/** A truth value for every element. */
const truth: Rule = (site) => [{ dtype: "bool", shape: elementwise(site)[0]!.shape }];

/** The second input stretches to the first and not the other way round. */
const oneWay: Rule = (site) => {
  const { node, input } = site;
  const [type] = elementwise(site);
  if (type!.shape.join() !== input(0).shape.join()) {
    throw new GraphError(`${describe(node)}: [${input(1).shape}] does not stretch to [${input(0).shape}]`);
  }
  return [type!];
};

/** Operators of one input whose result has its type. */
const UNARY = [
  ...["Identity", "Neg", "Abs", "Exp", "Log", "Sqrt", "Reciprocal", "Erf"],
  ...["Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"],
  ...["Sign", "Floor", "Ceil", "Round", "Not"],
  ...["Tanh", "Sigmoid", "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu"],
  ...["HardSigmoid", "HardSwish", "Mish", "Softplus", "Softsign", "Gelu", "QuickGelu", "ErfGate"],
];

export const elementwiseShapes: Rules = {
  ...Object.fromEntries(UNARY.map((op) => [op, same])),
  Add: elementwise,
  Sub: elementwise,
  Mul: elementwise,
  Div: elementwise,
  Mod: elementwise,
  Min: elementwise,
  Max: elementwise,
  Sum: elementwise,
  Mean: elementwise,
  And: elementwise,
  Or: elementwise,
  Xor: elementwise,
  Equal: truth,
  Less: truth,
  LessOrEqual: truth,
  Greater: truth,
  GreaterOrEqual: truth,
  IsNaN: truth,
  IsInf: truth,
  PRelu: oneWay,
  BiasGelu: oneWay,
  FastGelu: (site) => (site.has(1) ? oneWay(site) : same(site)),
  /** The exponent may be of another type than the base. */
  Pow: ({ node, input }) => {
    const { dtype, shape } = input(0);
    return [{ dtype, shape: broadcast(shape, input(1).shape, describe(node)) }];
  },
  Clip: ({ node, input, has }) => {
    for (const bound of [1, 2]) {
      if (!has(bound) || (input(bound).dtype === input(0).dtype && input(bound).shape.length === 0)) continue;
      const { dtype, shape } = input(bound);
      throw new GraphError(
        `${describe(node)}: bound ${dtype}[${shape}] is no scalar of type ${input(0).dtype}`,
      );
    }
    return [input(0)];
  },
  Where: ({ node, input }) => {
    const { dtype } = input(1);
    if (input(2).dtype !== dtype) {
      throw new GraphError(`${describe(node)}: ${dtype} and ${input(2).dtype} do not mix`);
    }
    const shape = broadcast(input(1).shape, input(2).shape, describe(node));
    return [{ dtype, shape: broadcast(input(0).shape, shape, describe(node)) }];
  },
  Cast: ({ node, input }) => {
    const dtype = dtypeOf(intAttribute(node, "to", 0));
    if (!dtype) throw new GraphError(`${describe(node)}: cannot cast to type ${node.attributes.to}`);
    return [{ dtype, shape: input(0).shape }];
  },
  CastLike: ({ input }) => [{ dtype: input(1).dtype, shape: input(0).shape }],
};
