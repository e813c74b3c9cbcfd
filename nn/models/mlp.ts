/**
 * A multilayer perceptron: linear layers with an activation between them, ending in the scores of classes. For rows
 * of numbers, and for images small enough to be taken as such.
 *
 * Parameters are `layers.<i>.weight` [out, in] and `layers.<i>.bias`, as of a PyTorch ModuleList of Linear layers.
 */

import { elements, type Shape } from "../../protocols/tensor.ts";
import type { Model } from "../model.ts";
import { GraphError } from "../onnx/graph.ts";
import { constant, kaiming, lecun } from "./initialise.ts";
import { Layers, requireSizes } from "./layers.ts";

/** What may stand between the layers; names as on the command line. */
export const MLP_ACTIVATIONS = { relu: "Relu", gelu: "Gelu", tanh: "Tanh" } as const;

export interface MlpConfig {
  /** Sizes of one sample: [features], or [channels, height, width] of an image, which is taken as a row of numbers. */
  readonly sample: Shape;
  /** Width of each hidden layer; none makes it a linear classifier. */
  readonly hidden: readonly number[];
  readonly classes: number;
  readonly activation: keyof typeof MLP_ACTIVATIONS;
}

/**
 * Data inputs: `features` f32 [rows, features], or `images` f32 [rows, channels, height, width]; `targets` i64 [rows].
 * @param rows samples of a micro-batch.
 * @throws GraphError for sizes that are no whole numbers of at least 1, or an unknown activation.
 */
export function mlp({ sample, hidden, classes, activation }: MlpConfig, rows: number): Model {
  requireSizes("mlp", { rows, classes, inputs: elements(sample) });
  hidden.forEach((width, i) => {
    requireSizes("mlp", { [`width of hidden layer ${i + 1}`]: width });
  });
  const op = MLP_ACTIVATIONS[activation];
  if (!op) {
    const known = Object.keys(MLP_ACTIVATIONS).join(", ");
    throw new GraphError(`mlp: unknown activation "${activation}", there are ${known}`);
  }
  const layers = new Layers("mlp");
  const { builder: b } = layers;
  let x = b.input(sample.length === 1 ? "features" : "images", "f32", [rows, ...sample]);
  x = layers.flatten(x);
  [...hidden, classes].forEach((outputs, i) => {
    const inputs = b.shape(x)[1]!;
    const last = i === hidden.length;
    const weight = last || activation === "tanh" ? lecun(inputs) : kaiming(inputs);
    x = layers.linear(x, `layers.${i}`, { outputs, weight, bias: constant(0) }, last ? "logits" : undefined);
    if (!last) x = b.op(op, [x]);
  });
  return layers.classifier(x);
}
