/**
 * One parameter used in two places, such as a token table that is also the head, as two that stay equal: a model can
 * be cut between its uses then (`ties` of nn/model.ts).
 */

import type { Graph, Node } from "../onnx/graph.ts";

/** Operators that read a matrix as such: a device that has one of them holds the matrix. */
const READERS = new Set(["Gather", "Gemm", "MatMul", "FusedMatMul", "Conv", "ConvTranspose", "Einsum"]);

/** Nodes that read `parameter` as a matrix; what only reads it in another form (a Transpose) counts once. */
function readersOf(graph: Graph, parameter: string): Node[] {
  return graph.nodes.filter(({ inputs }) => inputs.includes(parameter));
}

/** Whether more than one node looks something up in `parameter` or multiplies by it. */
export function isTied(graph: Graph, parameter: string): boolean {
  return readersOf(graph, parameter).filter(({ op }) => READERS.has(op)).length > 1;
}

/**
 * Gives every reader of `parameter` after the first an input of its own.
 * @returns the graph, and which parameter each new input is a use of.
 */
export function untie(graph: Graph, parameter: string): { graph: Graph; ties: Record<string, string> } {
  const ties: Record<string, string> = {};
  const further = new Map<Node, string>();
  const taken = new Set([
    ...graph.inputs.map(({ name }) => name),
    ...graph.nodes.flatMap(({ outputs }) => outputs),
  ]);
  for (const node of readersOf(graph, parameter).slice(1)) {
    let number = 2;
    while (taken.has(`${parameter}.use${number}`)) number++;
    const name = `${parameter}.use${number}`;
    taken.add(name);
    ties[name] = parameter;
    further.set(node, name);
  }
  const nodes = graph.nodes.map((node) => {
    const name = further.get(node);
    if (name === undefined) return node;
    return { ...node, inputs: node.inputs.map((input) => (input === parameter ? name : input)) };
  });
  const inputs = graph.inputs.flatMap((input) =>
    input.name === parameter ? [input, ...Object.keys(ties).map((name) => ({ ...input, name }))] : [input],
  );
  return { graph: { ...graph, inputs, nodes }, ties };
}
