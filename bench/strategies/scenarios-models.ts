/**
 * What the scenarios train: a model and what it learns from, small enough that a step takes seconds on a part of one
 * processor, and each of a kind of its own. The GPT has as much to send between any two of its layers and few parameters;
 * ResNet has large activations at its beginning and most parameters at its end; VGG the more so, and no normalisation.
 */

import { NO_AUGMENTATION } from "../../actors/data/augment.ts";
import { readDefaultText, splitText } from "../../actors/data/corpus.ts";
import type { Feed } from "../../actors/data/feed.ts";
import { ImageFeed } from "../../actors/data/images.ts";
import { packed } from "../../actors/data/picture.ts";
import { TextFeed } from "../../actors/data/text.ts";
import type { Model } from "../../nn/model.ts";
import { type GptConfig, gptModel } from "../../nn/models/gpt.ts";
import { resnet } from "../../nn/models/resnet.ts";
import { vgg } from "../../nn/models/vgg.ts";
import { seededRandom } from "../../runtime/index.ts";
import { files } from "../../runtime/platform/files.ts";
import { GPT_3M } from "../workload.ts";

export interface ScenarioModel {
  /** For people. */
  readonly about: string;
  readonly kind: "transformer" | "cnn";
  /** Samples in a step: windows of text or pictures. */
  readonly batch: number;
  readonly microBatches: number;
  open(seed: number): Promise<{ readonly model: Model; readonly feed: Feed }>;
}

const PICTURE = { size: 32, channels: 3, classes: 10 } as const;
const PICTURES = { train: 512, validation: 64 } as const;

function gpt(about: string, config: GptConfig, batch: number, microBatches: number): ScenarioModel {
  const rows = batch / microBatches;
  return {
    ...{ about, kind: "transformer", batch, microBatches },
    async open(seed) {
      const { context } = config;
      const split = splitText(await readDefaultText(files), context);
      return { model: gptModel(config, rows), feed: new TextFeed(split, { seed, context, rows }) };
    },
  };
}

function cnn(
  about: string,
  make: (rows: number) => Model,
  batch: number,
  microBatches: number,
): ScenarioModel {
  const rows = batch / microBatches;
  return {
    ...{ about, kind: "cnn", batch, microBatches },
    open: async (seed) => ({ model: make(rows), feed: pictureFeed(seed, rows, microBatches) }),
  };
}

const shape = { inputSize: PICTURE.size, channels: PICTURE.channels, classes: PICTURE.classes };

export const SCENARIO_MODELS = {
  gpt: gpt("GPT of 3.3 million parameters, windows of 128 bytes of text", GPT_3M, 16, 8),
  resnet18: cnn(
    "ResNet-18 of a quarter of its width (0.7 million parameters), pictures of 32 x 32",
    (rows) => resnet({ depth: 18, width: 16, ...shape }, rows),
    64,
    8,
  ),
  vgg11: cnn(
    "VGG-11 of three eighths of its width (4 million parameters), pictures of 32 x 32",
    (rows) => vgg({ depth: 11, width: 24, batchNorm: false, dropout: 0, ...shape }, rows),
    192,
    8,
  ),
} as const satisfies Record<string, ScenarioModel>;

export type ScenarioModelName = keyof typeof SCENARIO_MODELS;

export function isScenarioModel(name: string): name is ScenarioModelName {
  return Object.hasOwn(SCENARIO_MODELS, name);
}

/** Made-up pictures of ten classes, each noise around a colour and a stripe of its own: something to learn. */
function pictureFeed(seed: number, rows: number, microBatches: number): Feed {
  const { size, channels, classes } = PICTURE;
  const made = (count: number, from: number) => {
    const random = seededRandom(from);
    const pixels = new Uint8Array(count * channels * size * size);
    const labels = Array.from({ length: count }, (_, i) => i % classes);
    labels.forEach((label, picture) => {
      for (let at = 0; at < channels * size * size; at++) {
        const channel = Math.floor(at / size ** 2);
        const row = Math.floor(at / size) % size;
        const mean = 64 + 12 * ((label * (channel + 3)) % 10) + (row % classes === label ? 32 : 0);
        pixels[picture * channels * size * size + at] = mean + 48 * random.next();
      }
    });
    return packed({ width: size, height: size, channels }, pixels, labels);
  };
  const data = {
    ...({ kind: "images", name: "made-up pictures", channels, size } as const),
    classes: Array.from({ length: classes }, (_, i) => `${i}`),
    train: made(PICTURES.train, 1),
    validation: made(PICTURES.validation, 2),
  };
  return new ImageFeed(data, { seed, rows, microBatches, size, augment: NO_AUGMENTATION });
}
