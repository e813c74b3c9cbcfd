/** Attaches a loss by its name to what a model predicts; what is wanted becomes the data input `targets`. */

import {
  binaryCrossEntropy,
  binaryCrossEntropyWithLogits,
  type ElementwiseLoss,
  meanAbsoluteError,
  meanSquaredError,
} from "../losses.ts";
import { GraphBuilder } from "../onnx/builder.ts";
import { type Graph, GraphError } from "../onnx/graph.ts";
import { typeText } from "../onnx/shapes.ts";

export const LOSSES = ["cross-entropy", "mse", "l1", "bce", "bce-logits"] as const;
export type LossName = (typeof LOSSES)[number];

/** Losses whose targets are shaped as the prediction. */
const ELEMENTWISE: Readonly<Record<Exclude<LossName, "cross-entropy">, ElementwiseLoss>> = {
  mse: meanSquaredError,
  l1: meanAbsoluteError,
  bce: binaryCrossEntropy,
  "bce-logits": binaryCrossEntropyWithLogits,
};

export const TARGETS = "targets";

export const isLossName = (name: string): name is LossName => (LOSSES as readonly string[]).includes(name);

/**
 * The graph with the mean loss over the micro-batch as its first output, the value `prediction` not being one.
 *
 * `targets` are, for "cross-entropy", i64 classes: [N] for logits [N, C]; [B·T] for [B, T, V], a prediction at every
 * position of B sequences; [N, H, W] for [N, C, H, W]. For all others they are f32 and shaped as the prediction.
 * "bce" wants probabilities, "bce-logits" their logits.
 * @throws GraphError when the prediction is not of a type that the loss is for.
 */
export function attachLoss(graph: Graph, prediction: string, loss: LossName): { graph: Graph; loss: string } {
  const b = new GraphBuilder(graph.name);
  for (const { name, dtype, shape } of graph.inputs) b.input(name, dtype, shape);
  b.reserve(graph.nodes.flatMap(({ outputs }) => outputs));
  for (const [name, tensor] of graph.initializers) b.constant(name, tensor);
  for (const node of graph.nodes) b.append(node);
  const type = b.type(prediction);
  if (type.dtype !== "f32") {
    throw new GraphError(`output "${prediction}" is ${typeText(type)}: a loss is made of f32 values`);
  }
  const taken = graph.inputs.some(({ name }) => name === TARGETS) || graph.initializers.has(TARGETS);
  if (taken || graph.nodes.some(({ outputs }) => outputs.includes(TARGETS))) {
    throw new GraphError(
      `graph ${graph.name} has a value named "${TARGETS}"; name one of its outputs as the loss`,
    );
  }
  const result =
    loss === "cross-entropy"
      ? crossEntropy(b, prediction)
      : ELEMENTWISE[loss](b, prediction, b.input(TARGETS, "f32", b.shape(prediction)));
  b.output(result);
  return { graph: b.build(), loss: result };
}

function crossEntropy(b: GraphBuilder, prediction: string): string {
  const shape = b.shape(prediction);
  if (shape.length < 2) {
    throw new GraphError(
      `output "${prediction}" is [${shape}]: cross-entropy is made of logits [rows, classes]`,
    );
  }
  let logits = prediction;
  if (shape.length === 3) {
    logits = b.op("Reshape", [prediction, b.ints([shape[0]! * shape[1]!, shape[2]!])]);
  }
  const [rows, , ...places] = b.shape(logits);
  const targets = b.input(TARGETS, "i64", [rows!, ...places]);
  return b.op("SoftmaxCrossEntropyLoss", [logits, targets], { reduction: "mean" }, b.fresh("loss"));
}
