/** Gradients of operators that move elements: reshapes, permutations, lookups. */

import { elements } from "../../../protocols/tensor.ts";
import { GraphError } from "../../onnx/graph.ts";
import { describe, intAttribute, intsAttribute, normalAxis } from "../../onnx/shapes.ts";
import { type GradientRule, unbroadcast } from "../rule.ts";

/** The gradient has the input's elements in the same order, so it is reshaped back. */
const reshaped: GradientRule = {
  backward: ({ builder: b, node, gradient }) => [
    b.op("Reshape", [gradient(0)!, b.ints(b.shape(node.inputs[0]!))]),
  ],
};

export const shapeRules: Readonly<Record<string, GradientRule>> = {
  Reshape: reshaped,
  Squeeze: reshaped,
  Unsqueeze: reshaped,

  Transpose: {
    backward: ({ builder: b, node, gradient }) => {
      const rank = b.shape(node.inputs[0]!).length;
      const perm = intsAttribute(node, "perm") ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
      return [b.op("Transpose", [gradient(0)!], { perm: perm.map((_, i) => perm.indexOf(i)) })];
    },
  },

  Expand: {
    backward: ({ builder: b, node, gradient }) => [unbroadcast(b, gradient(0)!, b.shape(node.inputs[0]!))],
  },

  /**
   * Lookup in a table [V, …] along its first axis (embedding). Rows of the gradient are added where they were
   * read: cost grows with the rows read, not with V, unlike a one-hot product.
   */
  Gather: {
    backward: ({ builder: b, node, gradient }) => {
      const [table, indices] = [node.inputs[0]!, node.inputs[1]!];
      const shape = b.shape(table);
      if (normalAxis(intAttribute(node, "axis", 0), shape.length) !== 0) {
        throw new GraphError(`${describe(node)}: the gradient of Gather is known for axis 0 only`);
      }
      const rows = elements(b.shape(indices));
      const zeros = b.op("ConstantOfShape", [b.ints(shape)]);
      const at = b.op("Reshape", [indices, b.ints([rows, 1])]);
      const updates = b.op("Reshape", [gradient(0)!, b.ints([rows, ...shape.slice(1)])]);
      return [b.op("ScatterND", [zeros, at, updates], { reduction: "add" }), undefined];
    },
  },

  Concat: {
    backward: ({ builder: b, node, gradient }) => {
      const axis = intAttribute(node, "axis", 0);
      const sizes = node.inputs.map((input) => b.shape(input).at(axis)!);
      const outputs = node.inputs.map(() => b.fresh("Split"));
      return b.node("Split", [gradient(0)!, b.ints(sizes)], { attributes: { axis }, outputs });
    },
  },

  Split: {
    backward: ({ builder: b, node, gradient }) => {
      const parts = node.outputs.map((output, i) => {
        return gradient(i) ?? b.op("ConstantOfShape", [b.ints(b.shape(output))]);
      });
      return [b.op("Concat", parts, { axis: intAttribute(node, "axis", 0) })];
    },
  },
};
