/** Gradients of reductions, softmax and the classification loss. */

import { elements } from "../../../protocols/tensor.ts";
import type { GraphBuilder } from "../../onnx/builder.ts";
import { GraphError, type Node } from "../../onnx/graph.ts";
import { describe, intAttribute, normalAxis, reducedAxes } from "../../onnx/shapes.ts";
import type { GradientRule } from "../rule.ts";

/** Spreads the gradient of a sum over the summed elements. */
function spread(b: GraphBuilder, node: Node, gradient: string): string {
  const shape = b.shape(node.inputs[0]!);
  const axes = reducedAxes(node, shape, b.constantInts(node.inputs[1]));
  const kept = shape.map((dim, i) => (axes.includes(i) ? 1 : dim));
  const column =
    b.shape(gradient).length === kept.length ? gradient : b.op("Reshape", [gradient, b.ints(kept)]);
  return b.op("Expand", [column, b.ints(shape)]);
}

/** Softmax is fast along the last axis only, and so are its rules. */
function lastAxis(b: GraphBuilder, node: Node): void {
  const rank = b.shape(node.inputs[0]!).length;
  if (normalAxis(intAttribute(node, "axis", -1), rank) !== rank - 1) {
    throw new GraphError(`${describe(node)}: the gradient of ${node.op} is known for the last axis only`);
  }
}

export const reductionRules: Readonly<Record<string, GradientRule>> = {
  ReduceSum: { backward: ({ builder: b, node, gradient }) => [spread(b, node, gradient(0)!)] },

  ReduceMean: {
    backward: ({ builder: b, node, gradient }) => {
      const count = elements(b.shape(node.inputs[0]!)) / elements(b.shape(node.outputs[0]!));
      return [spread(b, node, b.op("Mul", [gradient(0)!, b.scalar(1 / count)]))];
    },
  },

  Softmax: {
    backward: ({ builder: b, node, gradient }) => {
      lastAxis(b, node);
      const [dy, y] = [gradient(0)!, node.outputs[0]!];
      const dot = b.op("ReduceSum", [b.op("Mul", [dy, y]), b.ints([-1])], { keepdims: 1 });
      return [b.op("Mul", [y, b.op("Sub", [dy, dot])])];
    },
  },

  LogSoftmax: {
    backward: ({ builder: b, node, gradient }) => {
      lastAxis(b, node);
      const [dy, y] = [gradient(0)!, node.outputs[0]!];
      const total = b.op("ReduceSum", [dy, b.ints([-1])], { keepdims: 1 });
      return [b.op("Sub", [dy, b.op("Mul", [b.op("Exp", [y]), total])])];
    },
  },

  /**
   * Mean negative log-likelihood of classes [N] under logits [N, C] (ONNX SoftmaxCrossEntropyLoss, reduction
   * "mean"). The gradient is (softmax − one-hot)·dy/N; the one-hot is a scatter of −1, since a OneHot costs
   * by the number of classes.
   */
  SoftmaxCrossEntropyLoss: {
    forward: (b, node) => {
      const [logits, classes] = [node.inputs[0]!, node.inputs[1]!];
      const mean = (node.attributes.reduction ?? "mean") === "mean" && !("ignore_index" in node.attributes);
      if (!mean || b.shape(logits).length !== 2 || node.inputs[2] || node.outputs[1]) {
        const known = `logits [N, C], the reduction "mean", no weights, no ignore_index, one output`;
        throw new GraphError(`${describe(node)}: its gradient is known for ${known}`);
      }
      const logProbabilities = b.op("LogSoftmax", [logits], { axis: -1 });
      const index = b.op("Reshape", [classes, b.ints([-1, 1])]);
      const picked = b.op("GatherElements", [logProbabilities, index], { axis: 1 });
      const sum = b.op("ReduceSum", [picked], { keepdims: 0 });
      b.op("Mul", [sum, b.scalar(-1 / b.shape(logits)[0]!)], {}, node.outputs[0]!);
      return { logProbabilities, index };
    },
    backward: ({ builder: b, node, gradient, saved }) => {
      const rows = b.shape(node.inputs[0]!)[0]!;
      const minusOne = b.op("Expand", [b.scalar(-1), b.ints([rows, 1])]);
      const softmax = b.op("Exp", [saved.logProbabilities!]);
      const error = b.op("ScatterElements", [softmax, saved.index!, minusOne], { axis: 1, reduction: "add" });
      const scale = b.op("Mul", [gradient(0)!, b.scalar(1 / rows)]);
      return [b.op("Mul", [error, scale]), undefined];
    },
  },
};
