/**
 * The two forms of operators that differ between training and inference. Files have either: an exporter writes what
 * the model was set to. Both forms are made of one graph, whose batch normalisations are those of inference.
 */

import { elements, Tensor } from "../../protocols/tensor.ts";
import { GraphBuilder } from "../onnx/builder.ts";
import { type Graph, GraphError, type Node } from "../onnx/graph.ts";
import { unbiasedVariance } from "../onnx/running-variance.ts";
import { describe, floatAttribute } from "../onnx/shapes.ts";
import type { Untyped } from "../passes/fold.ts";

const isBatchNorm = ({ op, domain }: Node) => op === "BatchNormalization" && domain === "";

/** Names of constants that say yes. */
const YES = "troupe.true";

/** Batch normalisations by running statistics; every Dropout drops when training, as one exported for inference may not. */
export function canonical(graph: Untyped, training: boolean): Untyped {
  const initializers = new Map(graph.initializers);
  const nodes = graph.nodes.map((node): Node => {
    if (isBatchNorm(node)) {
      return {
        ...node,
        outputs: node.outputs.slice(0, 1),
        attributes: { ...node.attributes, training_mode: 0 },
      };
    }
    if (node.op === "Dropout" && training) {
      initializers.set(YES, new Tensor("bool", [], Uint8Array.of(1)));
      return { ...node, inputs: [node.inputs[0]!, node.inputs[1] ?? "", YES] };
    }
    return node;
  });
  return { ...graph, initializers, nodes };
}

/** Constants that are running statistics of batch normalisations. */
export function runningStatistics(graph: Untyped): string[] {
  const names = graph.nodes.filter(isBatchNorm).flatMap(({ inputs }) => inputs.slice(3, 5));
  return [...new Set(names)].filter((name) => graph.initializers.has(name));
}

/**
 * Batch normalisations by the batch's own statistics, which are also added to the running ones.
 * @param unbiased whether running variances are of the sample, as PyTorch has them, or of the population, as ONNX says.
 * @returns the graph, with the new running statistics as further outputs, and which output replaces which input.
 */
export function trainBatchNorm(
  graph: Graph,
  unbiased: boolean,
): { graph: Graph; statistics: Record<string, string> } {
  const statistics: Record<string, string> = {};
  const inputs = new Set(graph.inputs.map(({ name }) => name));
  const trains = (node: Node) =>
    isBatchNorm(node) && node.inputs.slice(3, 5).every((name) => inputs.has(name));
  if (!graph.nodes.some(trains)) return { graph, statistics };
  const b = new GraphBuilder(graph.name);
  for (const { name, dtype, shape } of graph.inputs) b.input(name, dtype, shape);
  for (const [name, tensor] of graph.initializers) b.constant(name, tensor);
  b.reserve(graph.nodes.flatMap(({ outputs }) => outputs));
  for (const node of graph.nodes) {
    if (!trains(node)) {
      b.append(node);
      continue;
    }
    const [mean, before] = node.inputs.slice(3, 5) as [string, string];
    for (const name of [mean, before]) {
      if (!Object.hasOwn(statistics, name)) continue;
      throw new GraphError(
        `${describe(node)}: the running statistic "${name}" is of another normalisation too`,
      );
    }
    const [nextMean, after] = [b.fresh(`next.${mean}`), b.fresh(`next.${before}`)];
    const attributes = { ...node.attributes, training_mode: 1 };
    b.append({ ...node, outputs: [node.outputs[0]!, nextMean, after], attributes });
    const momentum = floatAttribute(node, "momentum", 0.9);
    const count = elements(b.shape(node.inputs[0]!)) / elements(b.shape(mean));
    statistics[mean] = nextMean;
    statistics[before] = unbiased ? unbiasedVariance(b, { before, after, momentum, count }) : after;
  }
  for (const name of [...graph.outputs.map((output) => output.name), ...Object.values(statistics)])
    b.output(name);
  return { graph: b.build(), statistics };
}
