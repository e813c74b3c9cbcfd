/** A model without its loss and as it is in use: from data to what it predicts with. */

import type { Model } from "./model.ts";
import { extract } from "./onnx/extract.ts";
import { type Graph, GraphError } from "./onnx/graph.ts";
import { evaluationForm } from "./passes/evaluation.ts";

/**
 * The graph that ends in `model.prediction`; parameters, frozen values and statistics are inputs as before.
 * @throws GraphError when the model does not say what it predicts with.
 */
export function predictionGraph({ name, graph, prediction }: Model): Graph {
  if (prediction === null) throw new GraphError(`model ${name}: its prediction is not known, only its loss`);
  const nodes = evaluationForm(graph, graph.nodes);
  return extract({ name, nodes, initializers: graph.initializers }, graph.inputs, [prediction]);
}
