/** What `bench nn` trains on the native engine, and how PyTorch is told to train the same. */

import type { Model } from "../../nn/model.ts";
import { gptModel } from "../../nn/models/gpt.ts";
import { mlp } from "../../nn/models/mlp.ts";
import { resnet } from "../../nn/models/resnet.ts";
import type { Product } from "../product.ts";
import { GPT_3M } from "../workload.ts";

export interface NnWorkload {
  readonly name: string;
  /** In a sentence. */
  readonly text: string;
  readonly model: () => Model;
  readonly microBatches: number;
  /** Arguments of nets.py; null for the GPT, which has a script of its own. */
  readonly rival: readonly string[] | null;
  /** Products of the sizes that the step consists of; the fastest, or a square one, counts as the peak. */
  readonly products: readonly Product[];
  /** Least ratio over unlocked PyTorch that the project promises. */
  readonly promise: number;
}

export function workloads(quick: boolean): NnWorkload[] {
  const [rows, images] = quick ? [32, 2] : [512, 16];
  const gpt = quick ? { ...GPT_3M, layers: 1, width: 64, context: 32 } : GPT_3M;
  const sizes = quick ? [784, 64, 64, 10] : [784, 1024, 1024, 10];
  const width = quick ? 8 : 64;
  const perceptron = { sample: [784], hidden: sizes.slice(1, -1), classes: 10, activation: "relu" } as const;
  const net = { depth: 18, width, inputSize: 32, channels: 3, classes: 10 } as const;
  const product = (name: string, m: number, k: number, n: number, transA = false): Product => {
    return { name, m, k, n, transA };
  };
  return [
    {
      name: "gpt",
      text: `A GPT of ${gpt.layers} layers of width ${gpt.width}, context ${gpt.context}, 16 windows in 4 micro-batches`,
      model: () => gptModel(gpt, 4),
      microBatches: 4,
      rival: null,
      products: [
        product("square", 1024, 1024, 1024),
        product("feed-forward", 4 * gpt.context, gpt.width, 4 * gpt.width),
        product("its weight gradient", gpt.width, 4 * gpt.context, 4 * gpt.width, true),
      ],
      promise: 1,
    },
    {
      name: "mlp",
      text: `A perceptron of ${sizes.join("-")}, ${rows} samples in one micro-batch`,
      model: () => mlp(perceptron, rows),
      microBatches: 1,
      rival: ["mlp", "--batch", `${rows}`, "--sizes", sizes.join(",")],
      products: [
        product("square", 1024, 1024, 1024),
        product("a layer", rows, sizes[0]!, sizes[1]!),
        product("its weight gradient", sizes[0]!, rows, sizes[1]!, true),
      ],
      promise: 1,
    },
    {
      name: "resnet18",
      text: `A ResNet-18 of width ${width} on ${images} images of 32 × 32 pixels in one micro-batch`,
      model: () => resnet(net, images),
      microBatches: 1,
      rival: ["resnet18", "--batch", `${images}`, "--side", "32", "--width", `${width}`, "--classes", "10"],
      products: [product("square", 1024, 1024, 1024)],
      promise: 0.9,
    },
  ];
}
