/**
 * A graph without 64-bit floats. onnxruntime-web's build with WebGPU has none, not even to cast from; our graphs
 * use them for a few scalars of the optimiser (learning rate, bias correction), where single precision costs a
 * relative error of 1e-7.
 */

import { type DType, Tensor } from "../../../protocols/tensor.ts";
import { DATA_TYPE } from "../../onnx/datatype.ts";
import type { Attribute, Graph, Node } from "../../onnx/graph.ts";

/** The same graph in single precision. Its inputs and outputs are left as they are. */
export function withoutDoubles(graph: Graph): Graph {
  const initializers = [...graph.initializers].map(([name, tensor]) => [name, single(tensor)] as const);
  return { ...graph, initializers: new Map(initializers), nodes: graph.nodes.map(singleNode) };
}

const isDouble = (dtype: DType): boolean => dtype === "f64";

function single(tensor: Tensor): Tensor {
  return isDouble(tensor.dtype) ? Tensor.f32(tensor.shape, Float32Array.from(tensor.f64())) : tensor;
}

/** Attributes that hold a type (`to` of Cast, `dtype` of generators) or a tensor (`value` of constants). */
function singleNode(node: Node): Node {
  const attributes = Object.entries(node.attributes).map(([name, value]): [string, Attribute] => {
    if (value instanceof Tensor) return [name, single(value)];
    const isType = (node.op === "Cast" && name === "to") || name === "dtype";
    return [name, isType && Number(value) === DATA_TYPE.f64 ? DATA_TYPE.f32 : value];
  });
  return { ...node, attributes: Object.fromEntries(attributes) };
}
