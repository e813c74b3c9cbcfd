/**
 * Gradients of operators that give the same elements another shape or order, or repeat them. A view costs nothing
 * and neither does its gradient; a transpose is undone by its inverse; a repetition is summed.
 */

import { GraphError } from "../../onnx/graph.ts";
import { describe, intAttribute, intsAttribute } from "../../onnx/shapes.ts";
import { type GradientRule, unbroadcast } from "../rule.ts";

/** The gradient has the input's elements in the same order, so it is reshaped back. */
const reshaped: GradientRule = {
  backward: ({ builder: b, node, gradient }) => [
    b.op("Reshape", [gradient(0)!, b.ints(b.shape(node.inputs[0]!))], { allowzero: 1 }),
  ],
};

export const shapeRules: Readonly<Record<string, GradientRule>> = {
  Reshape: reshaped,
  Flatten: reshaped,
  Squeeze: reshaped,
  Unsqueeze: reshaped,

  Transpose: {
    backward: ({ builder: b, node, gradient }) => {
      const rank = b.shape(node.inputs[0]!).length;
      const perm = intsAttribute(node, "perm") ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
      return [b.op("Transpose", [gradient(0)!], { perm: perm.map((_, i) => perm.indexOf(i)) })];
    },
  },

  Expand: {
    backward: ({ builder: b, node, gradient }) => [unbroadcast(b, gradient(0)!, b.shape(node.inputs[0]!))],
  },

  /** Every repeated axis is taken apart into repetitions and elements, and the repetitions are summed. */
  Tile: {
    backward: ({ builder: b, node, gradient }) => {
      const shape = b.shape(node.inputs[0]!);
      const apart: number[] = [];
      const repetitions: number[] = [];
      b.shape(node.outputs[0]!).forEach((size, axis) => {
        const repeats = size / shape[axis]!;
        if (repeats > 1) repetitions.push(apart.push(repeats) - 1);
        apart.push(shape[axis]!);
      });
      if (repetitions.length === 0) return [gradient(0)!];
      const pieces = b.op("Reshape", [gradient(0)!, b.ints(apart)]);
      return [b.op("ReduceSum", [pieces, b.ints(repetitions)], { keepdims: 0 })];
    },
  },

  /**
   * Blocks of channels spread over space: undone by SpaceToDepth where the block is the slower part of the channel
   * (mode "DCR"), and by a transpose where it is the faster one ("CRD", PyTorch's pixel shuffle).
   */
  DepthToSpace: {
    backward: ({ builder: b, node, gradient }) => {
      const blocksize = intAttribute(node, "blocksize", 1);
      const mode = node.attributes.mode ?? "DCR";
      if (mode === "DCR") return [b.op("SpaceToDepth", [gradient(0)!], { blocksize })];
      if (mode !== "CRD") throw new GraphError(`${describe(node)}: no mode "${mode}"; there are DCR and CRD`);
      const shape = b.shape(node.inputs[0]!);
      const [n, c, h, w] = shape as [number, number, number, number];
      const blocks = b.ints([n, c / blocksize ** 2, h, blocksize, w, blocksize]);
      const spread = b.op("Reshape", [gradient(0)!, blocks]);
      return [b.op("Reshape", [b.op("Transpose", [spread], { perm: [0, 1, 3, 5, 2, 4] }), b.ints(shape)])];
    },
  },

  SpaceToDepth: {
    backward: ({ builder: b, node, gradient }) => {
      const blocksize = intAttribute(node, "blocksize", 1);
      return [b.op("DepthToSpace", [gradient(0)!], { blocksize, mode: "DCR" })];
    },
  },
};
