/** Shapes of operators that make tensors out of constants and shapes. */

import { Tensor } from "../../../protocols/tensor.ts";
import { GraphError } from "../graph.ts";
import { constantInts, constantNumber, describe, intAttribute, type Rules } from "./rule.ts";

export const creationShapes: Rules = {
  Constant: ({ node }) => {
    const { value } = node.attributes;
    if (value instanceof Tensor) return [value];
    throw new GraphError(`${describe(node)}: a Constant is known with the attribute value, a tensor, only`);
  },
  Range: ({ node, input, constant }) => {
    const [start, limit, delta] = [0, 1, 2].map((index) => constantNumber(node, constant, index));
    return [{ dtype: input(0).dtype, shape: [Math.max(0, Math.ceil((limit! - start!) / delta!))] }];
  },
  Shape: ({ node, input }) => {
    const { shape } = input(0);
    const end = intAttribute(node, "end", shape.length);
    return [{ dtype: "i64", shape: [shape.slice(intAttribute(node, "start", 0), end).length] }];
  },
  ConstantOfShape: ({ node, constant }) => {
    const value = node.attributes.value;
    const dtype = value instanceof Tensor ? value.dtype : "f32";
    return [{ dtype, shape: constantInts(node, constant, 0) }];
  },
};
