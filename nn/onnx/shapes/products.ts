/** Shapes of matrix products. */

import type { DType, Shape } from "../../../protocols/tensor.ts";
import { readEquation } from "../einsum.ts";
import { GraphError, type Node, type ValueType } from "../graph.ts";
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

/** The element type of both operands. */
function sameType(node: Node, a: ValueType, b: ValueType): DType {
  if (a.dtype === b.dtype) return a.dtype;
  throw new GraphError(`${describe(node)}: ${a.dtype} and ${b.dtype} do not mix`);
}

export const productShapes: Rules = {
  /** A vector is a row on the left and a column on the right, and that axis is left out of the result. */
  MatMul: ({ node, input }) => {
    const [a, b] = [input(0).shape, input(1).shape];
    const shape = product(node, a.length === 1 ? [1, ...a] : a, b.length === 1 ? [...b, 1] : b);
    const rows = a.length === 1 ? [] : shape.slice(-2, -1);
    const columns = b.length === 1 ? [] : shape.slice(-1);
    return [
      { dtype: sameType(node, input(0), input(1)), shape: [...shape.slice(0, -2), ...rows, ...columns] },
    ];
  },
  FusedMatMul: ({ node, input }) => {
    const flag = (name: string) => intAttribute(node, name, 0) === 1;
    const ranks = [input(0).shape.length, input(1).shape.length];
    if (ranks[0] !== ranks[1] && (flag("transBatchA") || flag("transBatchB"))) {
      const shapes = `[${input(0).shape}] and [${input(1).shape}]`;
      throw new GraphError(`${describe(node)}: with transBatch ${shapes} must have as many axes`);
    }
    const a = fusedOperand(input(0).shape, flag("transA"), flag("transBatchA"));
    const b = fusedOperand(input(1).shape, flag("transB"), flag("transBatchB"));
    return [{ dtype: sameType(node, input(0), input(1)), shape: product(node, a, b) }];
  },
  Gemm: ({ node, input, has }) => {
    const a = fusedOperand(input(0).shape, intAttribute(node, "transA", 0) === 1, false);
    const b = fusedOperand(input(1).shape, intAttribute(node, "transB", 0) === 1, false);
    const shape = product(node, a, b);
    if (has(2) && broadcast(shape, input(2).shape, describe(node)).join() !== shape.join()) {
      throw new GraphError(`${describe(node)}: C [${input(2).shape}] is larger than the product [${shape}]`);
    }
    return [{ dtype: sameType(node, input(0), input(1)), shape }];
  },
  Einsum: ({ node, input }) => {
    const shapes = node.inputs.map((_, i) => input(i).shape);
    const { result, sizes } = readEquation(String(node.attributes.equation), shapes, describe(node));
    return [{ dtype: input(0).dtype, shape: result.map((label) => sizes.get(label)!) }];
  },
};
