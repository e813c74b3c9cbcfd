/** Operators that make tensors out of constants, shapes and indices. */

import { elements, Tensor } from "../../../protocols/tensor.ts";
import { dtypeOf } from "../../onnx/datatype.ts";
import { constantValue, intAttribute, normalAxis } from "../../onnx/shapes.ts";
import { compute, read } from "./ndarray.ts";
import type { Operator, Operators } from "./operator.ts";

const constant: Operator = (call) => [read(constantValue(call.node))];

const constantOfShape: Operator = (call) => {
  const { value } = call.node.attributes;
  const fill = value instanceof Tensor ? read(value) : { dtype: "f32" as const, data: [0] };
  return [compute(fill.dtype, call.numbers(0), () => fill.data[0]!)];
};

const shapeOf: Operator = (call) => {
  const { shape } = call.input(0);
  const start = intAttribute(call.node, "start", 0);
  const dims = shape.slice(start, intAttribute(call.node, "end", shape.length));
  return [compute("i64", [dims.length], (i) => dims[i]!)];
};

const size: Operator = (call) => [compute("i64", [], () => call.input(0).data.length)];

const eyeLike: Operator = (call) => {
  const { dtype, shape } = call.input(0);
  const to = dtypeOf(intAttribute(call.node, "dtype", 0)) ?? dtype;
  const k = intAttribute(call.node, "k", 0);
  const columns = shape[1]!;
  return [compute(to, shape, (i) => Number((i % columns) - Math.floor(i / columns) === k))];
};

/** `values` holds what stands off and on the index; an index counts from the back below zero. */
const oneHot: Operator = (call) => {
  const [indices, values] = [call.input(0), call.input(2)];
  const depth = call.numbers(1)[0]!;
  const axis = normalAxis(intAttribute(call.node, "axis", -1), indices.shape.length + 1);
  const inner = elements(indices.shape.slice(axis));
  const shape = [...indices.shape.slice(0, axis), depth, ...indices.shape.slice(axis)];
  return [
    compute(values.dtype, shape, (i) => {
      const index = indices.data[Math.floor(i / (inner * depth)) * inner + (i % inner)]!;
      const on = Math.floor(i / inner) % depth === (index < 0 ? index + depth : index);
      return values.data[on ? 1 : 0]!;
    }),
  ];
};

export const creation: Operators = {
  Constant: constant,
  ConstantOfShape: constantOfShape,
  Shape: shapeOf,
  Size: size,
  EyeLike: eyeLike,
  OneHot: oneHot,
};
