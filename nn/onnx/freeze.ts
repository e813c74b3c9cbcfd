/** A graph with its parameters inside: what an inference runtime elsewhere wants. */

import type { Tensor } from "../../protocols/tensor.ts";
import { type Graph, GraphError } from "./graph.ts";

/** Turns the inputs named in `values` into constants. Tensors are borrowed. @throws GraphError for an unknown name. */
export function freeze(graph: Graph, values: ReadonlyMap<string, Tensor>): Graph {
  const names = new Set(graph.inputs.map(({ name }) => name));
  for (const name of values.keys()) {
    if (!names.has(name)) throw new GraphError(`graph ${graph.name} has no input "${name}" to freeze`);
  }
  return {
    ...graph,
    inputs: graph.inputs.filter(({ name }) => !values.has(name)),
    initializers: new Map([...graph.initializers, ...values]),
  };
}
