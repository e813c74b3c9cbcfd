/**
 * Attention and rotary embedding as exporters write them since opset 23, and rotary embedding as ONNX Runtime's own
 * operator: written out in standard operators, which have gradients and which every engine has.
 *
 * A group of query heads that share a head of keys is folded into its rows, [B, G, (H/G)·S, D], so that keys and values
 * are never repeated, forward or backward. What must not be seen gets −1e9 added to its score, whose exp is 0.
 */

import { Tensor } from "../../../protocols/tensor.ts";
import type { GraphBuilder } from "../../onnx/builder.ts";
import { float, GraphError, MICROSOFT, type Node } from "../../onnx/graph.ts";
import { describe, floatAttribute, headsOf, intAttribute } from "../../onnx/shapes.ts";
import type { GradientRule } from "../rule.ts";
import { writeRotary } from "./attention-rotary.ts";

/** Added to scores of what must not be seen. */
const MASKED = -1e9;

/** [B, S, heads·D] as [B, heads, S, D]. */
function splitHeads(b: GraphBuilder, x: string, heads: number): string {
  const shape = b.shape(x);
  if (shape.length === 4) return x;
  const [batch, length, width] = shape as [number, number, number];
  const apart = b.op("Reshape", [x, b.ints([batch, length, heads, width / heads])]);
  return b.op("Transpose", [apart], { perm: [0, 2, 1, 3] });
}

/** [S, T] of 0 where row i may see column j ≤ i, `MASKED` elsewhere. */
function causalBias(b: GraphBuilder, rows: number, columns: number, like: string): string {
  const bias = new Float32Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    if (i + 1 < columns) bias.fill(MASKED, i * columns + i + 1, (i + 1) * columns);
  }
  const name = b.constant(`attention.causal.${rows}.${columns}`, Tensor.f32([rows, columns], bias));
  return b.type(like).dtype === "f32" ? name : b.op("CastLike", [name, like]);
}

/** The attention mask as something to add to the scores. */
function maskBias(b: GraphBuilder, node: Node, mask: string, columns: number, like: string): string {
  const { dtype, shape } = b.type(mask);
  if (shape.at(-1) !== columns) {
    throw new GraphError(
      `${describe(node)}: a mask [${shape}] for ${columns} keys; it should have one of each`,
    );
  }
  if (dtype !== "bool") return mask;
  return b.op("Where", [mask, b.scalarLike(0, like), b.scalarLike(MASKED, like)]);
}

/** 1 for rows that see something, 0 for others: [..., S, 1]. */
function seeing(b: GraphBuilder, mask: string, causal: boolean, rows: number, like: string): string {
  let seen = b.op("Where", [mask, b.scalarLike(1, like), b.scalarLike(0, like)]);
  if (causal) {
    const columns = b.shape(mask).at(-1)!;
    const ones = b.op("Expand", [b.scalarLike(1, like), b.ints([rows, columns])]);
    seen = b.op("Mul", [seen, b.op("Trilu", [ones], { upper: 0 })]);
  }
  return b.op("ReduceMax", [seen, b.ints([-1])], { keepdims: 1 });
}

/** ai.onnx Attention: softmax(cap(scale·Q·Kᵀ) + mask)·V. */
function writeAttention(b: GraphBuilder, node: Node): void {
  if (node.domain === MICROSOFT) {
    throw new GraphError(
      `${describe(node)}: ONNX Runtime's own Attention is not known; export with opset 23`,
    );
  }
  const [query, key, value, mask] = node.inputs as [string, string, string, string | undefined];
  if (
    node.inputs.slice(4).some((input) => input !== "") ||
    node.outputs.slice(1).some((output) => output !== "")
  ) {
    const known = "with queries, keys, values and a mask, and one output";
    throw new GraphError(`${describe(node)}: Attention is known ${known}, not with a cache of keys`);
  }
  const [heads, groups] = headsOf(node, b.type(query), b.type(key));
  const [q, k, v] = [splitHeads(b, query, heads), splitHeads(b, key, groups), splitHeads(b, value, groups)];
  const [batch, , rows, size] = b.shape(q) as [number, number, number, number];
  const columns = b.shape(k)[2]!;
  const scale = floatAttribute(node, "scale", 1 / Math.sqrt(size));
  const folded = (x: string, width: number) =>
    heads === groups ? x : b.op("Reshape", [x, b.ints([batch, groups, (heads / groups) * rows, width])]);
  const unfolded = (x: string, width: number) =>
    heads === groups ? x : b.op("Reshape", [x, b.ints([batch, heads, rows, width])]);

  const product = b.fused("FusedMatMul", [folded(q, size), k], {
    transA: 0,
    transB: 1,
    transBatchA: 0,
    transBatchB: 0,
    alpha: float(scale),
  });
  let scores = unfolded(product, columns);
  const cap = floatAttribute(node, "softcap", 0);
  if (cap > 0) {
    const bent = b.op("Tanh", [b.op("Mul", [scores, b.scalarLike(1 / cap, q)])]);
    scores = b.op("Mul", [bent, b.scalarLike(cap, q)]);
  }
  const causal = intAttribute(node, "is_causal", 0) === 1;
  const biases = [
    ...(mask ? [maskBias(b, node, mask, columns, q)] : []),
    ...(causal ? [causalBias(b, rows, columns, q)] : []),
  ];
  if (biases.length > 0) {
    const bias = biases.reduce((sum, each) => b.op("Add", [sum, each]));
    scores = b.op("Add", [scores, bias]);
  }
  const weights = b.op("Softmax", [scores], { axis: -1 });
  const width = b.shape(v)[3]!;
  let mixed = unfolded(b.op("MatMul", [folded(weights, columns), v]), width);
  if (mask && b.type(mask).dtype === "bool" && !seesFirst(b, mask)) {
    mixed = b.op("Mul", [mixed, seeing(b, mask, causal, rows, q)]);
  }
  if (b.shape(query).length === 4) {
    b.op("Identity", [mixed], {}, node.outputs[0]!);
    return;
  }
  const merged = b.op("Transpose", [mixed], { perm: [0, 2, 1, 3] });
  b.op("Reshape", [merged, b.ints([batch, rows, heads * width])], {}, node.outputs[0]!);
}

/** Whether it is known that every row sees the first key: then none sees nothing. */
function seesFirst(b: GraphBuilder, mask: string): boolean {
  const columns = b.shape(mask).at(-1)!;
  return b.constantNumbers(mask)?.every((seen, i) => i % columns !== 0 || seen === 1) ?? false;
}

export const attentionRules: Readonly<Record<string, GradientRule>> = {
  Attention: {
    limits: "ai.onnx; no cache of keys and values, no output of the scores",
    spelling: "products, Softmax",
    always: true,
    expand: writeAttention,
  },
  RotaryEmbedding: {
    limits: "not packed",
    spelling: "Split, products, Concat; interleaved: a product with a permutation",
    always: true,
    expand: writeRotary,
  },
};
