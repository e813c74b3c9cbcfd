/**
 * Dropout that drops nothing. One that drops is drawn in the graph from the counters of the stage it runs in, which
 * `passes/dropout.ts` writes before a graph is differentiated.
 */

import { Tensor } from "../../../protocols/tensor.ts";
import type { GraphBuilder } from "../../onnx/builder.ts";
import { GraphError, type Node } from "../../onnx/graph.ts";
import { describe } from "../../onnx/shapes.ts";
import type { GradientRule } from "../rule.ts";

/**
 * The share of elements that the node drops; 0 where it is not in training mode.
 * @throws GraphError for a ratio or training_mode that is not constant, or a ratio outside of [0, 1).
 */
export function dropRatio(b: GraphBuilder, node: Node): number {
  const given = (index: number, name: string, fallback: number): number => {
    const input = node.inputs[index];
    if (!input) return fallback;
    const value = b.constantNumbers(input)?.[0];
    if (value !== undefined) return value;
    throw new GraphError(`${describe(node)}: ${name} "${input}" should be a constant, and is computed`);
  };
  if (given(2, "training_mode", 0) === 0) return 0;
  const ratio = given(1, "ratio", 0.5);
  if (ratio >= 0 && ratio < 1) return ratio;
  throw new GraphError(`${describe(node)}: a ratio of ${ratio}; it should be at least 0 and below 1`);
}

/** Writes a Dropout that drops nothing. */
export function passOn(b: GraphBuilder, node: Node): void {
  const [y, mask] = node.outputs;
  if (y) b.op("Identity", [node.inputs[0]!], {}, y);
  if (!mask) return;
  const value = new Tensor("bool", [1], Uint8Array.of(1));
  b.op("ConstantOfShape", [b.ints(b.shape(node.inputs[0]!))], { value }, mask);
}

export const dropoutRules: Readonly<Record<string, GradientRule>> = {
  Dropout: {
    limits: "a constant ratio",
    spelling: "a mask hashed from seed, step, micro-batch and the name of its output",
    expand: (b, node) => {
      if (dropRatio(b, node) > 0) {
        throw new GraphError(
          `${describe(node)}: a Dropout that drops is written out by writeDropout before its graph is differentiated`,
        );
      }
      passOn(b, node);
    },
  },
};
