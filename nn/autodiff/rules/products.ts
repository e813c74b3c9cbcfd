/** Gradients of matrix products. Transposes are flags of the product wherever the operator has them. */

import { elements, type Shape } from "../../../protocols/tensor.ts";
import type { GraphBuilder } from "../../onnx/builder.ts";
import { float } from "../../onnx/graph.ts";
import { broadcast, floatAttribute, fusedOperand, intAttribute } from "../../onnx/shapes.ts";
import { type GradientRule, unbroadcast } from "../rule.ts";

interface Operand {
  readonly name: string;
  readonly trans: boolean;
  readonly transBatch: boolean;
}

const flag = (value: boolean) => (value ? 1 : 0);

/**
 * Columns of a product from which on its left side is better turned than read across. A product turns it again for every
 * 128 columns; one pass over it takes as long as that loses for some 400 columns, measured on two processors.
 */
const WIDE = 512;

/** The transpose of `x` as the left side of a product with so many columns: a value, and the product's flag. */
function turned(b: GraphBuilder, x: string, columns: number): [name: string, trans: 0 | 1] {
  return columns < WIDE ? [x, 1] : [b.op("Transpose", [x], { perm: [1, 0] }), 0];
}

/** alpha · op(a) · op(b): a Gemm of matrices, of which one can add into a sum, or ONNX Runtime's FusedMatMul. */
function product(b: GraphBuilder, left: Operand, right: Operand, alpha: number): string {
  const trans = { transA: flag(left.trans), transB: flag(right.trans), alpha: float(alpha) };
  const names = [left.name, right.name];
  if (names.every((name) => b.shape(name).length === 2)) {
    const columns = b.shape(right.name)[right.trans ? 0 : 1]!;
    const [name, transA] = left.trans ? turned(b, left.name, columns) : ([left.name, 0] as const);
    return b.op("Gemm", [name, right.name], { ...trans, transA, beta: float(0) });
  }
  return b.fused("FusedMatMul", names, {
    transA: trans.transA,
    transB: trans.transB,
    transBatchA: flag(left.transBatch),
    transBatchB: flag(right.transBatch),
    alpha: trans.alpha,
  });
}

/** Undoes transBatch on a gradient: the second last axis goes back to the front. */
function unbatch(b: GraphBuilder, gradient: string, operand: Operand): string {
  if (!operand.transBatch) return gradient;
  const rank = b.shape(gradient).length;
  const batch = Array.from({ length: rank - 2 }, (_, i) => i);
  return b.op("Transpose", [gradient], { perm: [rank - 2, ...batch, rank - 1] });
}

/** Gradients of Y = alpha·A′·B′ where A′ and B′ are A and B with their flags applied, over broadcast batch axes. */
function productGradients(
  b: GraphBuilder,
  dy: string,
  left: Operand,
  right: Operand,
  alpha: number,
  wants: (index: number) => boolean,
): (string | undefined)[] {
  const grad: Operand = { name: dy, trans: false, transBatch: false };
  const flip = (operand: Operand): Operand => ({ ...operand, trans: !operand.trans });
  const dLeft = () =>
    left.trans ? product(b, right, flip(grad), alpha) : product(b, grad, flip(right), alpha);
  const dRight = () =>
    right.trans ? product(b, flip(grad), left, alpha) : product(b, flip(left), grad, alpha);
  const back = (gradient: string, operand: Operand) => {
    const batched = fusedOperand(b.shape(operand.name), false, operand.transBatch);
    return unbatch(b, unbroadcast(b, gradient, batched), operand);
  };
  return [wants(0) ? back(dLeft(), left) : undefined, wants(1) ? back(dRight(), right) : undefined];
}

/** A value under another shape of the same size. */
function reshaped(b: GraphBuilder, x: string, shape: Shape): string {
  return b.shape(x).join() === shape.join() ? x : b.op("Reshape", [x, b.ints(shape)]);
}

export const productRules: Readonly<Record<string, GradientRule>> = {
  /** Y = alpha·A′·B′ + beta·C, two-dimensional. */
  Gemm: {
    backward: ({ builder: b, node, gradient, wants }) => {
      const dy = gradient(0)!;
      const [a, w, c] = node.inputs;
      const transA = intAttribute(node, "transA", 0);
      const transB = intAttribute(node, "transB", 0);
      const alpha = float(floatAttribute(node, "alpha", 1));
      const beta = floatAttribute(node, "beta", 1);
      const gemm = (left: string, transLeft: number, right: string, transRight: number) =>
        b.op("Gemm", [left, right], { transA: transLeft, transB: transRight, alpha, beta: float(0) });
      const dA = () => (transA ? gemm(w!, transB, dy, 1) : gemm(dy, 0, w!, 1 - transB));
      const dW = () => {
        if (transB) return gemm(...turned(b, dy, b.shape(a!)[1 - transA]!), a!, transA);
        return transA ? gemm(a!, 0, dy, 0) : gemm(...turned(b, a!, b.shape(dy)[1]!), dy, 0);
      };
      const dC = () => {
        const sum = unbroadcast(b, dy, b.shape(c!));
        return beta === 1 ? sum : b.op("Mul", [sum, b.scalarLike(beta, sum)]);
      };
      return [wants(0) ? dA() : undefined, wants(1) ? dW() : undefined, c && wants(2) ? dC() : undefined];
    },
  },

  /**
   * A vector is a row on the left and a column on the right. Where the right side is one matrix for all, the left side
   * is one tall matrix, and the gradient of the right one product (0.55 of the time of a batch of products and a sum,
   * for [8, 64, 256] by [256, 512]) which can add into a sum.
   */
  MatMul: {
    backward: ({ builder: b, node, gradient, wants }) => {
      const [x, w] = node.inputs as [string, string];
      const asMatrix = (shape: Shape, vector: Shape) => (shape.length === 1 ? vector : shape);
      let left = asMatrix(b.shape(x), [1, ...b.shape(x)]);
      const right = asMatrix(b.shape(w), [...b.shape(w), 1]);
      const [inner, columns] = right.slice(-2) as [number, number];
      if (right.length === 2) left = [elements(left) / inner, inner];
      const batch = right.length === 2 ? [] : broadcast(left.slice(0, -2), right.slice(0, -2), "");
      const operand = (name: string, shape: Shape): Operand => {
        return { name: reshaped(b, name, shape), trans: false, transBatch: false };
      };
      const dy = reshaped(b, gradient(0)!, [...batch, left.at(-2)!, columns]);
      const gradients = productGradients(b, dy, operand(x, left), operand(w, right), 1, wants);
      return gradients.map((g, i) => g && reshaped(b, g, b.shape(node.inputs[i]!)));
    },
  },

  FusedMatMul: {
    backward: ({ builder: b, node, gradient, wants }) => {
      const [left, right] = ["A", "B"].map((side, i) => ({
        name: node.inputs[i]!,
        trans: intAttribute(node, `trans${side}`, 0) === 1,
        transBatch: intAttribute(node, `transBatch${side}`, 0) === 1,
      })) as [Operand, Operand];
      return productGradients(b, gradient(0)!, left, right, floatAttribute(node, "alpha", 1), wants);
    },
  },
};
