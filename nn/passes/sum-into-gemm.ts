/**
 * x + Gemm(a, b) becomes Gemm(a, b, x) with beta = 1: the product adds where it writes, and a pass over the sum is
 * saved. Applies where the product has no C and is used once. It is for backward nodes, whose sums are of equal
 * shapes: nothing is broadcast.
 */

import { float, type Node } from "../onnx/graph.ts";

export function sumIntoGemm(nodes: readonly Node[], isOutput: (name: string) => boolean): Node[] {
  const uses = new Map<string, number>();
  for (const node of nodes) for (const input of node.inputs) uses.set(input, (uses.get(input) ?? 0) + 1);
  const products = new Map<string, Node>();
  for (const node of nodes) {
    const output = node.outputs[0]!;
    if (node.op === "Gemm" && !node.inputs[2] && uses.get(output) === 1 && !isOutput(output)) {
      products.set(output, node);
    }
  }
  const absorbed = new Set<Node>();
  const rewritten = nodes.map((node) => {
    if (node.op !== "Add") return node;
    // The later product absorbs the sum, so that a chain of sums becomes a chain of products.
    const product = products.get(node.inputs[1]!) ?? products.get(node.inputs[0]!);
    if (!product) return node;
    const rest = node.inputs.find((input) => input !== product.outputs[0])!;
    absorbed.add(product);
    return {
      ...product,
      inputs: [product.inputs[0]!, product.inputs[1]!, rest],
      outputs: node.outputs,
      attributes: { ...product.attributes, beta: float(1) },
    };
  });
  return rewritten.filter((node) => !absorbed.has(node));
}
