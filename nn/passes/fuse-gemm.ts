/**
 * Products with a matrix become Gemm: the rows of all leading axes are one matrix, the bias is added by the product,
 * and a transposed matrix is a flag of it. ONNX Runtime is fastest with it, and so are the gradient rules: the
 * gradient of a matrix is one product then, over all rows.
 *
 * A product with a transposed batch of matrices (attention's scores) becomes FusedMatMul with the flag for it.
 */

import { elements } from "../../protocols/tensor.ts";
import { float, type Graph, MICROSOFT, type Node } from "../onnx/graph.ts";
import { Pattern } from "./rewrite.ts";

export function fuseGemm(graph: Graph): Graph {
  const pattern = new Pattern(graph);
  const replacements = new Map<Node, Node[]>();
  for (const node of graph.nodes) {
    if (node.op !== "MatMul" || node.domain !== "") continue;
    const [x, w] = node.inputs as [string, string];
    const [from, matrix] = [pattern.shape(x), pattern.shape(w)];
    if (matrix.length === 2 && from.length >= 2) {
      const biased = biasOf(pattern, node.outputs[0]!, matrix[1]!);
      const last = biased?.node ?? node;
      replacements.set(last, product(pattern, x, w, biased?.bias, last.outputs[0]!));
      // The bias may be made after the product, never after the sum.
      if (biased) replacements.set(node, []);
    } else if (matrix.length === from.length && matrix.length > 2) {
      const transpose = pattern.maker(w, "Transpose");
      const perm = transpose?.attributes.perm;
      if (!transpose || !Array.isArray(perm) || !swapsLast(perm)) continue;
      const attributes = { transA: 0, transB: 1, transBatchA: 0, transBatchB: 0, alpha: float(1) };
      const inputs = [x, transpose.inputs[0]!];
      replacements.set(node, [
        { op: "FusedMatMul", domain: MICROSOFT, inputs, outputs: node.outputs, attributes },
      ]);
    }
  }
  return pattern.replaced(replacements);
}

const swapsLast = (perm: readonly number[]) =>
  perm.every((axis, i) => axis === (i < perm.length - 2 ? i : 2 * perm.length - 3 - i));

/** The sum with a vector that alone reads a product, and the vector. */
function biasOf(pattern: Pattern, name: string, width: number): { node: Node; bias: string } | undefined {
  const node = pattern.onlyReader(name);
  if (node?.op !== "Add" || node.domain !== "") return undefined;
  const bias = node.inputs.find((input) => input !== name);
  return bias !== undefined && pattern.shape(bias).join() === String(width) ? { node, bias } : undefined;
}

function product(pattern: Pattern, x: string, w: string, bias: string | undefined, output: string): Node[] {
  const from = pattern.shape(x);
  const width = pattern.shape(w)[1]!;
  const flat = from.length === 2;
  const rows = [elements(from.slice(0, -1)), from.at(-1)!];
  const transpose = pattern.maker(w, "Transpose");
  const [matrix, result] = flat
    ? [x, output]
    : [pattern.fresh(`${output}.rows`), pattern.fresh(`${output}.product`)];
  const gemm: Node = {
    op: "Gemm",
    domain: "",
    inputs: [matrix, transpose?.inputs[0] ?? w, ...(bias === undefined ? [] : [bias])],
    outputs: [result],
    attributes: {
      ...(transpose ? { transB: 1 } : {}),
      alpha: float(1),
      beta: float(bias === undefined ? 0 : 1),
    },
  };
  if (flat) return [gemm];
  const reshape = (input: string, shape: readonly number[], name: string): Node => {
    const inputs = [input, pattern.shapeConstant(shape)];
    return { op: "Reshape", domain: "", inputs, outputs: [name], attributes: {} };
  };
  return [reshape(x, rows, matrix), gemm, reshape(result, [...from.slice(0, -1), width], output)];
}
