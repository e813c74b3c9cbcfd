/**
 * What causal language models share, on whatever family: activations, masks, and the end in logits and a loss.
 *
 * Activations are time-major, as in `gpt.ts`: a micro-batch of B sequences of length T is a matrix [T·B, D], and
 * attention sees [T, B, heads, size], which FusedMatMul's transBatch flags turn into batches of heads without moving
 * an element.
 */

import { Tensor } from "../../protocols/tensor.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import { float } from "../onnx/graph.ts";

/** Names of the two data inputs: ids i64 [T, B], and the ids to predict, i64 [T·B]. */
export const IDS = "ids";
export const TARGETS = "targets";
/** The scores of the next token, f32 [T·B, V]. */
export const LOGITS = "logits";
/** Mean cross-entropy in nats per token, an f32 scalar. */
export const LOSS = "loss";

/** Sizes of a micro-batch. */
export interface TextShape {
  /** T, tokens of a sequence. */
  readonly context: number;
  /** B, sequences. */
  readonly rows: number;
}

/** What a feed-forward layer applies between its products: exact GELU, GELU by tanh, x·sigmoid(x), max(x, 0). */
export type Activation = "gelu" | "gelu_tanh" | "silu" | "relu";

/** Added to scores of positions that must not be seen; exp of it is 0 in f32. */
const MASKED = -1e9;

export function activate(b: GraphBuilder, x: string, activation: Activation): string {
  switch (activation) {
    case "gelu":
      return b.op("Gelu", [x]);
    case "gelu_tanh":
      return b.op("Gelu", [x], { approximate: "tanh" });
    case "silu":
      // x·σ(αx): one pass, where Sigmoid and Mul are two.
      return b.fused("QuickGelu", [x], { alpha: float(1) });
    case "relu":
      return b.op("Relu", [x]);
  }
}

/** Root-mean-square normalisation over the last axis (Zhang and Sennrich, 2019), x / √(mean(x²) + ε) · w, in one node. */
export function rmsNorm(b: GraphBuilder, x: string, weight: string, epsilon: number): string {
  const attributes = { axis: -1, epsilon: float(epsilon), stash_type: 1 };
  return b.op("SimplifiedLayerNormalization", [x, weight], attributes);
}

/**
 * Attention of queries over keys and values, all [T, B, heads, size], to [T·B, heads·size].
 * @param mask [T, T], added to the scores; null where all positions see each other.
 */
export function attention(
  b: GraphBuilder,
  [q, k, v]: readonly [string, string, string],
  mask: string | null,
): string {
  const [length, batch, heads, size] = b.shape(q) as [number, number, number, number];
  const scores = b.fused("FusedMatMul", [q, k], {
    transA: 0,
    transB: 1,
    transBatchA: 1,
    transBatchB: 1,
    alpha: float(1 / Math.sqrt(size)),
  });
  const weights = b.op("Softmax", [mask === null ? scores : b.op("Add", [scores, mask])], { axis: -1 });
  const mixed = b.fused("FusedMatMul", [weights, v], {
    transA: 0,
    transB: 0,
    transBatchA: 0,
    transBatchB: 1,
    alpha: float(1),
  });
  const merged = b.op("Transpose", [mixed], { perm: [2, 0, 1, 3] });
  return b.op("Reshape", [merged, b.ints([length * batch, heads * size])]);
}

/**
 * [T, T], 0 where position i may see position j: i − window < j ≤ i.
 * @param window how many positions a position sees, itself included; null for all before it.
 */
function causalMask(b: GraphBuilder, length: number, window: number | null): string {
  const seen = window !== null && window < length ? window : length;
  const mask = new Float32Array(length * length).fill(MASKED);
  for (let i = 0; i < length; i++) mask.fill(0, i * length + Math.max(0, i - seen + 1), i * length + i + 1);
  return b.constant(`causal_mask.${length}.${seen}`, Tensor.f32([length, length], mask));
}

/** `attention` in which a position sees those of `causalMask`. */
export function causalAttention(
  b: GraphBuilder,
  qkv: readonly [string, string, string],
  window: number | null,
): string {
  return attention(b, qkv, causalMask(b, b.shape(qkv[0])[0]!, window));
}

/** Ends the graph in the loss of the logits x·Wᵀ for W [V, D]. */
export function languageHead(b: GraphBuilder, x: string, weight: string): void {
  b.op("Gemm", [x, weight], { transB: 1, alpha: float(1), beta: float(0) }, LOGITS);
  b.op("SoftmaxCrossEntropyLoss", [LOGITS, TARGETS], { reduction: "mean" }, LOSS);
  b.output(LOSS);
}
