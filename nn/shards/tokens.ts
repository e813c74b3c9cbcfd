/**
 * Sequence parallelism (Li et al., "Sequence Parallelism: Long Sequence Training from System Perspective", 2021): every
 * rank has some tokens of every sequence, and all weights. What works token by token needs nothing of the others.
 * Attention does: the queries of a rank see all keys and values, so these are gathered, and their gradients, of which
 * every rank then has a summand, are scattered back.
 *
 * Attention is known by its products, of two values that are both made from tokens; and it tells which axis the tokens
 * are on: the rows of one operand are not the batch of both.
 */

import type { Node } from "../onnx/graph.ts";
import { productAxes } from "./carry/products.ts";
import type { Value } from "./program.ts";

/** Operators that two operands meet in, with the axes of `productAxes`. */
const PRODUCTS: ReadonlySet<string> = new Set(["MatMul", "Gemm", "FusedMatMul"]);

/**
 * Of a product whose operands are both cut: the operand that is gathered, so that every rank has rows or columns of the
 * result; "batch" where the operands are cut along a batch axis, which is not one of tokens; null for anything else.
 */
export function meeting(node: Node, a: Value | undefined, b: Value | undefined): 0 | 1 | "batch" | null {
  if (!PRODUCTS.has(node.op) || a?.layout.kind !== "part" || b?.layout.kind !== "part") return null;
  const [left, right] = [a, b].map(({ layout, type }, index) => {
    const axes = productAxes(node, index as 0 | 1, type.shape.length);
    return layout.kind === "part" ? axes.indexOf(layout.axis) - axes.length : 0;
  }) as [number, number];
  if (left === -2) return 1;
  if (right === -1) return 0;
  return left < -2 && right < -2 ? "batch" : null;
}
