/**
 * The two forms of operators that differ between training and inference. Files have either: an exporter writes what
 * the model was set to. Both forms are made of one graph, whose batch normalisations are those of inference.
 */

import { Tensor } from "../../protocols/tensor.ts";
import { type Graph, GraphError, type Node } from "../onnx/graph.ts";
import { describe } from "../onnx/shapes.ts";
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
 * @returns the graph, with the new running statistics as further outputs, and which output replaces which input.
 */
export function trainBatchNorm(graph: Graph): { graph: Graph; statistics: Record<string, string> } {
  const statistics: Record<string, string> = {};
  const inputs = new Map(graph.inputs.map((input) => [input.name, input]));
  const nodes = graph.nodes.map((node): Node => {
    if (!isBatchNorm(node)) return node;
    const running = node.inputs.slice(3, 5);
    if (!running.every((name) => inputs.has(name))) return node;
    const outputs = running.map((name) => {
      if (Object.hasOwn(statistics, name)) {
        throw new GraphError(
          `${describe(node)}: the running statistic "${name}" is of another normalisation too`,
        );
      }
      statistics[name] = `next.${name}`;
      return statistics[name];
    });
    const attributes = { ...node.attributes, training_mode: 1 };
    return { ...node, outputs: [node.outputs[0]!, ...outputs], attributes };
  });
  const added = Object.entries(statistics).map(([from, to]) => ({ ...inputs.get(from)!, name: to }));
  return { graph: { ...graph, outputs: [...graph.outputs, ...added], nodes }, statistics };
}
