/**
 * VGG networks (Simonyan and Zisserman, 2015): stacks of 3x3 convolutions with a pooling that halves the image after
 * each, and three wide linear layers. Names and shapes are torchvision's, where `features.<i>` and `classifier.<i>`
 * count every module, activations and poolings included.
 *
 * Images have sides of 32 to 224 in steps of 32; what is left of them, side / 32, goes to the linear layers as it is
 * (torchvision pools everything to 7x7, which is what 224 leaves). Width scales the convolutions and the linear
 * layers alike.
 */

import { Tensor } from "../../protocols/tensor.ts";
import type { Model } from "../model.ts";
import { GraphError } from "../onnx/graph.ts";
import { constant, kaiming, spread } from "./initialise.ts";
import { Layers, requireSizes } from "./layers.ts";

/** Convolutions of each of the five stacks. */
const DEPTHS = {
  11: [1, 1, 2, 2, 2],
  13: [2, 2, 2, 2, 2],
  16: [2, 2, 3, 3, 3],
  19: [2, 2, 4, 4, 4],
} as const;

/** Channels of each stack, and units of the hidden linear layers, in widths. */
const STACKS = [1, 2, 4, 8, 8] as const;
const HIDDEN = 64;

/** By what the poolings divide the side. */
const REDUCTION = 32;
const LARGEST = 224;

export interface VggConfig {
  readonly depth: keyof typeof DEPTHS;
  /** Channels of the first stack; 64 in the paper. */
  readonly width: number;
  /** Side of the square images: 32 to 224, a multiple of 32. */
  readonly inputSize: number;
  /** Channels of the images: 1 or 3. */
  readonly channels: number;
  readonly classes: number;
  /** Whether each convolution is followed by a batch normalisation. */
  readonly batchNorm: boolean;
  /** Share of hidden units dropped in training, in [0, 1); 0.5 in the paper. */
  readonly dropout: number;
}

/** The side that images are to be brought to: the next that a VGG takes. */
export function vggInputSize(side: number): number {
  return Math.min(LARGEST, REDUCTION * Math.ceil(side / REDUCTION));
}

/**
 * Data inputs: `images` f32 [rows, channels, size, size], `targets` i64 [rows].
 * @param rows samples of a micro-batch.
 * @throws GraphError for an unknown depth, sizes that are no whole numbers of at least 1, an input size that is no
 *   multiple of 32 up to 224, or a dropout outside [0, 1).
 */
export function vgg(config: VggConfig, rows: number): Model {
  const { depth, width, inputSize, channels, classes, batchNorm, dropout } = config;
  const stacks = DEPTHS[depth];
  if (!stacks)
    throw new GraphError(`vgg: unknown depth ${depth}, there are ${Object.keys(DEPTHS).join(", ")}`);
  const name = `vgg${depth}${batchNorm ? "_bn" : ""}`;
  requireSizes(name, { rows, width, "input size": inputSize, channels, classes });
  if (vggInputSize(inputSize) !== inputSize) {
    const remedy = `${vggInputSize(inputSize)} would do`;
    throw new GraphError(
      `${name}: the input size ${inputSize} is no multiple of ${REDUCTION} up to ${LARGEST}; ${remedy}`,
    );
  }
  if (!(dropout >= 0 && dropout < 1)) {
    throw new GraphError(`${name}: dropout is ${dropout}, it should be at least 0 and below 1`);
  }
  const layers = new Layers(name);
  const { builder: b } = layers;
  const relu = (x: string) => b.op("Relu", [x]);

  let x = b.input("images", "f32", [rows, channels, inputSize, inputSize]);
  let module = 0;
  stacks.forEach((count, stack) => {
    const out = width * STACKS[stack]!;
    for (let i = 0; i < count; i++) {
      x = layers.conv(x, `features.${module++}`, {
        channels: out,
        kernel: 3,
        padding: 1,
        weight: kaiming(out * 9),
        bias: constant(0),
      });
      if (batchNorm) x = layers.batchNorm(x, `features.${module++}`);
      x = relu(x);
      module++;
    }
    x = b.op("MaxPool", [x], { kernel_shape: [2, 2], pads: [0, 0, 0, 0], strides: [2, 2] });
    module++;
  });

  const drop = (y: string): string => {
    if (dropout === 0) return y;
    const training = b.constant("dropout.training", new Tensor("bool", [], Uint8Array.of(1)));
    return b.op("Dropout", [y, b.scalar(Math.fround(dropout)), training]);
  };
  const linear = (y: string, index: number, outputs: number, output?: string) =>
    layers.linear(y, `classifier.${index}`, { outputs, weight: spread(0.01), bias: constant(0) }, output);
  x = layers.flatten(x);
  x = drop(relu(linear(x, 0, HIDDEN * width)));
  x = drop(relu(linear(x, 3, HIDDEN * width)));
  return layers.classifier(linear(x, 6, classes, "logits"));
}
