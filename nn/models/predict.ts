/** A trained model as it predicts: without its loss, without dropout, normalising by running statistics. */

import type { Model } from "../model.ts";
import { extract } from "../onnx/extract.ts";
import { type Graph, GraphError } from "../onnx/graph.ts";
import { evaluationForm } from "../passes/evaluation.ts";

/**
 * The graph from the data inputs that the prediction needs, parameters, frozen values and statistics to the
 * prediction. Rows of a micro-batch are those of the model; make it with one row for a file that others run.
 * @throws GraphError for a model of which it is not known what it predicts with.
 */
export function predictionGraph({ name, graph, prediction }: Model): Graph {
  if (prediction === null) {
    throw new GraphError(`model ${name}: it is not known which of its values is the prediction`);
  }
  const nodes = evaluationForm(graph, graph.nodes);
  return extract({ name, initializers: graph.initializers, nodes }, graph.inputs, [prediction]);
}
