/**
 * The inference form of a training graph, to run or export what was trained: Dropout is gone, batch normalisation uses
 * its running statistics, and what only training needs (new statistics, masks) falls away. For validation beside
 * training there is `evaluation.ts`, which keeps the spelling of the training graph.
 */

import type { Graph } from "../onnx/graph.ts";
import { removeDead, removeIdentities } from "./dead.ts";
import { evaluationForm } from "./evaluation.ts";

/**
 * @param outputs what to keep of the graph's outputs; those that inference has no use for (new running statistics)
 *   should be left out.
 * @throws GraphError for a batch normalisation without running statistics, or an output that inference does not make.
 */
export function inferenceForm(graph: Graph, outputs: readonly string[]): Graph {
  const wanted = new Set(outputs);
  const nodes = evaluationForm(graph, graph.nodes);
  return removeDead(
    removeIdentities({ ...graph, nodes, outputs: graph.outputs.filter(({ name }) => wanted.has(name)) }),
  );
}
