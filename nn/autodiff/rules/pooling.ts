/** Gradients of poolings and Resize. */

import { elements, type Shape } from "../../../protocols/tensor.ts";
import type { GraphBuilder } from "../../onnx/builder.ts";
import { GraphError, type Node } from "../../onnx/graph.ts";
import { resizedAxes, resizeMatrix } from "../../onnx/shapes/interpolation.ts";
import { type Window, windowOf } from "../../onnx/shapes/window.ts";
import { describe, intAttribute } from "../../onnx/shapes.ts";
import type { DirectRule, GradientRule, Saved } from "../rule.ts";
import { type AxisMap, transposeMaps } from "./separable.ts";

/** A maximum with the places of its maxima, the first of several as in PyTorch. */
function maximum(b: GraphBuilder, node: Node, attributes: Node["attributes"]): Saved {
  const places = node.outputs[1] || b.fresh("MaxPool.places");
  b.node("MaxPool", [node.inputs[0]!], { attributes, outputs: [node.outputs[0]!, places] });
  return { places };
}

/** Every maximum hands its gradient to the element it came from; an element may be the maximum of several windows. */
const toMaxima: DirectRule["backward"] = ({ builder: b, node, gradient, saved }) => {
  const shape = b.shape(node.inputs[0]!);
  const flat = (name: string) => b.op("Reshape", [name, b.ints([-1])]);
  const zeros = b.op("ConstantOfShape", [b.ints([elements(shape)])]);
  const places = flat(saved.places!);
  const sum = b.op("ScatterElements", [zeros, places, flat(gradient(0)!)], { axis: 0, reduction: "add" });
  return [b.op("Reshape", [sum, b.ints(shape)])];
};

/** Along one axis, how much each element counts in the mean of each window: the means over all axes are products. */
function meanMap(window: Window, i: number, withMargins: boolean): AxisMap {
  const [from, to] = [window.input[i]!, window.output[i]!];
  const [stride, dilation] = [window.strides[i]!, window.dilations[i]!];
  const [before, after, kernel] = [window.before[i]!, window.after[i]!, window.kernel[i]!];
  const matrix = new Float64Array(to * from);
  for (let row = 0; row < to; row++) {
    const reads = Array.from({ length: kernel }, (_, k) => row * stride - before + k * dilation);
    const inside = reads.filter((x) => x >= 0 && x < from);
    const counted = withMargins ? reads.filter((x) => x >= -before && x < from + after) : inside;
    for (const x of inside) matrix[row * from + x]! += 1 / counted.length;
  }
  const key = `mean.${[from, to, kernel, stride, dilation, before, after].join("x")}.${withMargins}`;
  return { axis: i + 2, from, to, matrix, key };
}

const spatial = (shape: Shape) => shape.slice(2);

export const poolingRules: Readonly<Record<string, GradientRule>> = {
  MaxPool: {
    limits: "storage_order 1",
    forward: (b, node) => {
      if (intAttribute(node, "storage_order", 0) === 1) {
        throw new GraphError(`${describe(node)}: its gradient is known for storage_order 0 only`);
      }
      return maximum(b, node, node.attributes);
    },
    backward: toMaxima,
  },

  GlobalMaxPool: {
    forward: (b, node) => {
      return maximum(b, node, { kernel_shape: spatial(b.shape(node.inputs[0]!)) });
    },
    backward: toMaxima,
  },

  AveragePool: {
    backward: ({ builder: b, node, gradient }) => {
      const window = windowOf(node, spatial(b.shape(node.inputs[0]!)));
      const withMargins = intAttribute(node, "count_include_pad", 0) === 1;
      const maps = window.input.map((_, i) => meanMap(window, i, withMargins));
      return [transposeMaps(b, gradient(0)!, maps)];
    },
  },

  GlobalAveragePool: {
    backward: ({ builder: b, node, gradient }) => {
      const shape = b.shape(node.inputs[0]!);
      const share = b.op("Mul", [gradient(0)!, b.scalar(1 / elements(spatial(shape)))]);
      return [b.op("Expand", [share, b.ints(shape)])];
    },
  },

  Resize: {
    limits: "tf_crop_and_resize, antialias, keep_aspect_ratio_policy; sizes or scales that are computed",
    backward: ({ builder: b, node, gradient }) => {
      const shape = b.shape(node.inputs[0]!);
      const given = (index: number) => b.constantNumbers(node.inputs[index]);
      const maps = resizedAxes(node, shape, given).map((resized): AxisMap => {
        const { axis, from, to, scale } = resized;
        const text = (name: string) => JSON.stringify(node.attributes[name] ?? "");
        const kind = [
          "mode",
          "coordinate_transformation_mode",
          "nearest_mode",
          "cubic_coeff_a",
          "exclude_outside",
        ].map(text);
        const key = `resize.${from}x${to}x${scale}.${kind.join("")}`;
        return { axis, from, to, matrix: resizeMatrix(node, resized), key };
      });
      return [transposeMaps(b, gradient(0)!, maps)];
    },
  },
};
