/** A small convolutional network with batch normalisation, and what it learns from. For tests. */

import type { Feed } from "../../actors/data/feed.ts";
import type { Model } from "../../nn/model.ts";
import { uniformTensor } from "../../nn/models/init.ts";
import { kaiming, torchDefault } from "../../nn/models/initialise.ts";
import { Layers } from "../../nn/models/layers.ts";
import { Tensor } from "../../protocols/tensor.ts";

const SIZE = { rows: 3, channels: 2, side: 6, classes: 4 };

/** `images` f32 [3, 2, 6, 6] and `targets` i64 [3] in. */
export function convnet(): Model {
  const { rows, channels, side, classes } = SIZE;
  const layers = new Layers("convnet");
  const { builder: b } = layers;
  let x = b.input("images", "f32", [rows, channels, side, side]);
  const block = (name: string, width: number, stride: number) => {
    const weight = kaiming(b.shape(x)[1]! * 9);
    x = layers.conv(x, `${name}.conv`, { channels: width, kernel: 3, stride, padding: 1, weight });
    x = b.op("Relu", [layers.batchNorm(x, `${name}.bn`)]);
  };
  block("first", 4, 1);
  block("second", 6, 2);
  for (const name of ["third", "fourth", "fifth"]) block(name, 6, 1);
  const pooled = layers.flatten(b.op("GlobalAveragePool", [x]));
  const start = torchDefault(b.shape(pooled)[1]!);
  return layers.classifier(layers.linear(pooled, "head", { outputs: classes, weight: start, bias: start }));
}

/** Noise, and classes that have nothing to do with it: a function of the step and the micro-batch. */
export function convnetFeed(microBatches: number): Feed {
  const { rows, channels, side, classes } = SIZE;
  const at = (index: number) => ({
    images: uniformTensor(index, "images", [rows, channels, side, side], 1),
    targets: Tensor.i64(
      [rows],
      Array.from({ length: rows }, (_, row) => (index + row * row) % classes),
    ),
  });
  return {
    values: [
      { name: "images", dtype: "f32", shape: [rows, channels, side, side] },
      { name: "targets", dtype: "i64", shape: [rows] },
    ],
    validationCount: 5,
    training: (step, microBatch) => at(1 + step * microBatches + microBatch),
    validation: (microBatch) => at(1000 + microBatch),
  };
}
