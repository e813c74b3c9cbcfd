/**
 * Shape and type inference: one rule per operator, in tables by family (`shapes/`). Shapes are static, so a rule is arithmetic on
 * numbers. Rules follow the operator definitions of the ONNX specification (opset 20) and, for `FusedMatMul` and
 * the like, ONNX Runtime's contrib operator documentation.
 */

import type { Tensor } from "../../protocols/tensor.ts";
import { type Graph, GraphError, type Node, type ValueType } from "./graph.ts";
import { attentionShapes } from "./shapes/attention.ts";
import { convolutionShapes } from "./shapes/convolution.ts";
import { constantValue, creationShapes } from "./shapes/creation.ts";
import { elementwiseShapes } from "./shapes/elementwise.ts";
import { indexingShapes } from "./shapes/indexing.ts";
import { layoutShapes } from "./shapes/layout.ts";
import { normalisationShapes } from "./shapes/normalisation.ts";
import { productShapes } from "./shapes/products.ts";
import { quantisationShapes } from "./shapes/quantisation.ts";
import { reductionShapes } from "./shapes/reductions.ts";
import { describe, type Rules } from "./shapes/rule.ts";

export { headsOf } from "./shapes/attention.ts";
export { constantValue } from "./shapes/creation.ts";
export { type Cut, padAmounts, sliceCuts } from "./shapes/layout.ts";
export { fusedOperand } from "./shapes/products.ts";
export { reducedAxes } from "./shapes/reductions.ts";
export {
  broadcast,
  describe,
  floatAttribute,
  intAttribute,
  integers,
  intsAttribute,
  normalAxis,
  typeText,
} from "./shapes/rule.ts";

const RULES: Rules = {
  ...elementwiseShapes,
  ...reductionShapes,
  ...productShapes,
  ...layoutShapes,
  ...indexingShapes,
  ...convolutionShapes,
  ...normalisationShapes,
  ...creationShapes,
  ...quantisationShapes,
  ...attentionShapes,
};

/** Every operator whose result has a type that is known. */
export const KNOWN_OPERATORS: readonly string[] = Object.keys(RULES);

/** Types of all values of a graph, by name. */
export function inferShapes(graph: Graph): Map<string, ValueType> {
  const types = new Map<string, ValueType>();
  const constants = new Map(graph.initializers);
  for (const { name, dtype, shape } of graph.inputs) types.set(name, { dtype, shape });
  for (const [name, { dtype, shape }] of graph.initializers) types.set(name, { dtype, shape });
  for (const node of graph.nodes) {
    const inputs = node.inputs.map((name) => (name === "" ? undefined : types.get(name)));
    const missing = node.inputs.find((name, index) => name !== "" && !inputs[index]);
    if (missing) throw new GraphError(`${describe(node)}: input "${missing}" is not defined before it`);
    const outputs = inferNode(node, inputs, (index) => constants.get(node.inputs[index] ?? ""));
    if (node.op === "Constant") constants.set(node.outputs[0]!, constantValue(node));
    node.outputs.forEach((name, index) => {
      if (name !== "") types.set(name, outputs[index]!);
    });
  }
  return types;
}

/**
 * Types of the outputs of one node.
 * @throws GraphError for an operator without a rule, or inputs that do not fit, naming node and shapes.
 */
export function inferNode(
  node: Node,
  inputs: readonly (ValueType | undefined)[],
  constant: (index: number) => Tensor | undefined,
): readonly ValueType[] {
  const rule = RULES[node.op];
  if (!rule) {
    throw new GraphError(
      `${describe(node)}: no shape rule for operator ${node.op}; docs/operators.md lists those that are known`,
    );
  }
  const outputs = rule({
    node,
    input: (index) => {
      const type = inputs[index];
      if (!type) throw new GraphError(`${describe(node)}: input ${index} is missing`);
      return type;
    },
    has: (index) => inputs[index] !== undefined,
    constant,
  });
  if (node.outputs.length > outputs.length) {
    throw new GraphError(`${describe(node)}: ${node.op} has ${outputs.length} outputs here`);
  }
  return outputs;
}
