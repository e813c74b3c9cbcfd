/**
 * Floating-point operations of one node, multiply and add as two. Only products count: beside them everything else is
 * nothing, or is bound by memory.
 */

import { elements } from "../../protocols/tensor.ts";
import type { Node, ValueType } from "../onnx/graph.ts";
import { fusedOperand, intAttribute } from "../onnx/shapes.ts";

export function nodeFlops(node: Node, types: ReadonlyMap<string, ValueType>): number {
  const shape = (index: number) => types.get(node.inputs[index]!)!.shape;
  const outputs = () => elements(types.get(node.outputs[0]!)!.shape);
  switch (node.op) {
    case "Gemm":
    case "MatMul":
    case "FusedMatMul":
    case "MatMulInteger":
    case "MatMulNBits": {
      const flag = (name: string) => intAttribute(node, name, 0) === 1;
      const inner = fusedOperand(shape(0), flag("transA"), flag("transBatchA")).at(-1)!;
      return 2 * outputs() * inner;
    }
    case "Conv":
      // [out, in / groups, ...kernel]: every output is the sum of in / groups · kernel products.
      return 2 * outputs() * elements(shape(1).slice(1));
    case "ConvTranspose":
      // [in, out / groups, ...kernel]: every input is spread over out / groups · kernel outputs.
      return 2 * elements(shape(0)) * elements(shape(1).slice(1));
    case "Einsum":
      return einsumFlops(
        node,
        node.inputs.map((_, i) => shape(i)),
      );
    case "Attention":
    case "MultiHeadAttention":
    case "GroupQueryAttention":
      return attentionFlops(node, types);
    default:
      return 0;
  }
}

/** Every combination of all labels is one product of the operands. */
function einsumFlops(node: Node, shapes: readonly (readonly number[])[]): number {
  if (shapes.length < 2) return 0;
  const terms = `${node.attributes.equation}`.replaceAll(" ", "").split("->")[0]!.split(",");
  const sizes = new Map<string, number>();
  terms.forEach((term, i) => {
    const labels = term.replace("...", "").length;
    // Dimensions under an ellipsis are labelled from its end.
    const hidden = Array.from(
      { length: shapes[i]!.length - labels },
      (_, k) => `${k - shapes[i]!.length + labels}`,
    );
    const names = term.includes("...")
      ? [...term.split("...")[0]!, ...hidden, ...term.split("...")[1]!]
      : [...term];
    names.forEach((name, axis) => {
      sizes.set(name, Math.max(sizes.get(name) ?? 1, shapes[i]![axis]!));
    });
  });
  return 2 * [...sizes.values()].reduce((product, size) => product * size, 1);
}

/** Scores and their mix of values: two products over all pairs of positions. Projections inside it are left out. */
function attentionFlops(node: Node, types: ReadonlyMap<string, ValueType>): number {
  const query = types.get(node.inputs[0]!)?.shape;
  const key = types.get(node.inputs[1] ?? "")?.shape;
  if (!query || !key || key.length < 3) return 0;
  return 4 * elements(query) * key.at(-2)!;
}
