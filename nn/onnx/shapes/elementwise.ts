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

const comparison: Rule = (site) => [{ dtype: "bool", shape: elementwise(site)[0]!.shape }];

export const elementwiseShapes: Rules = {
  Identity: same,
  Neg: same,
  Sqrt: same,
  Exp: same,
  Log: same,
  Erf: same,
  Tanh: same,
  Sigmoid: same,
  Relu: same,
  Abs: same,
  Cos: same,
  Sin: same,
  Reciprocal: same,
  Gelu: same,
  ErfGate: same,
  Add: elementwise,
  Sub: elementwise,
  Mul: elementwise,
  Div: elementwise,
  Pow: elementwise,
  Min: elementwise,
  Max: elementwise,
  Sum: elementwise,
  Equal: comparison,
  Less: comparison,
  LessOrEqual: comparison,
  Greater: comparison,
  GreaterOrEqual: comparison,
  Where: ({ node, input }) => {
    const shape = broadcast(input(1).shape, input(2).shape, describe(node));
    return [{ dtype: input(1).dtype, shape: broadcast(input(0).shape, shape, describe(node)) }];
  },
  Cast: ({ node, input }) => {
    const dtype = dtypeOf(intAttribute(node, "to", 0));
    if (!dtype) throw new GraphError(`${describe(node)}: cannot cast to type ${node.attributes.to}`);
    return [{ dtype, shape: input(0).shape }];
  },
};
