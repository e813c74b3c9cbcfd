/** Shapes of operators that make tensors out of constants and shapes. */

import { Tensor } from "../../../protocols/tensor.ts";
import { dtypeOf } from "../datatype.ts";
import { GraphError, type Node } from "../graph.ts";
import { constantInts, constantNumber, describe, intAttribute, normalAxis, type Rules } from "./rule.ts";

/**
 * The tensor that a Constant node holds.
 * @throws GraphError for one that is given as a string or a sparse tensor.
 */
export function constantValue(node: Node): Tensor {
  const { value, value_int, value_ints, value_float } = node.attributes;
  if (value instanceof Tensor) return value;
  if (typeof value_int === "number") return Tensor.i64([], [value_int]);
  if (Array.isArray(value_ints)) return Tensor.i64([value_ints.length], value_ints);
  if (typeof value_float === "object" && "float" in value_float) return Tensor.f32([], [value_float.float]);
  throw new GraphError(`${describe(node)}: a Constant is known as a tensor, integers or a float only`);
}

export const creationShapes: Rules = {
  Constant: ({ node }) => [constantValue(node)],
  Range: ({ node, input, constant }) => {
    const [start, limit, delta] = [0, 1, 2].map((index) => constantNumber(node, constant, index));
    return [{ dtype: input(0).dtype, shape: [Math.max(0, Math.ceil((limit! - start!) / delta!))] }];
  },
  Shape: ({ node, input }) => {
    const { shape } = input(0);
    const end = intAttribute(node, "end", shape.length);
    return [{ dtype: "i64", shape: [shape.slice(intAttribute(node, "start", 0), end).length] }];
  },
  Size: ({ input }) => {
    input(0);
    return [{ dtype: "i64", shape: [] }];
  },
  ConstantOfShape: ({ node, constant }) => {
    const value = node.attributes.value;
    const dtype = value instanceof Tensor ? value.dtype : "f32";
    return [{ dtype, shape: constantInts(node, constant, 0) }];
  },
  EyeLike: ({ node, input }) => {
    const { dtype, shape } = input(0);
    if (shape.length !== 2) throw new GraphError(`${describe(node)}: [${shape}] is no matrix`);
    const to = "dtype" in node.attributes ? dtypeOf(intAttribute(node, "dtype", 0)) : dtype;
    if (!to) throw new GraphError(`${describe(node)}: no element type ${node.attributes.dtype}`);
    return [{ dtype: to, shape }];
  },
  OneHot: ({ node, input, constant }) => {
    const { shape } = input(0);
    const depth = constantNumber(node, constant, 1);
    const axis = normalAxis(intAttribute(node, "axis", -1), shape.length + 1);
    return [{ dtype: input(2).dtype, shape: [...shape.slice(0, axis), depth, ...shape.slice(axis)] }];
  },
};
