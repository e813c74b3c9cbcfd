/** Shapes of matrix products. */

import type { Shape } from "../../../protocols/tensor.ts";
import { GraphError, type Node } from "../graph.ts";
import { broadcast, describe, intAttribute, type Rules } from "./rule.ts";

/** Batched matrix product of [..., m, k] and [..., k, n]. */
function product(node: Node, a: Shape, b: Shape): Shape {
  if (a.length < 2 || b.length < 2) {
    throw new GraphError(`${describe(node)}: [${a}] and [${b}] are not both matrices`);
  }
  const [m, k] = a.slice(-2) as [number, number];
  const [k2, n] = b.slice(-2) as [number, number];
  if (k !== k2) throw new GraphError(`${describe(node)}: inner sizes of [${a}] and [${b}] differ`);
  return [...broadcast(a.slice(0, -2), b.slice(0, -2), describe(node)), m, n];
}

/** Operand of FusedMatMul: transBatch moves the first axis behind the batch axes, trans swaps the last two. */
export function fusedOperand(shape: Shape, trans: boolean, transBatch: boolean): Shape {
  const s = transBatch ? [...shape.slice(1, -1), shape[0]!, shape.at(-1)!] : [...shape];
  return trans ? [...s.slice(0, -2), s.at(-1)!, s.at(-2)!] : s;
}

export const productShapes: Rules = {
  MatMul: ({ node, input }) => [
    { dtype: input(0).dtype, shape: product(node, input(0).shape, input(1).shape) },
  ],
  FusedMatMul: ({ node, input }) => {
    const flag = (name: string) => intAttribute(node, name, 0) === 1;
    const a = fusedOperand(input(0).shape, flag("transA"), flag("transBatchA"));
    const b = fusedOperand(input(1).shape, flag("transB"), flag("transBatchB"));
    return [{ dtype: input(0).dtype, shape: product(node, a, b) }];
  },
  Gemm: ({ node, input, has }) => {
    const a = fusedOperand(input(0).shape, intAttribute(node, "transA", 0) === 1, false);
    const b = fusedOperand(input(1).shape, intAttribute(node, "transB", 0) === 1, false);
    const shape = product(node, a, b);
    if (has(2) && broadcast(shape, input(2).shape, describe(node)).join() !== shape.join()) {
      throw new GraphError(`${describe(node)}: C [${input(2).shape}] is larger than the product [${shape}]`);
    }
    return [{ dtype: input(0).dtype, shape }];
  },
};
