/** Where a graph multiplies by a weight matrix, whichever of its operators does it. */

import { float, type Graph, type Node } from "../onnx/graph.ts";
import { floatAttribute, inferShapes, intAttribute, intsAttribute } from "../onnx/shapes.ts";

/** A product x·W′ (+ C), where W′ [in, out] is the weight or its transpose. */
export interface WeightProduct {
  readonly node: Node;
  /** The graph's input that holds the matrix. */
  readonly weight: string;
  /** Sizes of W′. */
  readonly from: number;
  readonly to: number;
  /** The weight is kept [out, in]. */
  readonly transposed: boolean;
  /** What x·W′ is multiplied by. */
  readonly alpha: number;
}

const PRODUCTS: ReadonlySet<string> = new Set(["Gemm", "MatMul", "FusedMatMul"]);
/** Between a weight and its product: changes of element type, and of what its axes are called. */
const WAYS: ReadonlySet<string> = new Set(["Cast", "DequantizeLinear", "Identity", "Transpose"]);

export interface WeightProducts {
  /** In the graph's order. */
  readonly products: readonly WeightProduct[];
  /** Matrices that are multiplied in another form than x·W′, with a node that does it. */
  readonly others: ReadonlyMap<string, Node>;
}

/** All products by matrices that are among `weights`. */
export function weightProducts(graph: Graph, weights: ReadonlySet<string>): WeightProducts {
  const types = inferShapes(graph);
  const producers = new Map(graph.nodes.flatMap((node) => node.outputs.map((output) => [output, node])));
  const traced = (name: string): { weight: string; transposed: boolean } | undefined => {
    if (weights.has(name)) return { weight: name, transposed: false };
    const node = producers.get(name);
    if (!node || !WAYS.has(node.op)) return undefined;
    const source = traced(node.inputs[0]!);
    if (!source || node.op !== "Transpose") return source;
    const swapped = (intsAttribute(node, "perm") ?? [1, 0]).join() === "1,0";
    return swapped ? { ...source, transposed: !source.transposed } : source;
  };
  const products: WeightProduct[] = [];
  const others = new Map<string, Node>();
  for (const node of graph.nodes) {
    if (!PRODUCTS.has(node.op)) continue;
    const flag = (name: string) => intAttribute(node, name, 0) === 1;
    const [left, right] = [traced(node.inputs[0]!), traced(node.inputs[1]!)];
    if (left || flag("transA") || flag("transBatchA") || flag("transBatchB")) {
      for (const side of [left, right]) if (side) others.set(side.weight, node);
    } else if (right) {
      const transposed = right.transposed !== flag("transB");
      const [rows, columns] = types.get(right.weight)!.shape as [number, number];
      const [from, to] = transposed ? [columns, rows] : [rows, columns];
      products.push({
        node,
        weight: right.weight,
        from,
        to,
        transposed,
        alpha: floatAttribute(node, "alpha", 1),
      });
    }
  }
  return { products, others };
}

/** x·Mᵀ for M [out, in], scaled and added to `sum` where there is one: a Gemm. */
export const transposedProduct = (
  x: string,
  matrix: string,
  output: string,
  scale = 1,
  sum?: string,
): Node => ({
  op: "Gemm",
  domain: "",
  inputs: sum === undefined ? [x, matrix] : [x, matrix, sum],
  outputs: [output],
  attributes: { transB: 1, alpha: float(scale), beta: float(sum === undefined ? 0 : 1) },
});
