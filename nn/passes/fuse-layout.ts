/**
 * Chains of operators that only rearrange: every one that keeps the order of elements is spelled Reshape, a Reshape
 * of a Reshape is one, a Transpose of a Transpose is one, and a Reshape moves past an elementwise function to the
 * Reshape behind it, so that what stands between two products stands between them directly.
 */

import type { Graph, Node } from "../onnx/graph.ts";
import { Pattern } from "./rewrite.ts";

const VIEWS = ["Reshape", "Squeeze", "Unsqueeze", "Flatten"];

/** Functions of one tensor, element by element. */
const UNARY = [
  "Relu", "Gelu", "Erf", "Tanh", "Sigmoid", "Softplus", "Elu", "LeakyRelu", "HardSwish", "HardSigmoid", "Mish", "Exp",
  "Log", "Sqrt", "Neg", "Abs", "Reciprocal", "Sin", "Cos", "Cast", "Selu", "Celu", "Softsign",
]; // biome-ignore format: a table

export function fuseLayout(graph: Graph): Graph {
  const pattern = new Pattern(graph);
  for (const node of graph.nodes) {
    if (node.domain !== "") continue;
    if (VIEWS.includes(node.op)) {
      const replacement = reshaped(pattern, node);
      if (replacement) pattern.replace(node, replacement);
    } else if (node.op === "Transpose") {
      const before = pattern.maker(node.inputs[0], "Transpose");
      const [first, second] = [before?.attributes.perm, node.attributes.perm];
      if (!before || !Array.isArray(first) || !Array.isArray(second)) continue;
      const perm = second.map((axis) => first[axis]!);
      pattern.replace(node, [{ ...node, inputs: [before.inputs[0]!], attributes: { perm } }]);
    }
  }
  return pattern.result();
}

/**
 * Exporters turn the last two axes of a batch of matrices by making the batch one axis, [N, R, C], and undoing that
 * afterwards: one Transpose.
 */
function turned(pattern: Pattern, node: Node): Node[] | undefined {
  const transpose = pattern.maker(node.inputs[0], "Transpose");
  const view = transpose && pattern.maker(transpose.inputs[0], ...VIEWS);
  if (!view || String(transpose.attributes.perm) !== "0,2,1") return undefined;
  const shape = pattern.shape(view.inputs[0]!);
  const [rows, columns] = shape.slice(-2);
  const wanted = [...shape.slice(0, -2), columns, rows];
  if (shape.length < 4 || String(wanted) !== String(pattern.shape(node.outputs[0]!))) return undefined;
  if (pattern.shape(transpose.inputs[0]!).slice(1).join() !== [rows, columns].join()) return undefined;
  const axes = shape.map((_, axis) => axis);
  const perm = [...axes.slice(0, -2), shape.length - 1, shape.length - 2];
  return [{ ...transpose, inputs: [view.inputs[0]!], outputs: node.outputs, attributes: { perm } }];
}

function reshaped(pattern: Pattern, node: Node): Node[] | undefined {
  const turn = turned(pattern, node);
  if (turn) return turn;
  const shape = pattern.shape(node.outputs[0]!);
  let input = node.inputs[0]!;
  for (let before = pattern.maker(input, ...VIEWS); before; before = pattern.maker(input, ...VIEWS)) {
    input = before.inputs[0]!;
  }
  const between = pattern.maker(input, ...UNARY);
  const view = between && pattern.onlyReader(input) ? pattern.maker(between.inputs[0], ...VIEWS) : undefined;
  if (between && view) {
    const inner = {
      ...between,
      inputs: [view.inputs[0]!],
      outputs: [pattern.fresh(`${node.outputs[0]}.flat`)],
    };
    const same = pattern.shape(view.inputs[0]!).join() === shape.join();
    if (same) return [{ ...inner, outputs: node.outputs }];
    return [inner, reshape(pattern, inner.outputs[0]!, shape, node)];
  }
  const plain = node.op === "Reshape" && pattern.ints(node.inputs[1])?.join() === shape.join();
  if (plain && input === node.inputs[0] && node.attributes.allowzero === undefined) return undefined;
  return [reshape(pattern, input, shape, node)];
}

const reshape = (pattern: Pattern, input: string, shape: readonly number[], node: Node): Node => ({
  op: "Reshape",
  domain: "",
  inputs: [input, pattern.shapeConstant(shape)],
  outputs: node.outputs,
  attributes: {},
});
