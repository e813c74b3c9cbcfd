/**
 * What differs between training and validation: Dropout lets everything through, and BatchNormalization uses its
 * running statistics instead of the micro-batch's own. The nodes here stand in for those of the training graph, under
 * the same output names, so that everything around them is spelled as in training and rounds alike.
 */

import { type Graph, GraphError, type Node } from "../onnx/graph.ts";
import { describe, intAttribute } from "../onnx/shapes.ts";

/** Stand-ins for validation, by the name of the output they compute; empty where the two forms are one. */
export function evaluationNodes(graph: Graph): Map<string, Node> {
  const standIns = new Map<string, Node>();
  for (const node of graph.nodes) {
    const [input, output] = [node.inputs[0]!, node.outputs[0]!];
    if (node.op === "Dropout") {
      standIns.set(output, {
        op: "Identity",
        domain: "",
        inputs: [input],
        outputs: [output],
        attributes: {},
      });
    } else if (node.op === "BatchNormalization" && intAttribute(node, "training_mode", 0) === 1) {
      if (node.inputs.length < 5) throw new GraphError(`${describe(node)}: has no running statistics`);
      const attributes = { ...node.attributes, training_mode: 0 };
      standIns.set(output, { ...node, outputs: [output], attributes });
    }
  }
  return standIns;
}

/** `nodes`, which compute what `graph` does in training, as they are in validation. */
export function evaluationForm(graph: Graph, nodes: readonly Node[]): readonly Node[] {
  const standIns = evaluationNodes(graph);
  if (standIns.size === 0) return nodes;
  return nodes.map((node) => {
    const output = node.outputs.find((name) => standIns.has(name));
    return output === undefined ? node : standIns.get(output)!;
  });
}
