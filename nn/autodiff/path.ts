/**
 * Where in a graph an operator stands, for the message of an error: the values on a shortest way from what is
 * differentiated, through the node, to what is differentiated.
 */

import type { Graph, Node } from "../onnx/graph.ts";

/** How many values are shown; of a longer way the middle is left out. */
const SHOWN = 8;

/** "w -> a -> b -> loss": from one of `sources` through the node to one of `targets`. */
export function pathThrough(
  graph: Graph,
  node: Node,
  sources: ReadonlySet<string>,
  targets: ReadonlySet<string>,
): string {
  const producers = new Map<string, readonly string[]>();
  const readers = new Map<string, string[]>();
  for (const { inputs, outputs } of graph.nodes) {
    for (const output of outputs) producers.set(output, inputs);
    for (const input of inputs) readers.set(input, [...(readers.get(input) ?? []), ...outputs]);
  }
  const before = shortest(node.inputs, (name) => producers.get(name) ?? [], sources);
  const after = shortest(node.outputs, (name) => readers.get(name) ?? [], targets);
  return shortened([...before.reverse(), ...after]).join(" -> ");
}

/** Breadth first: a shortest way from one of `starts` to one of `ends`, both included; empty when there is none. */
function shortest(
  starts: readonly string[],
  next: (name: string) => readonly string[],
  ends: ReadonlySet<string>,
): string[] {
  const cameFrom = new Map<string, string | undefined>(starts.map((name) => [name, undefined]));
  for (const name of cameFrom.keys()) {
    if (name !== "" && ends.has(name)) {
      const way: string[] = [];
      for (let at: string | undefined = name; at !== undefined; at = cameFrom.get(at)) way.unshift(at);
      return way;
    }
    for (const other of next(name)) if (!cameFrom.has(other)) cameFrom.set(other, name);
  }
  return [];
}

function shortened(names: readonly string[]): string[] {
  if (names.length <= SHOWN) return [...names];
  const left = names.length - SHOWN + 1;
  const half = SHOWN / 2;
  return [...names.slice(0, half), `(${left} more)`, ...names.slice(names.length - half + 1)];
}
