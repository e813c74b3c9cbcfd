/** Removes what no output needs: nodes, constants, outputs of nodes, and nodes that only give a value another name. */

import type { Graph, Node, ValueType } from "../onnx/graph.ts";
import { numbersOf } from "../onnx/numbers.ts";
import { inferShapes } from "../onnx/shapes.ts";
import { renameInputs } from "./rewrite.ts";

/** Operators whose further outputs are optional. */
const OPTIONAL_OUTPUTS = new Set(["Dropout", "LayerNormalization", "MaxPool", "BatchNormalization"]);

/** The graph without dead nodes and unused constants. Inputs stay, read or not. */
export function removeDead(graph: Graph): Graph {
  const used = new Set(graph.outputs.map(({ name }) => name));
  const kept: Node[] = [];
  for (const node of [...graph.nodes].reverse()) {
    if (!node.outputs.some((output) => output !== "" && used.has(output))) continue;
    for (const input of node.inputs) used.add(input);
    kept.push(OPTIONAL_OUTPUTS.has(node.op) ? trimmed(node, used) : node);
  }
  return {
    ...graph,
    initializers: new Map([...graph.initializers].filter(([name]) => used.has(name))),
    nodes: kept.reverse(),
  };
}

function trimmed(node: Node, used: ReadonlySet<string>): Node {
  const outputs = [...node.outputs];
  while (outputs.length > 1 && !used.has(outputs.at(-1)!)) outputs.pop();
  return outputs.length === node.outputs.length ? node : { ...node, outputs };
}

/**
 * The graph without nodes that give their input as it is: Identity, Cast to the same type, Expand, Reshape or Slice to
 * the same shape, Transpose that moves nothing, Concat of one, Dropout that drops nothing.
 */
export function removeIdentities(graph: Graph): Graph {
  const types = inferShapes(graph);
  const outputs = new Set(graph.outputs.map(({ name }) => name));
  const made = new Set(graph.nodes.flatMap((node) => node.outputs));
  const names = new Map<string, string>();
  const nodes: Node[] = [];
  /** Values that an output takes the place of; their makers write the output instead. */
  const outputNames = new Map<string, string>();
  for (const raw of graph.nodes) {
    const node = renameInputs(raw, names);
    const [input, output] = [node.inputs[0]!, node.outputs[0]!];
    const spareOutputs = node.outputs.slice(1).every((name) => name === "");
    if (!spareOutputs || !isIdentity(node, graph, types)) nodes.push(node);
    else if (!outputs.has(output)) names.set(output, input);
    else if (made.has(input) && !outputs.has(input) && !outputNames.has(input))
      outputNames.set(input, output);
    else nodes.push(node);
  }
  const swap = (name: string) => outputNames.get(name) ?? name;
  return {
    ...graph,
    nodes:
      outputNames.size === 0
        ? nodes
        : nodes.map((node) => ({ ...node, inputs: node.inputs.map(swap), outputs: node.outputs.map(swap) })),
  };
}

function isIdentity(node: Node, graph: Graph, types: ReadonlyMap<string, ValueType>): boolean {
  if (node.domain !== "" || node.inputs.length === 0) return false;
  const from = types.get(node.inputs[0]!);
  const to = types.get(node.outputs[0]!);
  const same = from && to && from.dtype === to.dtype && from.shape.join() === to.shape.join();
  if (!same) return false;
  const ints = (index: number) => {
    const tensor = graph.initializers.get(node.inputs[index] ?? "");
    return tensor && numbersOf(tensor);
  };
  switch (node.op) {
    case "Identity":
    case "Cast":
    case "Expand":
    case "Reshape":
    case "Flatten":
    case "Squeeze":
    case "Unsqueeze":
      return true;
    case "Slice":
      return node.inputs[4] ? (ints(4)?.every((step) => step > 0) ?? false) : true;
    case "Transpose":
      return Array.isArray(node.attributes.perm) && node.attributes.perm.every((axis, i) => axis === i);
    case "Concat":
    case "Sum":
    case "Max":
    case "Min":
      return node.inputs.length === 1;
    case "Dropout": {
      const off = !node.inputs[2] || ints(2)?.[0] === 0;
      return off || (node.inputs[1] ? ints(1)?.[0] === 0 : false);
    }
    default:
      return false;
  }
}
