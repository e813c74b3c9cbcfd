/**
 * The way back: a trained model as an `.onnx` file for inference. The loss and its targets are gone, batch
 * normalisation goes by its running statistics, nothing is dropped, parameters are inside, and one that was used
 * twice is there once.
 */

import type { Tensor } from "../../protocols/tensor.ts";
import { writtenOut } from "../autodiff/write-out.ts";
import { COUNTERS, type Model } from "../model.ts";
import { GraphBuilder } from "../onnx/builder.ts";
import { freeze } from "../onnx/freeze.ts";
import { type Graph, GraphError, type Node } from "../onnx/graph.ts";
import { type ExternalModel, encodeExternalModel, encodeModel } from "../onnx/proto.ts";
import { floatAttribute, inferShapes, intAttribute } from "../onnx/shapes.ts";
import { removeDead, removeIdentities } from "../passes/dead.ts";
import { evaluationForm } from "../passes/evaluation.ts";
import { renameInputs } from "../passes/rewrite.ts";

/** A model whose own outputs are known, as `importModel` gives it. */
type Exportable = Model & {
  readonly inference?: Graph;
  readonly metadata?: Readonly<Record<string, string>>;
};

/**
 * The graph that computes what the model was for: an imported model's own outputs under their names, and else its
 * prediction. Inputs are its data and what it holds, tied parameters once.
 * @throws GraphError for a model of which only the loss is known.
 */
export function inferenceGraph(model: Exportable): Graph {
  const graph = model.inference ?? predicting(model);
  const inferred = { ...graph, nodes: evaluationForm(graph, graph.nodes) };
  const owners = new Map(Object.entries(model.ties));
  const nodes = inferred.nodes.map((node: Node) => renameInputs(node, owners));
  const read = new Set(nodes.flatMap(({ inputs }) => inputs));
  const counters: readonly string[] = COUNTERS;
  const inputs = graph.inputs.filter(({ name }) => read.has(name) && !counters.includes(name));
  const result = removeDead(removeIdentities({ ...inferred, nodes, inputs }));
  const used = new Set(result.nodes.flatMap((node) => node.inputs));
  return { ...result, inputs: result.inputs.filter(({ name }) => used.has(name)) };
}

function predicting({ graph, name, prediction }: Model): Graph {
  if (prediction === null) throw new GraphError(`model ${name} has no prediction to export, only a loss`);
  const type = inferShapes(graph).get(prediction);
  if (!type) throw new GraphError(`model ${name} has no value "${prediction}"`);
  return removeDead({ ...graph, outputs: [{ name: prediction, dtype: type.dtype, shape: type.shape }] });
}

/**
 * @param values of all parameters, frozen values and statistics, by name, as `StageExecutor.tensors` gives them; a tied
 * parameter's under its owner's name. What is missing has its initial value. Borrowed.
 */
export async function exportModel(
  model: Exportable,
  values: ReadonlyMap<string, Tensor>,
  seed = 0,
): Promise<Uint8Array> {
  return encodeModel(await withValues(model, values, seed), model.metadata);
}

/** As `exportModel`, with the data in a file of its own: for more than 2 GB, or to be read in parts. */
export async function exportExternalModel(
  model: Exportable,
  values: ReadonlyMap<string, Tensor>,
  location: string,
  seed = 0,
): Promise<ExternalModel> {
  return encodeExternalModel(await withValues(model, values, seed), location, model.metadata);
}

/** RMSNormalization in operators that every runtime has; ONNX has it since version 23 only. */
function rmsWrittenOut(graph: Graph): Graph {
  if (!graph.nodes.some(({ op }) => op === "RMSNormalization")) return graph;
  const b = new GraphBuilder(graph.name);
  for (const { name, dtype, shape } of graph.inputs) b.input(name, dtype, shape);
  for (const [name, tensor] of graph.initializers) b.constant(name, tensor);
  b.reserve(graph.nodes.flatMap(({ outputs }) => outputs));
  for (const node of graph.nodes) {
    const [x, scale] = node.inputs as [string, string];
    if (node.op !== "RMSNormalization" || intAttribute(node, "axis", -1) !== -1) {
      b.append(node);
      continue;
    }
    const epsilon = b.scalar(floatAttribute(node, "epsilon", 1e-5));
    const mean = b.op("ReduceMean", [b.op("Mul", [x, x]), b.ints([-1])], { keepdims: 1 });
    const normal = b.op("Div", [x, b.op("Sqrt", [b.op("Add", [mean, epsilon])])]);
    b.op("Mul", [normal, scale], {}, node.outputs[0]!);
  }
  for (const { name } of graph.outputs) b.output(name);
  return b.build();
}

/**
 * `inferenceGraph` in operators that engines have, with every value that is held inside.
 * @param values as of `exportModel`.
 */
export async function withValues(
  model: Exportable,
  values: ReadonlyMap<string, Tensor>,
  seed = 0,
): Promise<Graph> {
  const graph = writtenOut(rmsWrittenOut(inferenceGraph(model)));
  const held = new Set([...model.parameters, ...model.frozen, ...Object.keys(model.statistics)]);
  const inside = new Map<string, Tensor>();
  for (const { name } of graph.inputs) {
    if (held.has(name)) inside.set(name, values.get(name) ?? (await model.initial(name, seed)));
  }
  return freeze(graph, inside);
}
