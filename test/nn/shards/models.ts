/** Small transformers of every family, and the segments of one. */

import { type Roles, rolesOf, type Trainable } from "../../../nn/model.ts";
import { type GptConfig, gptGraph, gptModel, gptParameters } from "../../../nn/models/gpt.ts";
import { type Gpt2Config, gpt2Graph, gpt2Parameters } from "../../../nn/models/gpt2.ts";
import { type LlamaConfig, llamaGraph, llamaParameters } from "../../../nn/models/llama.ts";
import { vit } from "../../../nn/models/vit.ts";
import type { Graph } from "../../../nn/onnx/graph.ts";
import { cutGraph, findSegments } from "../../../nn/segments.ts";

export const GPT: GptConfig = { layers: 2, width: 16, heads: 4, context: 6, vocabulary: 11 };
export const gpt = (rows = 2, config = GPT): Trainable => gptModel(config, rows);

export const GPT2: Gpt2Config = {
  ...{ layers: 2, width: 20, heads: 5, inner: 24, positions: 6, vocabulary: 11 },
  ...{ activation: "gelu_tanh", epsilon: 1e-5 },
};
export const gpt2 = (rows = 2, config = GPT2): Trainable => ({
  graph: gpt2Graph(config, { context: 6, rows }),
  ...rolesOf(gpt2Parameters(config).map(({ name }) => name)),
});

/** Two query heads share a key and value head. */
export const LLAMA: LlamaConfig = {
  ...{ width: 16, heads: 8, keyHeads: 4, headSize: 4, inner: 20, positions: 6, vocabulary: 11 },
  ...{ activation: "silu", epsilon: 1e-5, rotary: { theta: 10_000, scaling: null }, normalisedHeads: true },
  bias: { attention: true, output: true, feedForward: true },
  layers: [
    { window: null, rotated: true },
    { window: 3, rotated: false },
  ],
};
export const llama = (rows = 2, config = LLAMA): Trainable => ({
  graph: llamaGraph(config, { context: 6, rows }),
  ...rolesOf(llamaParameters(config).map(({ name }) => name)),
});

export const smallVit = (rows = 3): Trainable =>
  vit({ layers: 2, width: 16, heads: 4, patch: 2, inputSize: 4, channels: 1, classes: 5 }, rows);

export interface Range {
  readonly graph: Graph;
  readonly roles: Roles;
  readonly input: string;
  readonly output: string;
}

/** One block of a GPT: its two segments, without embeddings and head. */
export function gptBlock(config: GptConfig, rows: number): Range {
  const graph = gptGraph(config, rows, config.context, "loss");
  const roles = rolesOf(gptParameters(config).map(({ name }) => name));
  const segments = findSegments({ graph, ...roles });
  const [input, output] = [segments[1]!.input!, segments[2]!.output!];
  return { graph: cutGraph(graph, segments, 1, 3), roles, input, output };
}
