/**
 * How running statistics forget. One that is an exponential mean, as batch normalisation's are, is affine in what it was
 * before a micro-batch, after = decay · before + what the micro-batch adds. So micro-batches can be added up apart from
 * each other, by whoever has them, each with the decay of those behind it.
 *
 * What of a value is the statistic as it was is followed through the graph: nothing else may depend on it.
 */

import { type Graph, GraphError, type Node } from "../onnx/graph.ts";
import { numbersOf } from "../onnx/numbers.ts";
import { describe, floatAttribute, intAttribute } from "../onnx/shapes.ts";

/**
 * The decay of every statistic, by name.
 * @param graph a forward graph, as it is in training. @param statistics from each input to the output that replaces it.
 * @throws GraphError naming the node where one is used otherwise.
 */
export function statisticDecays(
  graph: Graph,
  statistics: Readonly<Record<string, string>>,
): Map<string, number> {
  return new Map(
    Object.entries(statistics).map(([name, output]) => [name, decayOf(graph, name, output)] as const),
  );
}

function decayOf(graph: Graph, statistic: string, output: string): number {
  /** What each value has of the statistic; nothing where left out. */
  const parts = new Map([[statistic, 1]]);
  for (const node of graph.nodes) {
    const uses = node.inputs.some((name) => parts.has(name));
    if (!uses) continue;
    const result = partOf(node, parts, graph);
    if (!result) {
      throw new GraphError(
        `${describe(node)}: reads the running statistic "${statistic}", which is then no exponential mean, and micro-batches cannot be added to it apart from each other`,
      );
    }
    parts.set(result.output, result.part);
  }
  const others = graph.outputs.filter(({ name }) => name !== output && parts.has(name));
  if (others.length > 0) {
    throw new GraphError(`output "${others[0]!.name}" depends on the running statistic "${statistic}"`);
  }
  return parts.get(output) ?? 0;
}

/** Which output of a node has what part of the statistic; null where that cannot be said. */
function partOf(
  node: Node,
  parts: ReadonlyMap<string, number>,
  { initializers }: Graph,
): { output: string; part: number } | null {
  const [a, b] = node.inputs.map((name) => parts.get(name) ?? 0) as [number, number];
  const output = node.outputs[0]!;
  switch (node.op) {
    case "Identity":
      return { output, part: a };
    case "Add":
      return { output, part: a + b };
    case "Sub":
      return { output, part: a - b };
    case "Mul": {
      const factor = initializers.get(node.inputs[a === 0 ? 0 : 1]!);
      if (factor?.elements !== 1) return null;
      return { output, part: (a === 0 ? b : a) * numbersOf(factor)[0]! };
    }
    case "BatchNormalization": {
      if (intAttribute(node, "training_mode", 0) !== 1) return null;
      const at = node.inputs.findIndex((name) => parts.has(name));
      const moved = node.outputs[at - 2];
      if (at < 3 || !moved) return null;
      const momentum = Math.fround(floatAttribute(node, "momentum", 0.9));
      return { output: moved, part: parts.get(node.inputs[at]!)! * momentum };
    }
    default:
      return null;
  }
}
