/**
 * Products with a matrix become Gemm: the rows of all leading axes are one matrix, the bias is added by the product,
 * and a transposed matrix is a flag of it. ONNX Runtime is fastest with it, and so are the gradient rules: the
 * gradient of a matrix is one product then, over all rows.
 *
 * Products of two batches of matrices (attention) take transposes and scalar factors as attributes of FusedMatMul, and
 * of a transpose what is left moves whole rows.
 */

import { elements } from "../../protocols/tensor.ts";
import { float, type Graph, MICROSOFT, type Node } from "../onnx/graph.ts";
import { Pattern } from "./rewrite.ts";

export function fuseGemm(graph: Graph): Graph {
  const pattern = new Pattern(graph);
  for (const node of graph.nodes) {
    if (node.op !== "MatMul" || node.domain !== "") continue;
    const [x, w] = node.inputs as [string, string];
    const [from, matrix] = [pattern.shape(x), pattern.shape(w)];
    if (matrix.length === 2 && from.length >= 2) {
      const biased = biasOf(pattern, node.outputs[0]!, matrix[1]!);
      const last = biased?.node ?? node;
      // The bias may be made after the product, never after the sum.
      replaceBoth(pattern, node, last, product(pattern, x, w, biased?.bias, last.outputs[0]!));
    } else if (matrix.length === from.length && matrix.length > 2) {
      const fused = batched(pattern, node);
      if (fused) replaceBoth(pattern, node, fused.last, fused.nodes);
    }
  }
  return pattern.result();
}

/** Puts nodes in the place of a product and what is done to it, where the latter is. */
function replaceBoth(pattern: Pattern, product: Node, last: Node, nodes: readonly Node[]): void {
  if (last !== product) pattern.replace(product, []);
  pattern.replace(last, nodes);
}

/** The product of two batches with what can be its attributes, or undefined when there is nothing of the kind. */
function batched(pattern: Pattern, node: Node): { last: Node; nodes: Node[] } | undefined {
  const left = unscaled(pattern, node.inputs[0]!);
  const right = unscaled(pattern, node.inputs[1]!);
  const transpose = pattern.maker(right.name, "Transpose");
  const perm = transpose?.attributes.perm;
  const rank = pattern.shape(right.name).length;
  // The last axis became the last but one: the product can read it as it was.
  const turned = transpose && Array.isArray(perm) && perm.at(-2) === rank - 1 ? perm : undefined;
  const after = pattern.onlyReader(node.outputs[0]!);
  const rest = after?.op === "Mul" && after.domain === "" ? scaleOf(pattern, after) : undefined;
  const alpha = left.scale * right.scale * (rest?.scale ?? 1);
  if (!turned && alpha === 1) return undefined;

  const nodes: Node[] = [];
  let operand = right.name;
  if (turned) {
    operand = transpose!.inputs[0]!;
    const others = [...turned.slice(0, -2), turned.at(-1)!, turned.at(-2)!];
    if (others.some((axis, i) => axis !== i)) {
      const moved = pattern.fresh(`${right.name}.rows`);
      nodes.push({ ...transpose!, outputs: [moved], attributes: { perm: others } });
      operand = moved;
    }
  }
  const last = rest ? after! : node;
  nodes.push({
    op: "FusedMatMul",
    domain: MICROSOFT,
    inputs: [left.name, operand],
    outputs: last.outputs,
    attributes: { transA: 0, transB: turned ? 1 : 0, transBatchA: 0, transBatchB: 0, alpha: float(alpha) },
  });
  return { last, nodes };
}

interface Scaled {
  readonly name: string;
  readonly scale: number;
}

/** A value without the number that it was multiplied by, where it was. */
function unscaled(pattern: Pattern, name: string): Scaled {
  const product = pattern.maker(name, "Mul");
  return (product && scaleOf(pattern, product)) ?? { name, scale: 1 };
}

/** What a product multiplies by which number; undefined when it is not by a number, or changes the shape. */
function scaleOf(pattern: Pattern, node: Node): Scaled | undefined {
  const name = pattern.besides(node, (value) => value > 0);
  const scale = node.inputs.map((input) => pattern.number(input)).find((value) => value !== undefined);
  if (name === undefined || scale === undefined) return undefined;
  return pattern.shape(name).length === pattern.shape(node.outputs[0]!).length ? { name, scale } : undefined;
}

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
