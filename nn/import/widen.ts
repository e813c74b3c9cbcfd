/** A model in f16, bf16 or f64 as one in f32: training computes and keeps its state in f32. */

import { type DType, Tensor } from "../../protocols/tensor.ts";
import { DATA_TYPE, dtypeOf } from "../onnx/datatype.ts";
import type { Attribute, Node } from "../onnx/graph.ts";
import { numbersOf } from "../onnx/numbers.ts";
import type { Untyped } from "../passes/fold.ts";

const OTHER_FLOATS: readonly DType[] = ["f16", "bf16", "f64"];
/** Attributes that are a data type. */
const TYPE_ATTRIBUTES = ["to", "dtype"];

export function inSingles(graph: Untyped): Untyped {
  return {
    ...graph,
    inputs: graph.inputs.map((input) =>
      OTHER_FLOATS.includes(input.dtype) ? { ...input, dtype: "f32" } : input,
    ),
    initializers: new Map([...graph.initializers].map(([name, tensor]) => [name, single(tensor)])),
    nodes: graph.nodes.map(singleNode),
  };
}

const single = (tensor: Tensor): Tensor =>
  OTHER_FLOATS.includes(tensor.dtype)
    ? Tensor.f32(tensor.shape, Float32Array.from(numbersOf(tensor)))
    : tensor;

function singleNode(node: Node): Node {
  const entries = Object.entries(node.attributes);
  const changed = entries.map(([name, value]): [string, Attribute] => {
    if (value instanceof Tensor) return [name, single(value)];
    const isType = typeof value === "number" && TYPE_ATTRIBUTES.includes(name);
    const dtype = isType ? dtypeOf(value) : undefined;
    return [name, dtype && OTHER_FLOATS.includes(dtype) ? DATA_TYPE.f32 : value];
  });
  return entries.some(([, value], i) => value !== changed[i]![1])
    ? { ...node, attributes: Object.fromEntries(changed) }
    : node;
}
