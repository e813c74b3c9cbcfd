/**
 * When frozen weights are widened: matrices that are held in bf16, f16 or 8-bit integers become f32 by a Cast or a
 * DequantizeLinear, and a model's worth of f32 matrices must not be alive at once.
 *
 * ONNX Runtime executes a node that waits for nothing as early as its place in the list allows: written beside their
 * products, 24 matrices [1024, 1024] were all widened first and held 102 MB; written at the head of the list, each
 * waits for its product, and they held 2 MB. And what forward and backward share stays alive between them, or is
 * stashed by a stage; so backward widens again for itself, in other words, since equal nodes would be joined: it counts
 * the axis of a DequantizeLinear from the other end, and casts the weight under another shape.
 */

import type { GraphBuilder } from "../onnx/builder.ts";
import type { Node } from "../onnx/graph.ts";
import { intAttribute } from "../onnx/shapes.ts";

/** The forward pass's nodes, with those that widen held values at their head. */
export function widenLate(nodes: readonly Node[], held: ReadonlySet<string>): readonly Node[] {
  const widening = nodes.filter((node) => widens(node, held));
  return widening.length === 0 ? nodes : [...widening, ...nodes.filter((node) => !widens(node, held))];
}

/**
 * Both passes' nodes, where backward widens for itself; all that widens is at the head.
 * @param builder has the values of both passes, and gets the new ones.
 */
export function widenTwice(
  builder: GraphBuilder,
  forward: readonly Node[],
  backward: readonly Node[],
  held: ReadonlySet<string>,
): readonly Node[] {
  const makers = new Map(
    forward.filter((node) => widens(node, held)).map((node) => [node.outputs[0]!, node]),
  );
  if (makers.size === 0) return [...forward, ...backward];
  const count = builder.nodeList.length;
  const again = new Map<string, string>();
  for (const { inputs } of backward) {
    for (const name of inputs) {
      const maker = makers.get(name);
      if (maker && !again.has(name)) again.set(name, widenAgain(builder, maker));
    }
  }
  return [
    ...builder.nodeList.slice(count),
    ...widenLate(forward, held),
    ...backward.map((node) => ({ ...node, inputs: node.inputs.map((name) => again.get(name) ?? name) })),
  ];
}

function widens({ op, inputs }: Node, held: ReadonlySet<string>): boolean {
  return (op === "Cast" || op === "DequantizeLinear") && inputs.every((input) => held.has(input));
}

/** The same value by nodes that are written differently; a Reshape moves nothing. */
function widenAgain(builder: GraphBuilder, node: Node): string {
  const { op, inputs, attributes } = node;
  const weight = inputs[0]!;
  const shape = builder.shape(weight);
  if (op === "DequantizeLinear") {
    return builder.op(op, inputs, { ...attributes, axis: intAttribute(node, "axis", 1) - shape.length });
  }
  const flat = builder.op("Reshape", [weight, builder.ints([-1])]);
  return builder.op("Reshape", [builder.op(op, [flat], attributes), builder.ints(shape)]);
}
