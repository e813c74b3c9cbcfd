/** The small graphs that the engine contract runs; browsers run some of them too. */

import type { Graph, Node, ValueInfo } from "../../nn/onnx/graph.ts";
import type { DType, Shape } from "../../protocols/tensor.ts";

export const value = (name: string, dtype: DType, shape: Shape): ValueInfo => ({ name, dtype, shape });
export const Y2 = value("y", "f32", [2]);

/** A node from x0, x1, … to y. */
export function node(op: string, inputs: number, attributes: Node["attributes"] = {}, domain = ""): Node {
  return {
    op,
    domain,
    inputs: Array.from({ length: inputs }, (_, i) => `x${i}`),
    outputs: ["y"],
    attributes,
  };
}

export function graphOf(
  nodes: readonly Node[],
  inputs: readonly ValueInfo[],
  outputs: readonly ValueInfo[],
): Graph {
  return { name: "contract", inputs, outputs, initializers: new Map(), nodes };
}

/** y = a + b on [2,2]. */
export const ADD = graphOf(
  [{ ...node("Add", 2), inputs: ["a", "b"] }],
  [value("a", "f32", [2, 2]), value("b", "f32", [2, 2])],
  [value("y", "f32", [2, 2])],
);

/** y = p − lr·g on [2]. */
export const SGD = graphOf(
  [
    { ...node("Mul", 2), inputs: ["lr", "g"], outputs: ["step"] },
    { ...node("Sub", 2), inputs: ["p", "step"] },
  ],
  [value("p", "f32", [2]), value("g", "f32", [2]), value("lr", "f32", [])],
  [Y2],
);
