/**
 * What sharding knows of products that follow each other: summands may go through what is linear before they are added
 * up, and two products with a narrow value between them stand for one matrix of low rank, as an adapter (LoRA) does.
 */

import { float, type Node, type ValueType } from "../onnx/graph.ts";
import { floatAttribute } from "../onnx/shapes.ts";
import type { Value } from "./program.ts";
import type { Values } from "./values.ts";

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

/** The nodes of a Gemm whose summands are added up: its C is added to the sum, once, and not by every rank. */
export function addedOnce(node: Node, values: Values): Node[] {
  const [a, b, c] = node.inputs as [string, string, string];
  const output = node.outputs[0]!;
  const product = values.fresh(`${output}.product`);
  values.types.set(product, values.types.get(output)!);
  const attributes = { ...node.attributes, beta: float(0) };
  const nodes: Node[] = [{ ...node, inputs: [a, b], outputs: [product], attributes }];
  const beta = floatAttribute(node, "beta", 1);
  let added = c;
  if (beta !== 1) {
    const factor = values.fresh(`${output}.beta`);
    added = values.fresh(`${output}.added`);
    const type = values.types.get(c)!;
    values.types.set(factor, { dtype: type.dtype, shape: [] });
    values.types.set(added, type);
    const given = { value_float: float(beta) };
    nodes.push({ op: "Constant", domain: "", inputs: [], outputs: [factor], attributes: given });
    nodes.push({ op: "Mul", domain: "", inputs: [c, factor], outputs: [added], attributes: {} });
  }
  return [...nodes, { op: "Add", domain: "", inputs: [product, added], outputs: [output], attributes: {} }];
}
