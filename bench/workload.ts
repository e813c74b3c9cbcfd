/** What is trained in a benchmark, and how much arithmetic that is. */

import { type Corpus, splitText } from "../actors/data/corpus.ts";
import { TextFeed } from "../actors/data/text.ts";
import type { GptConfig } from "../nn/models/gpt.ts";
import { DEFAULT_GPT, gptGraph, gptModel, gptParameters } from "../nn/models/gpt.ts";
import { DEFAULT_ADAMW } from "../nn/optim/adamw.ts";
import { findSegments } from "../nn/segments.ts";
import { LocalTraining } from "./local.ts";

export interface Workload {
  readonly model: GptConfig;
  /** Windows in a step, all micro-batches together. */
  readonly batch: number;
  readonly microBatches: number;
}

/** The GPT of 3.3 million parameters that speed is measured on. */
export const GPT_3M: GptConfig = { layers: 4, width: 256, heads: 4, context: 128, vocabulary: 256 };

export const SPEED_WORKLOAD: Workload = { model: GPT_3M, batch: 16, microBatches: 4 };

/** What `troupe train` trains when nothing else is asked for. */
export const DEFAULT_WORKLOAD: Workload = { model: DEFAULT_GPT, batch: 16, microBatches: 4 };

/** Small enough to try the bench itself on. */
export const QUICK_WORKLOAD: Workload = {
  model: { layers: 2, width: 64, heads: 2, context: 32, vocabulary: 256 },
  batch: 8,
  microBatches: 4,
};

export function tokensOf({ model, batch }: Workload): number {
  return batch * model.context;
}

export function parametersOf({ model }: Workload): number {
  return gptParameters(model).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
}

/** What `stepFlops` counts, for readers. */
export const FLOPS_FORMULA = "tokens · (6 · parameters in products + 12 · layers · context · width)";

/**
 * Floating-point operations that a step is counted as, multiply and add as two (Kaplan et al., 2020, with attention
 * in full): 2 forward and 4 backward for every weight of a matrix product and every token, and the same for the two
 * products of attention over all positions, masked ones included. Normalisation, GELU, softmax and the optimiser
 * count as nothing, so a share of the peak of the matrix product is what is lost to them too.
 */
export function stepFlops(workload: Workload): number {
  const { layers, width, context, vocabulary } = workload.model;
  const inProducts = layers * 12 * width ** 2 + width * vocabulary;
  return tokensOf(workload) * (6 * inProducts + 12 * layers * context * width);
}

/** The same from the graph that is trained. */
export function graphFlops({ model, batch, microBatches }: Workload): number {
  const graph = gptGraph(model, batch / microBatches, model.context, "loss");
  const names = new Set(gptParameters(model).map(({ name }) => name));
  return 3 * microBatches * findSegments(graph, names).reduce((sum, { flops }) => sum + flops, 0);
}

/** Options of `troupe train` that ask for this workload. */
export function trainArguments({ model, batch, microBatches }: Workload): string[] {
  const { layers, width, heads, context } = model;
  const options = { layers, width, heads, context, batch, "micro-batches": microBatches };
  return Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`]);
}

/** The order of the data, and what the contenders' initial weights are made from. */
const SEED = 1;
/** Only the learning rate depends on it. */
const STEPS = 300;

/** The workload on one engine in this process, on windows of this text. */
export function openLocal(
  { model, batch, microBatches }: Workload,
  text: Corpus,
  profile = false,
): Promise<LocalTraining> {
  const { context } = model;
  const rows = batch / microBatches;
  const feed = new TextFeed(splitText(text, context), { seed: SEED, context, rows });
  const optimizer = { ...DEFAULT_ADAMW, steps: STEPS };
  return LocalTraining.open(gptModel(model, rows), { microBatches, optimizer, feed, profile });
}
