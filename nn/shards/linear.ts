/**
 * What sharding knows of products that follow each other: summands may go through what is linear before they are added
 * up, and two products with a narrow value between them stand for one matrix of low rank, as an adapter (LoRA) does.
 */

import type { Node, ValueType } from "../onnx/graph.ts";
import type { Value } from "./program.ts";

/** Products with a matrix. */
export const PRODUCTS: ReadonlySet<string> = new Set(["Gemm", "MatMul"]);

const SUMS = new Set(["Add", "Sub", "Sum"]);

/** Whether a node of summands gives summands: what is linear in them, and makes them no smaller to send. */
export function keepsSum({ op }: Node, values: readonly (Value | undefined)[]): boolean {
  const isSum = (value: Value | undefined) => value?.layout.kind === "sum";
  if (!values.some(isSum)) return false;
  if (SUMS.has(op)) return values.every(isSum);
  const [a, b] = values as [Value, Value | undefined];
  if (PRODUCTS.has(op)) {
    const rest = values.slice(2).filter((value) => value !== undefined);
    const widest = Math.max(...(b?.type.shape ?? []));
    return isSum(a) && rest.every(isSum) && b!.fixed && widest > a.type.shape.at(-1)!;
  }
  const scale = isSum(a) ? b : a;
  return (op === "Mul" || (op === "Div" && isSum(a))) && !isSum(scale) && scale!.fixed && !scale!.trained;
}

/**
 * Whether a product is the first of two that stand for one matrix of low rank.
 * @param readers of its output.
 */
export function isNarrow(
  node: Node,
  readers: readonly Node[],
  types: ReadonlyMap<string, ValueType>,
): boolean {
  const [output] = node.outputs as [string];
  const last = (name: string) => types.get(name)!.shape.at(-1)!;
  const width = last(output);
  const widens = (reader: Node) =>
    PRODUCTS.has(reader.op) && reader.inputs[0] === output && width < last(reader.outputs[0]!);
  return width < last(node.inputs[0]!) && readers.length > 0 && readers.every(widens);
}
