/**
 * Normalisation over the last axis where an exporter wrote it out:
 *
 * - (x − mean x) / √(mean (x − mean x)² + ε) · w + b is LayerNormalization;
 * - x / √(mean x² + ε) · w is RMSNormalization.
 *
 * The quotient may be a division, a product with a reciprocal or with a power of −½; the square a power or a product.
 */

import { Tensor } from "../../protocols/tensor.ts";
import { float, type Graph, type Node } from "../onnx/graph.ts";
import { intAttribute } from "../onnx/shapes.ts";
import { Pattern } from "./rewrite.ts";

/** x over the root of the mean square of y, plus epsilon. */
interface Quotient {
  readonly x: string;
  readonly y: string;
  readonly epsilon: number;
}

export function fuseNormalisation(graph: Graph): Graph {
  const pattern = new Pattern(graph);
  for (const node of graph.nodes) {
    const quotient = quotientOf(pattern, node);
    if (!quotient || quotient.x !== quotient.y) continue;
    const centred = centredOf(pattern, quotient.x);
    const scaled = scaledOf(pattern, node.outputs[0]!);
    if (centred === undefined) {
      if (scaled) pattern.replace(scaled.node, [rms(quotient, scaled)]);
      continue;
    }
    const width = pattern.shape(centred).at(-1)!;
    const shifted = scaled && shiftedOf(pattern, scaled.node.outputs[0]!, width);
    const last = shifted?.node ?? scaled?.node ?? node;
    const ones = () =>
      pattern.newConstant(`ones.${width}`, Tensor.f32([width], new Float32Array(width).fill(1)));
    const weights = [scaled?.weight ?? ones(), ...(shifted ? [shifted.bias] : [])];
    const norm: Node = {
      op: "LayerNormalization",
      domain: "",
      inputs: [centred, ...weights],
      outputs: last.outputs,
      attributes: { axis: -1, epsilon: float(quotient.epsilon) },
    };
    pattern.replace(last, [norm]);
  }
  return pattern.result();
}

const rms = ({ x, epsilon }: Quotient, scaled: { node: Node; weight: string }): Node => ({
  op: "RMSNormalization",
  domain: "",
  inputs: [x, scaled.weight],
  outputs: scaled.node.outputs,
  attributes: { axis: -1, epsilon: float(epsilon) },
});

function quotientOf(pattern: Pattern, node: Node): Quotient | undefined {
  if (node.domain !== "") return undefined;
  const of = (x: string, mean: string | undefined): Quotient | undefined => {
    const sum = pattern.maker(mean, "Add");
    const square = sum && pattern.besides(sum, (value) => value > 0 && value < 0.1);
    const y = square === undefined ? undefined : meanSquareOf(pattern, square);
    if (!sum || y === undefined) return undefined;
    const epsilon = sum.inputs.map((input) => pattern.number(input)).find((value) => value !== undefined)!;
    return { x, y, epsilon };
  };
  const [a, b] = node.inputs as [string, string];
  if (node.op === "Div") return of(a, rootOf(pattern, b));
  if (node.op !== "Mul") return undefined;
  for (const [x, factor] of [
    [a, b],
    [b, a],
  ] as const) {
    const reciprocal = pattern.maker(factor, "Reciprocal");
    const quotient = pattern.maker(factor, "Div");
    const power = pattern.maker(factor, "Pow");
    let found: Quotient | undefined;
    if (reciprocal) found = of(x, rootOf(pattern, reciprocal.inputs[0]!));
    else if (quotient && pattern.number(quotient.inputs[0]) === 1)
      found = of(x, rootOf(pattern, quotient.inputs[1]!));
    else if (power && pattern.number(power.inputs[1]) === -0.5) found = of(x, power.inputs[0]);
    if (found) return found;
  }
  return undefined;
}

/** What a value is the square root of. */
function rootOf(pattern: Pattern, name: string): string | undefined {
  const power = pattern.maker(name, "Pow");
  if (power) return pattern.number(power.inputs[1]) === 0.5 ? power.inputs[0] : undefined;
  return pattern.maker(name, "Sqrt")?.inputs[0];
}

/** y where a value is the mean of y² over the last axis. */
function meanSquareOf(pattern: Pattern, name: string): string | undefined {
  const square = meanOf(pattern, name);
  const power = pattern.maker(square, "Pow");
  if (power) return pattern.number(power.inputs[1]) === 2 ? power.inputs[0] : undefined;
  const product = pattern.maker(square, "Mul");
  return product && product.inputs[0] === product.inputs[1] ? product.inputs[0] : undefined;
}

/** What a value is the mean of, over the last axis, which is kept. */
function meanOf(pattern: Pattern, name: string | undefined): string | undefined {
  const mean = pattern.maker(name, "ReduceMean");
  if (!mean || intAttribute(mean, "keepdims", 1) !== 1) return undefined;
  const axes = pattern.ints(mean.inputs[1]);
  const rank = pattern.shape(mean.inputs[0]!).length;
  return axes?.length === 1 && (axes[0] === -1 || axes[0] === rank - 1) ? mean.inputs[0] : undefined;
}

/** x where a value is x minus its mean. */
function centredOf(pattern: Pattern, name: string): string | undefined {
  const difference = pattern.maker(name, "Sub");
  return difference && meanOf(pattern, difference.inputs[1]) === difference.inputs[0]
    ? difference.inputs[0]
    : undefined;
}

/** The product with a vector as long as the last axis that alone reads a value. */
function scaledOf(pattern: Pattern, name: string): { node: Node; weight: string } | undefined {
  const found = withVector(pattern, name, "Mul", pattern.shape(name).at(-1)!);
  return found && { node: found.node, weight: found.vector };
}

function shiftedOf(pattern: Pattern, name: string, width: number): { node: Node; bias: string } | undefined {
  const found = withVector(pattern, name, "Add", width);
  return found && { node: found.node, bias: found.vector };
}

function withVector(
  pattern: Pattern,
  name: string,
  op: string,
  width: number,
): { node: Node; vector: string } | undefined {
  const node = pattern.onlyReader(name);
  if (node?.op !== op || node.domain !== "") return undefined;
  const vector = node.inputs.find((input) => input !== name);
  if (vector === undefined || pattern.shape(vector).join() !== String(width)) return undefined;
  return { node, vector };
}
