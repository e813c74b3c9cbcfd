/** Gradients of matrix products. Transposes are flags of the product wherever the operator has them. */

import type { GraphBuilder } from "../../onnx/builder.ts";
import { float, GraphError } from "../../onnx/graph.ts";
import { describe, floatAttribute, fusedOperand, intAttribute } from "../../onnx/shapes.ts";
import { type GradientRule, unbroadcast } from "../rule.ts";

interface Operand {
  readonly name: string;
  readonly trans: boolean;
  readonly transBatch: boolean;
}

const flag = (value: boolean) => (value ? 1 : 0);

/** alpha · op(a) · op(b) with ONNX Runtime's FusedMatMul. */
function fusedProduct(b: GraphBuilder, left: Operand, right: Operand, alpha: number): string {
  return b.fused("FusedMatMul", [left.name, right.name], {
    transA: flag(left.trans),
    transB: flag(right.trans),
    transBatchA: flag(left.transBatch),
    transBatchB: flag(right.transBatch),
    alpha: float(alpha),
  });
}

/** Undoes transBatch on a gradient: the second last axis goes back to the front. */
function unbatch(b: GraphBuilder, gradient: string, operand: Operand): string {
  if (!operand.transBatch) return gradient;
  const rank = b.shape(gradient).length;
  const batch = Array.from({ length: rank - 2 }, (_, i) => i);
  return b.op("Transpose", [gradient], { perm: [rank - 2, ...batch, rank - 1] });
}

/** Gradients of Y = alpha·A′·B′ where A′ and B′ are A and B with their flags applied. */
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
    left.trans ? fusedProduct(b, right, flip(grad), alpha) : fusedProduct(b, grad, flip(right), alpha);
  const dRight = () =>
    right.trans ? fusedProduct(b, flip(grad), left, alpha) : fusedProduct(b, flip(left), grad, alpha);
  return [
    wants(0) ? unbatch(b, dLeft(), left) : undefined,
    wants(1) ? unbatch(b, dRight(), right) : undefined,
  ];
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
      const gemm = (left: string, right: string, transLeft: number, transRight: number) =>
        b.op("Gemm", [left, right], { transA: transLeft, transB: transRight, alpha, beta: float(0) });
      const dA = () => (transA ? gemm(w!, dy, transB, 1) : gemm(dy, w!, 0, 1 - transB));
      const dW = () => (transB ? gemm(dy, a!, 1, transA) : gemm(a!, dy, 1 - transA, 0));
      const dC = () => {
        const sum = unbroadcast(b, dy, b.shape(c!));
        return beta === 1 ? sum : b.op("Mul", [sum, b.scalar(beta)]);
      };
      return [wants(0) ? dA() : undefined, wants(1) ? dW() : undefined, c && wants(2) ? dC() : undefined];
    },
  },

  MatMul: {
    backward: ({ builder: b, node, gradient, wants }) => {
      const [left, right] = node.inputs.map((name) => ({ name, trans: false, transBatch: false }));
      const gradients = productGradients(b, gradient(0)!, left!, right!, 1, wants);
      return gradients.map((g, i) => g && unbroadcast(b, g, b.shape(node.inputs[i]!)));
    },
  },

  FusedMatMul: {
    backward: ({ builder: b, node, gradient, wants }) => {
      const [left, right] = ["A", "B"].map((side, i) => ({
        name: node.inputs[i]!,
        trans: intAttribute(node, `trans${side}`, 0) === 1,
        transBatch: intAttribute(node, `transBatch${side}`, 0) === 1,
      })) as [Operand, Operand];
      const batch = ({ name, trans, transBatch }: Operand) =>
        fusedOperand(b.shape(name), trans, transBatch).slice(0, -2).join(",");
      if (batch(left) !== batch(right)) {
        throw new GraphError(`${describe(node)}: no gradient for FusedMatMul with broadcast batch axes`);
      }
      return productGradients(b, gradient(0)!, left, right, floatAttribute(node, "alpha", 1), wants);
    },
  },
};
