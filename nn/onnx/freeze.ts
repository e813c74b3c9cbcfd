/** A graph with its parameters inside: what an inference runtime elsewhere wants. */

import type { Tensor } from "../../protocols/tensor.ts";
import { type Graph, GraphError } from "./graph.ts";
import { typeText } from "./shapes.ts";

/**
 * Turns the inputs named in `values` into constants. Tensors are borrowed.
 * @throws GraphError for an unknown name, or a tensor that is not of the input's type.
 */
export function freeze(graph: Graph, values: ReadonlyMap<string, Tensor>): Graph {
  const inputs = new Map(graph.inputs.map((input) => [input.name, input]));
  for (const [name, value] of values) {
    const input = inputs.get(name);
    if (!input) throw new GraphError(`graph ${graph.name} has no input "${name}" to freeze`);
    if (typeText(input) !== typeText(value)) {
      throw new GraphError(
        `input "${name}" is ${typeText(input)} and cannot be frozen to ${typeText(value)}`,
      );
    }
  }
  return {
    ...graph,
    inputs: graph.inputs.filter(({ name }) => !values.has(name)),
    initializers: new Map([...graph.initializers, ...values]),
  };
}
