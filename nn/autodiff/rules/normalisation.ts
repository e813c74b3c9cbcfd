/** Gradients of normalisations over the last axes of each sample. */

import { elements, type Shape } from "../../../protocols/tensor.ts";
import type { Attributes, GraphBuilder } from "../../onnx/builder.ts";
import { float, GraphError, type Node } from "../../onnx/graph.ts";
import { describe, floatAttribute, intAttribute, normalAxis } from "../../onnx/shapes.ts";
import { type CompositeRule, columnSum, type GradientRule } from "../rule.ts";

/** Weighted mean of every row of x [M, D]: x · (weights/D) as one product with a column, [M, 1]. */
function rowMean(b: GraphBuilder, x: string, weights: string): string {
  return b.op("Gemm", [x, weights], { alpha: float(1 / b.shape(x)[1]!), beta: float(0) });
}

/** The same elements as a matrix of so many columns. */
function matrix(b: GraphBuilder, x: string, columns: number): string {
  const shape = b.shape(x);
  return shape.length === 2 && shape[1] === columns ? x : b.op("Reshape", [x, b.ints([-1, columns])]);
}

/** A gradient by columns in the shape of the scale or bias that it is for. */
function shaped(b: GraphBuilder, gradient: string, shape: Shape): string {
  return shape.length === 1 ? gradient : b.op("Reshape", [gradient, b.ints(shape)]);
}

/** The axis from which on is normalised, and the elements there. @throws GraphError for scales of another shape. */
function normalised(b: GraphBuilder, node: Node): { axis: number; width: number } {
  const shape = b.shape(node.inputs[0]!);
  const axis = normalAxis(intAttribute(node, "axis", -1), shape.length);
  const row = shape.slice(axis);
  for (const input of node.inputs.slice(1).filter((name) => name !== "")) {
    if (b.shape(input).join() !== row.join()) {
      throw new GraphError(`${describe(node)}: its gradient is known for scale and bias of [${row}] only`);
    }
  }
  return { axis, width: elements(row) };
}

/**
 * ONNX Runtime's sum of a value, a skip connection and a bias, normalised over the last axis; the sum is its last
 * output. Written out it is faster in training: the fused operator gives no statistics, and is slow.
 */
function skip(normalisation: string, bias: number): CompositeRule {
  return {
    spelling: `Add, ${normalisation}`,
    expand: (b, node) => {
      if (node.outputs[1] || node.outputs[2]) {
        throw new GraphError(`${describe(node)}: its mean and deviation are not known as outputs`);
      }
      const [x, skipped] = node.inputs as [string, string];
      const terms = [skipped, node.inputs[bias] ?? ""].filter((name) => name !== "");
      const output = node.outputs[3] || undefined;
      const sum = terms.reduce((total, term, i) => {
        return b.op("Add", [total, term], {}, i === terms.length - 1 ? output : undefined);
      }, x);
      const scales = node.inputs.slice(2, bias).filter((name) => name !== "");
      const stash: Attributes = normalisation === "LayerNormalization" ? {} : { stash_type: 1 };
      b.node(normalisation, [sum, ...scales], {
        attributes: { axis: -1, epsilon: float(floatAttribute(node, "epsilon", 1e-12)), ...stash },
        outputs: [node.outputs[0]!],
      });
    },
  };
}

export const normalisationRules: Readonly<Record<string, GradientRule>> = {
  /**
   * Layer normalisation over the axes from `axis` on (Ba et al., 2016). Statistics come from the forward pass. With n
   * the normalised input and g the scale, dx = (dy∘g − mean(dy∘g) − n·mean(dy∘n∘g))·r, and the two means are products
   * with g, which read their operand once and write a column. The statistics themselves have no gradient.
   */
  LayerNormalization: {
    limits: "gradients of its mean and deviation; scales that are broadcast",
    forward: (b, node) => {
      const { axis } = normalised(b, node);
      const rank = b.shape(node.inputs[0]!).length;
      const y = node.outputs[0]!;
      const mean = node.outputs[1] || b.fresh("ln.mean");
      const deviation = node.outputs[2] || b.fresh("ln.inverse_deviation");
      b.node("LayerNormalization", node.inputs, {
        attributes: { axis: axis - rank, epsilon: float(floatAttribute(node, "epsilon", 1e-5)) },
        outputs: [y, mean, deviation],
      });
      return { mean, deviation };
    },
    backward: ({ builder: b, node, gradient, wants, saved }) => {
      if (gradient(1) || gradient(2)) {
        throw new GraphError(`${describe(node)}: the gradient through its mean and deviation is not known`);
      }
      const shape = b.shape(node.inputs[0]!);
      const { width } = normalised(b, node);
      const x = matrix(b, node.inputs[0]!, width);
      const dy = matrix(b, gradient(0)!, width);
      const [mean, deviation] = [matrix(b, saved.mean!, 1), matrix(b, saved.deviation!, 1)];
      const scale = node.inputs[1]!;
      const scaleShape = b.shape(scale);
      const normal = b.op("Mul", [b.op("Sub", [x, mean]), deviation]);
      const weighted = b.op("Mul", [dy, normal]);
      const dScale = wants(1) ? shaped(b, columnSum(b, weighted), scaleShape) : undefined;
      const dShift = wants(2) ? shaped(b, columnSum(b, dy), scaleShape) : undefined;
      if (!wants(0)) return [undefined, dScale, dShift];
      const column = b.op("Reshape", [scale, b.ints([width, 1])]);
      const row = scaleShape.length === 1 ? scale : b.op("Reshape", [scale, b.ints([width])]);
      const meanScaled = rowMean(b, dy, column);
      const meanWeighted = rowMean(b, weighted, column);
      // A scale of ones, as other normalisations are written with, changes nothing.
      const scaled = b.constantNumbers(scale)?.every((value) => value === 1) ? dy : b.op("Mul", [dy, row]);
      const centred = b.op("Sub", [scaled, meanScaled]);
      const dx = b.op("Mul", [b.op("Sub", [centred, b.op("Mul", [normal, meanWeighted])]), deviation]);
      return [
        b.shape(dx).join() === shape.join() ? dx : b.op("Reshape", [dx, b.ints(shape)]),
        dScale,
        dShift,
      ];
    },
  },

  /**
   * Root-mean-square normalisation (Zhang and Sennrich, 2019), x·r·g with r = 1/√(mean(x²) + ε), by the name that ONNX
   * Runtime has for it. With n = x·r, dx = (dy∘g − n·mean(dy∘n∘g))·r.
   */
  SimplifiedLayerNormalization: {
    limits: "the gradient of its deviation; scales that are broadcast",
    forward: (b, node) => {
      const [x, scale] = node.inputs as [string, string];
      const { axis, width } = normalised(b, node);
      const shape = b.shape(x);
      const attributes = {
        axis: -1,
        epsilon: float(floatAttribute(node, "epsilon", 1e-5)),
        stash_type: 1,
      };
      if (axis === shape.length - 1) {
        const deviation = node.outputs[1] || b.fresh("rms.inverse_deviation");
        const outputs = [node.outputs[0]!, deviation];
        b.node("SimplifiedLayerNormalization", [x, scale], { attributes, outputs });
        return { deviation };
      }
      // Of more axes than one, ONNX Runtime takes the deviation for another shape than it has.
      const outputs = [b.fresh("rms.rows"), b.fresh("rms.inverse_deviation")];
      const row = b.op("Reshape", [scale, b.ints([width])]);
      b.node("SimplifiedLayerNormalization", [matrix(b, x, width), row], { attributes, outputs });
      b.op("Reshape", [outputs[0]!, b.ints(shape)], {}, node.outputs[0]!);
      const kept = shape.map((dim, i) => (i < axis ? dim : 1));
      if (node.outputs[1]) b.op("Reshape", [outputs[1]!, b.ints(kept)], {}, node.outputs[1]);
      return { deviation: outputs[1]! };
    },
    backward: ({ builder: b, node, gradient, wants, saved }) => {
      if (gradient(1)) {
        throw new GraphError(`${describe(node)}: the gradient through its deviation is not known`);
      }
      const shape = b.shape(node.inputs[0]!);
      const { width } = normalised(b, node);
      const dy = matrix(b, gradient(0)!, width);
      const deviation = matrix(b, saved.deviation!, 1);
      const scale = node.inputs[1]!;
      const normal = b.op("Mul", [matrix(b, node.inputs[0]!, width), deviation]);
      const weighted = b.op("Mul", [dy, normal]);
      const dScale = wants(1) ? shaped(b, columnSum(b, weighted), b.shape(scale)) : undefined;
      if (!wants(0)) return [undefined, dScale];
      const mean = rowMean(b, weighted, b.op("Reshape", [scale, b.ints([width, 1])]));
      const row = b.shape(scale).length === 1 ? scale : b.op("Reshape", [scale, b.ints([width])]);
      const centred = b.op("Sub", [b.op("Mul", [dy, row]), b.op("Mul", [normal, mean])]);
      const dx = b.op("Mul", [centred, deviation]);
      return [b.shape(dx).join() === shape.join() ? dx : b.op("Reshape", [dx, b.ints(shape)]), dScale];
    },
  },

  /** ONNX has it from version 23 on; ONNX Runtime has it under another name. */
  RMSNormalization: {
    always: true,
    spelling: "SimplifiedLayerNormalization",
    limits: "scales that are broadcast",
    expand: (b, node) => {
      b.node("SimplifiedLayerNormalization", node.inputs, {
        attributes: {
          axis: intAttribute(node, "axis", -1),
          epsilon: float(floatAttribute(node, "epsilon", 1e-5)),
          stash_type: 1,
        },
        outputs: [node.outputs[0]!],
      });
    },
  },

  SkipLayerNormalization: { ...skip("LayerNormalization", 4), limits: "outputs of mean and deviation" },
  SkipSimplifiedLayerNormalization: {
    ...skip("SimplifiedLayerNormalization", 3),
    limits: "outputs of mean and deviation",
  },

  /** x divided by its norm along an axis: the sum of magnitudes (p = 1), or the root of the sum of squares (2). */
  LpNormalization: {
    spelling: "Abs or Mul, ReduceSum, Sqrt, Div",
    limits: "lines of zeros",
    expand: (b, node) => {
      const x = node.inputs[0]!;
      const axis = b.ints([normalAxis(intAttribute(node, "axis", -1), b.shape(x).length)]);
      const p = intAttribute(node, "p", 2);
      if (p !== 1 && p !== 2) throw new GraphError(`${describe(node)}: p is ${p}; there are 1 and 2`);
      const terms = p === 1 ? b.op("Abs", [x]) : b.op("Mul", [x, x]);
      const sum = b.op("ReduceSum", [terms, axis], { keepdims: 1 });
      b.op("Div", [x, p === 1 ? sum : b.op("Sqrt", [sum])], {}, node.outputs[0]!);
    },
  },
};
