/**
 * Gelu where an exporter wrote it out: x·½·(1 + erf(x/√2)), or ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), with the
 * factors in any order. One operator then, which the gradient rules and the runtimes have in a fast form.
 */

import type { Graph, Node } from "../onnx/graph.ts";
import { Pattern } from "./rewrite.ts";

/** Exporters round these constants to f32, some to f16. */
const near = (value: number, wanted: number) => Math.abs(value - wanted) < 2e-3 * wanted;

/** Values that are multiplied, and the product of the constants among them. */
interface Product {
  readonly factors: readonly string[];
  readonly scale: number;
}

export function fuseGelu(graph: Graph): Graph {
  const pattern = new Pattern(graph);
  for (const node of graph.nodes) {
    if (node.op !== "Mul" && node.op !== "Div") continue;
    const match = geluOf(pattern, node);
    if (!match) continue;
    const attributes: Node["attributes"] = match.approximate ? { approximate: "tanh" } : {};
    const gelu: Node = { op: "Gelu", domain: "", inputs: [match.x], outputs: node.outputs, attributes };
    pattern.replace(node, [gelu]);
  }
  return pattern.result();
}

function geluOf(pattern: Pattern, node: Node): { x: string; approximate: boolean } | undefined {
  const product = productOf(pattern, node.outputs[0]!, 3);
  if (product.factors.length !== 2 || !near(product.scale, 0.5)) return undefined;
  for (const [x, gate] of [product.factors, [...product.factors].reverse()] as [string, string][]) {
    const sum = pattern.maker(gate, "Add");
    const curve = sum && pattern.besides(sum, (value) => value === 1);
    const erf = pattern.maker(curve, "Erf");
    if (erf) {
      const inner = productOf(pattern, erf.inputs[0]!, 1);
      if (inner.factors.join() === x && near(inner.scale, Math.SQRT1_2)) return { x, approximate: false };
    }
    const tanh = pattern.maker(curve, "Tanh");
    if (tanh && isTanhArgument(pattern, tanh.inputs[0]!, x)) return { x, approximate: true };
  }
  return undefined;
}

/** √(2/π)·(x + 0.044715·x³), also with x taken out of the brackets: x·(1 + 0.044715·x²). */
function isTanhArgument(pattern: Pattern, name: string, x: string): boolean {
  const outer = productOf(pattern, name, 1);
  if (!near(outer.scale, Math.sqrt(2 / Math.PI))) return false;
  const rest = outer.factors.filter((factor) => factor !== x);
  if (rest.length !== 1) return false;
  const bracketed = outer.factors.length === 2;
  const sum = pattern.maker(rest[0], "Add");
  if (!sum) return false;
  const cubic = bracketed
    ? pattern.besides(sum, (value) => value === 1)
    : sum.inputs.find((input) => input !== x && sum.inputs.includes(x));
  if (cubic === undefined) return false;
  const term = productOf(pattern, cubic, 3);
  const power = term.factors.reduce((total, factor) => total + powerOf(pattern, factor, x), 0);
  return near(term.scale, 0.044715) && power === (bracketed ? 2 : 3);
}

/** The exponent when a value is a power of x; NaN otherwise. */
function powerOf(pattern: Pattern, name: string, x: string): number {
  if (name === x) return 1;
  const pow = pattern.maker(name, "Pow");
  return pow?.inputs[0] === x ? (pattern.number(pow.inputs[1]) ?? Number.NaN) : Number.NaN;
}

/** A value as a product, taken apart `depth` multiplications deep. */
function productOf(pattern: Pattern, name: string, depth: number): Product {
  const node = depth > 0 ? pattern.maker(name, "Mul", "Div") : undefined;
  const constant = pattern.number(name);
  if (constant !== undefined) return { factors: [], scale: constant };
  if (!node) return { factors: [name], scale: 1 };
  const [a, b] = node.inputs as [string, string];
  const left = productOf(pattern, a, depth - 1);
  if (node.op === "Div") {
    const divisor = pattern.number(b);
    return divisor ? { ...left, scale: left.scale / divisor } : { factors: [name], scale: 1 };
  }
  const right = productOf(pattern, b, depth - 1);
  return { factors: [...left.factors, ...right.factors], scale: left.scale * right.scale };
}
