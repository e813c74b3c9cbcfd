/**
 * Residual networks (He et al., "Deep Residual Learning for Image Recognition", 2016) as torchvision has them: batch
 * normalisation after every convolution, the stride of a bottleneck in its 3x3 convolution ("v1.5"), no biases but
 * in the last layer. Names and shapes of parameters and running statistics are torchvision's.
 *
 * The stem is that of the paper for large images (a 7x7 convolution of stride 2 and a 3x3 pooling of stride 2: a
 * quarter of the side is left), and for small ones, which would vanish in it, the usual 3x3 convolution alone, as in
 * the paper's own networks for CIFAR-10.
 */

import type { Model } from "../model.ts";
import { GraphError } from "../onnx/graph.ts";
import { kaiming, torchDefault } from "./initialise.ts";
import { type ConvOptions, Layers, requireSizes } from "./layers.ts";

/** Blocks of each of the four groups, and whether they are bottlenecks. */
const DEPTHS = {
  18: { blocks: [2, 2, 2, 2], bottleneck: false },
  34: { blocks: [3, 4, 6, 3], bottleneck: false },
  50: { blocks: [3, 4, 6, 3], bottleneck: true },
  101: { blocks: [3, 4, 23, 3], bottleneck: true },
} as const;

/** By how much a bottleneck's last convolution widens. */
const EXPANSION = 4;

/** Sides up to this get the stem for small images. */
const SMALL = 64;

export interface ResnetConfig {
  readonly depth: keyof typeof DEPTHS;
  /** Channels of the first group; 64 in the paper. Each further group has twice as many. */
  readonly width: number;
  /** Side of the square images. */
  readonly inputSize: number;
  /** Channels of the images: 1 or 3. */
  readonly channels: number;
  readonly classes: number;
}

/**
 * Data inputs: `images` f32 [rows, channels, size, size], `targets` i64 [rows].
 * @param rows samples of a micro-batch.
 * @throws GraphError for an unknown depth, or sizes that are no whole numbers of at least 1.
 */
export function resnet({ depth, width, inputSize, channels, classes }: ResnetConfig, rows: number): Model {
  const variant = DEPTHS[depth];
  if (!variant) {
    throw new GraphError(`resnet: unknown depth ${depth}, there are ${Object.keys(DEPTHS).join(", ")}`);
  }
  requireSizes(`resnet${depth}`, { rows, width, "input size": inputSize, channels, classes });
  const layers = new Layers(`resnet${depth}`);
  const { builder: b } = layers;

  const conv = (x: string, name: string, options: Omit<ConvOptions, "weight">) =>
    layers.conv(x, name, { ...options, weight: kaiming(options.channels * options.kernel ** 2) });
  const relu = (x: string) => b.op("Relu", [x]);

  /** The way round a block: as it is, or projected where the block changes the size. */
  const shortcut = (x: string, name: string, out: number, stride: number): string => {
    if (stride === 1 && b.shape(x)[1] === out) return x;
    const projected = conv(x, `${name}.downsample.0`, { channels: out, kernel: 1, stride });
    return layers.batchNorm(projected, `${name}.downsample.1`);
  };

  const basic = (x: string, name: string, inner: number, stride: number): string => {
    let y = conv(x, `${name}.conv1`, { channels: inner, kernel: 3, stride, padding: 1 });
    y = relu(layers.batchNorm(y, `${name}.bn1`));
    y = conv(y, `${name}.conv2`, { channels: inner, kernel: 3, padding: 1 });
    y = layers.batchNorm(y, `${name}.bn2`);
    return relu(b.op("Add", [y, shortcut(x, name, inner, stride)]));
  };

  const bottleneck = (x: string, name: string, inner: number, stride: number): string => {
    const out = EXPANSION * inner;
    let y = conv(x, `${name}.conv1`, { channels: inner, kernel: 1 });
    y = relu(layers.batchNorm(y, `${name}.bn1`));
    y = conv(y, `${name}.conv2`, { channels: inner, kernel: 3, stride, padding: 1 });
    y = relu(layers.batchNorm(y, `${name}.bn2`));
    y = conv(y, `${name}.conv3`, { channels: out, kernel: 1 });
    y = layers.batchNorm(y, `${name}.bn3`);
    return relu(b.op("Add", [y, shortcut(x, name, out, stride)]));
  };

  const small = inputSize <= SMALL;
  let x = b.input("images", "f32", [rows, channels, inputSize, inputSize]);
  x = conv(x, "conv1", {
    channels: width,
    ...(small ? { kernel: 3, padding: 1 } : { kernel: 7, stride: 2, padding: 3 }),
  });
  x = relu(layers.batchNorm(x, "bn1"));
  if (!small) x = b.op("MaxPool", [x], { kernel_shape: [3, 3], pads: [1, 1, 1, 1], strides: [2, 2] });

  variant.blocks.forEach((count, group) => {
    for (let block = 0; block < count; block++) {
      const stride = group > 0 && block === 0 ? 2 : 1;
      const write = variant.bottleneck ? bottleneck : basic;
      x = write(x, `layer${group + 1}.${block}`, width * 2 ** group, stride);
    }
  });
  const pooled = layers.flatten(b.op("GlobalAveragePool", [x]));
  const start = torchDefault(b.shape(pooled)[1]!);
  return layers.classifier(
    layers.linear(pooled, "fc", { outputs: classes, weight: start, bias: start }, "logits"),
  );
}
