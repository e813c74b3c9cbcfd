/** Matrix products. */

import { elements } from "../../../protocols/tensor.ts";
import { floatAttribute, intAttribute } from "../../onnx/shapes.ts";
import { broadcastShape, compute, expand, type NdArray, reshape, transpose } from "./ndarray.ts";
import type { Call, Operator, Operators } from "./operator.ts";

/** Products of the last two axes, [..., m, k] by [..., k, n], over broadcast batch axes; sums not yet rounded. */
function multiply(call: Call, a: NdArray, b: NdArray): { shape: number[]; sums: Float64Array } {
  if (a.shape.length < 2 || b.shape.length < 2) throw call.error("operands need at least two axes");
  const [m, k] = a.shape.slice(-2) as [number, number];
  const [depth, n] = b.shape.slice(-2) as [number, number];
  if (k !== depth) throw call.error(`inner sizes of [${a.shape}] and [${b.shape}] differ`);
  const batch = broadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2), call.node);
  const left = expand(a, [...batch, m, k]).data;
  const right = expand(b, [...batch, k, n]).data;
  const count = elements(batch);
  const sums = new Float64Array(count * m * n);
  for (let matrix = 0; matrix < count; matrix++) {
    for (let row = 0; row < m; row++) {
      const to = (matrix * m + row) * n;
      for (let i = 0; i < k; i++) {
        const factor = left[(matrix * m + row) * k + i]!;
        const start = (matrix * k + i) * n;
        for (let column = 0; column < n; column++) sums[to + column]! += factor * right[start + column]!;
      }
    }
  }
  return { shape: [...batch, m, n], sums };
}

/** transBatch moves the first axis behind the batch axes; trans then swaps the last two. */
function operand(array: NdArray, trans: boolean, transBatch: boolean): NdArray {
  const last = array.shape.length - 1;
  let perm = array.shape.map((_, axis) => axis);
  if (transBatch) perm = [...perm.slice(1, last), 0, last];
  if (trans) perm = [...perm.slice(0, -2), perm.at(-1)!, perm.at(-2)!];
  return trans || transBatch ? transpose(array, perm) : array;
}

/** A vector is a row on the left and a column on the right, and that axis is left out of the result. */
const matMul: Operator = (call) => {
  const [a, b] = [call.input(0), call.input(1)];
  const [row, column] = [a.shape.length === 1, b.shape.length === 1];
  const left = row ? reshape(a, [1, ...a.shape]) : a;
  const { shape, sums } = multiply(call, left, column ? reshape(b, [...b.shape, 1]) : b);
  const matrix = [...(row ? [] : shape.slice(-2, -1)), ...(column ? [] : shape.slice(-1))];
  return [compute(a.dtype, [...shape.slice(0, -2), ...matrix], (i) => sums[i]!)];
};

/** ONNX Runtime's contrib operator: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md */
const fusedMatMul: Operator = (call) => {
  const flag = (name: string) => intAttribute(call.node, name, 0) === 1;
  const a = operand(call.input(0), flag("transA"), flag("transBatchA"));
  const b = operand(call.input(1), flag("transB"), flag("transBatchB"));
  const alpha = floatAttribute(call.node, "alpha", 1);
  const { shape, sums } = multiply(call, a, b);
  return [compute(a.dtype, shape, (i) => alpha * sums[i]!)];
};

const gemm: Operator = (call) => {
  const a = operand(call.input(0), intAttribute(call.node, "transA", 0) === 1, false);
  const b = operand(call.input(1), intAttribute(call.node, "transB", 0) === 1, false);
  const [alpha, beta] = [floatAttribute(call.node, "alpha", 1), floatAttribute(call.node, "beta", 1)];
  const { shape, sums } = multiply(call, a, b);
  const bias = call.inputs[2] && expand(call.inputs[2], shape).data;
  return [compute(a.dtype, shape, (i) => alpha * sums[i]! + (bias ? beta * bias[i]! : 0))];
};

export const product: Operators = { MatMul: matMul, Gemm: gemm };
export const fusedProduct: Operators = { FusedMatMul: fusedMatMul };
