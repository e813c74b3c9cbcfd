/**
 * Cuts a graph out of a list of nodes: everything that is needed to get from given values to wanted ones.
 * Dead nodes fall away by the same walk.
 */

import type { Tensor } from "../../protocols/tensor.ts";
import { GraphBuilder } from "./builder.ts";
import { type Graph, GraphError, type Node, type ValueInfo } from "./graph.ts";

export interface Source {
  readonly name: string;
  /** In topological order. */
  readonly nodes: readonly Node[];
  readonly initializers: ReadonlyMap<string, Tensor>;
}

/**
 * The smallest graph that computes `outputs` from values in `available`, which become its inputs where used, in
 * their order. Nodes above an available value are not entered.
 * @throws GraphError when an output cannot be computed from what is available.
 */
export function extract(source: Source, available: readonly ValueInfo[], outputs: readonly string[]): Graph {
  const given = new Set(available.map(({ name }) => name));
  const producer = new Map<string, Node>();
  for (const node of source.nodes) for (const output of node.outputs) producer.set(output, node);

  const kept = new Set<Node>();
  const used = new Set<string>();
  const pending = [...outputs];
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (name === "" || used.has(name)) continue;
    used.add(name);
    if (given.has(name) || source.initializers.has(name)) continue;
    const node = producer.get(name);
    if (!node) throw new GraphError(`graph ${source.name}: nothing available computes "${name}"`);
    if (!kept.has(node)) {
      kept.add(node);
      pending.push(...node.inputs);
    }
  }

  const builder = new GraphBuilder(source.name);
  for (const { name, dtype, shape } of available) if (used.has(name)) builder.input(name, dtype, shape);
  for (const [name, tensor] of source.initializers) if (used.has(name)) builder.constant(name, tensor);
  for (const node of source.nodes) {
    // A kept node may also produce a value that is given: the given one wins, the produced one gets another name.
    if (kept.has(node)) builder.append(hideGiven(node, given));
  }
  for (const output of outputs) builder.output(output);
  return builder.build();
}

function hideGiven(node: Node, given: ReadonlySet<string>): Node {
  if (!node.outputs.some((output) => given.has(output))) return node;
  return {
    ...node,
    outputs: node.outputs.map((output) => (given.has(output) ? `${output}.recomputed` : output)),
  };
}
