/**
 * Operators that ONNX Runtime lacks in our opset, written in those that it has: what differentiation does on its way,
 * for graphs that are only run or exported.
 */

import { GraphBuilder } from "../onnx/builder.ts";
import type { Graph, Node } from "../onnx/graph.ts";
import { GRADIENT_RULES } from "./gradient.ts";

/** The same graph, under the same names, of operators that the runtime has. */
export function writtenOut(graph: Graph): Graph {
  const rule = ({ op }: Node) => {
    const found = GRADIENT_RULES[op];
    return found && "expand" in found && found.always ? found : undefined;
  };
  if (!graph.nodes.some(rule)) return graph;
  const builder = new GraphBuilder(graph.name);
  for (const { name, dtype, shape } of graph.inputs) builder.input(name, dtype, shape);
  for (const [name, tensor] of graph.initializers) builder.constant(name, tensor);
  builder.reserve(graph.nodes.flatMap(({ outputs }) => outputs));
  for (const node of graph.nodes) {
    const found = rule(node);
    if (found) found.expand(builder, node);
    else builder.append(node);
  }
  for (const { name } of graph.outputs) builder.output(name);
  return builder.build();
}
