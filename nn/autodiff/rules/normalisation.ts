/** Gradients of normalisations. */

import type { GraphBuilder } from "../../onnx/builder.ts";
import { float, GraphError } from "../../onnx/graph.ts";
import { describe, floatAttribute, intAttribute, normalAxis } from "../../onnx/shapes.ts";
import { columnSum, type GradientRule } from "../rule.ts";

/** Weighted mean of every row of x [M, D]: x · (weights/D) as one product with a column, [M, 1]. */
function rowMean(b: GraphBuilder, x: string, weights: string): string {
  return b.op("Gemm", [x, weights], { alpha: float(1 / b.shape(x)[1]!), beta: float(0) });
}

export const normalisationRules: Readonly<Record<string, GradientRule>> = {
  /**
   * Layer normalisation over the last axis (Ba et al., 2016). Statistics come from the forward pass. With n the
   * normalised input and g the scale, dx = (dy∘g − mean(dy∘g) − n·mean(dy∘n∘g))·r, and the two means are products
   * with g, which read their operand once and write a column. The statistics themselves have no gradient.
   */
  LayerNormalization: {
    forward: (b, node) => {
      const shape = b.shape(node.inputs[0]!);
      if (normalAxis(intAttribute(node, "axis", -1), shape.length) !== shape.length - 1) {
        throw new GraphError(`${describe(node)}: its gradient is known for the last axis only`);
      }
      const width = shape.at(-1)!;
      for (const input of node.inputs.slice(1).filter((name) => name !== "")) {
        if (b.shape(input).join() !== `${width}`) {
          throw new GraphError(
            `${describe(node)}: its gradient is known for scale and bias of [${width}] only`,
          );
        }
      }
      const y = node.outputs[0]!;
      const mean = node.outputs[1] || b.fresh("ln.mean");
      const deviation = node.outputs[2] || b.fresh("ln.inverse_deviation");
      b.node("LayerNormalization", node.inputs, {
        attributes: { axis: -1, epsilon: float(floatAttribute(node, "epsilon", 1e-5)) },
        outputs: [y, mean, deviation],
      });
      return { mean, deviation };
    },
    backward: ({ builder: b, node, gradient, wants, saved }) => {
      if (gradient(1) || gradient(2)) {
        throw new GraphError(`${describe(node)}: the gradient through its mean and deviation is not known`);
      }
      const shape = b.shape(node.inputs[0]!);
      const width = shape.at(-1)!;
      const flat = (name: string, columns: number) =>
        shape.length === 2 ? name : b.op("Reshape", [name, b.ints([-1, columns])]);
      const x = flat(node.inputs[0]!, width);
      const dy = flat(gradient(0)!, width);
      const [mean, deviation] = [flat(saved.mean!, 1), flat(saved.deviation!, 1)];
      const scale = node.inputs[1]!;
      const normal = b.op("Mul", [b.op("Sub", [x, mean]), deviation]);
      const weighted = b.op("Mul", [dy, normal]);
      const dScale = wants(1) ? columnSum(b, weighted) : undefined;
      const dShift = wants(2) ? columnSum(b, dy) : undefined;
      if (!wants(0)) return [undefined, dScale, dShift];
      const column = b.op("Reshape", [scale, b.ints([width, 1])]);
      const meanScaled = rowMean(b, dy, column);
      const meanWeighted = rowMean(b, weighted, column);
      const centred = b.op("Sub", [b.op("Mul", [dy, scale]), meanScaled]);
      const dx = b.op("Mul", [b.op("Sub", [centred, b.op("Mul", [normal, meanWeighted])]), deviation]);
      return [shape.length === 2 ? dx : b.op("Reshape", [dx, b.ints(shape)]), dScale, dShift];
    },
  },
};
