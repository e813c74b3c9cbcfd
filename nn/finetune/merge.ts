/** What an adapter has learned, added to the matrix it stands beside: W + (alpha / rank)·B·A, or its transpose. */

import { Tensor, TensorError } from "../../protocols/tensor.ts";
import type { LoraAdapter, LoraModel } from "./lora.ts";

/**
 * The adapted matrices with their adapters merged in, by name: f32, of the base's shape. The base's values are its own,
 * as its `initial` gives them for this seed, whatever type they were stored in for training.
 * @param values the trained A and B, by name.
 * @throws TensorError for one that is missing or of another shape.
 */
export async function mergeLora(
  model: LoraModel,
  values: ReadonlyMap<string, Tensor>,
  seed: number,
): Promise<Map<string, Tensor>> {
  const { rank, alpha } = model.options;
  const merged = new Map<string, Tensor>();
  for (const adapter of model.adapters) {
    const base = await model.base.initial(adapter.weight, seed);
    const a = matrix(values, adapter.a, [rank, adapter.from]);
    const b = matrix(values, adapter.b, [adapter.to, rank]);
    merged.set(adapter.weight, Tensor.f32(base.shape, added(base.f32(), a, b, adapter, rank, alpha / rank)));
  }
  return merged;
}

function matrix(values: ReadonlyMap<string, Tensor>, name: string, shape: readonly number[]): Float32Array {
  const value = values.get(name);
  if (value?.dtype === "f32" && value.shape.join() === shape.join()) return value.f32();
  const came = value ? `${value.dtype}[${value.shape}]` : "nothing";
  throw new TensorError(`adapter ${name}: expected f32[${shape}], got ${came}`);
}

/** Row by row of the weight: sums of rows of A (or Bᵀ), so that memory is read in its order. */
function added(
  base: Float32Array,
  a: Float32Array,
  b: Float32Array,
  { from, to, transposed }: LoraAdapter,
  rank: number,
  scale: number,
): Float32Array {
  const result = Float32Array.from(base);
  const [rows, columns] = transposed ? [to, from] : [from, to];
  const right = transposed ? a : transposedOf(b, to, rank);
  const left = transposed
    ? (row: number, k: number) => b[row * rank + k]!
    : (row: number, k: number) => a[k * from + row]!;
  const sum = new Float64Array(columns);
  for (let row = 0; row < rows; row++) {
    sum.fill(0);
    for (let k = 0; k < rank; k++) {
      const factor = scale * left(row, k);
      const at = k * columns;
      for (let i = 0; i < columns; i++) sum[i] = sum[i]! + factor * right[at + i]!;
    }
    const start = row * columns;
    for (let i = 0; i < columns; i++) result[start + i] = base[start + i]! + sum[i]!;
  }
  return result;
}

function transposedOf(matrix: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(matrix.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++)
      result[column * rows + row] = matrix[row * columns + column]!;
  }
  return result;
}
