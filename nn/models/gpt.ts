/**
 * A byte-level GPT (Radford et al., 2019) as an ONNX graph: learned positions, pre-normalised blocks of causal
 * self-attention and a feed-forward layer with exact GELU, an untied head.
 *
 * Activations are time-major: a micro-batch of B sequences of length T is a matrix [T·B, D] whose row t·B + b is
 * position t of sequence b. Attention then sees [T, B, heads, D/heads], the layout that FusedMatMul's transBatch
 * flags turn into batches of heads without moving an element. Matrices are [in, out]: y = x·W + b is one Gemm.
 */

import type { Model } from "../model.ts";
import { GraphBuilder } from "../onnx/builder.ts";
import { float, type Graph, GraphError, type ValueInfo } from "../onnx/graph.ts";
import { gptInitial } from "./init.ts";
import { causalAttention } from "./transformer.ts";

export interface GptConfig {
  readonly layers: number;
  /** D, the width of the residual stream. */
  readonly width: number;
  readonly heads: number;
  /** T, the most positions a sequence may have. */
  readonly context: number;
  /** V; 256 for bytes. */
  readonly vocabulary: number;
}

/**
 * What `troupe train` trains when nothing else is asked for: 0.9 million parameters, about what pays in the million
 * bytes that two minutes of two slow cores are good for (Hoffmann et al., 2022, would have it smaller still).
 */
export const DEFAULT_GPT: GptConfig = { layers: 4, width: 128, heads: 4, context: 64, vocabulary: 256 };

/** What the graph ends in: `loss` (mean cross-entropy, nats per byte, a scalar) or `logits` [T·B, V]. */
export type GptHead = "loss" | "logits";

const EPSILON = float(1e-5);

/** Name and shape of every parameter, in the order of the model. All f32. */
export function gptParameters(config: GptConfig): ValueInfo[] {
  const { layers, width: d, context, vocabulary } = config;
  const shapes: [string, number[]][] = [
    ["tok_emb", [vocabulary, d]],
    ["pos_emb", [context, d]],
  ];
  for (let layer = 0; layer < layers; layer++) {
    const h = `h${layer}`;
    const linear = (name: string, from: number, to: number) =>
      shapes.push([`${h}.${name}.weight`, [from, to]], [`${h}.${name}.bias`, [to]]);
    const norm = (name: string) => shapes.push([`${h}.${name}.weight`, [d]], [`${h}.${name}.bias`, [d]]);
    norm("ln1");
    for (const name of ["attn.q", "attn.k", "attn.v", "attn.proj"]) linear(name, d, d);
    norm("ln2");
    linear("mlp.fc", d, 4 * d);
    linear("mlp.proj", 4 * d, d);
  }
  shapes.push(["ln_f.weight", [d]], ["ln_f.bias", [d]], ["head.weight", [d, vocabulary]]);
  return shapes.map(([name, shape]) => ({ name, dtype: "f32", shape }));
}

/**
 * The forward graph for micro-batches of `batch` sequences of `length` bytes.
 * Inputs: `ids` i64 [T, B], with head "loss" also `targets` i64 [T·B], then the parameters.
 * @throws GraphError when the heads do not divide the width, or the sequences are longer than the context.
 */
export function gptGraph(config: GptConfig, batch: number, length: number, head: GptHead): Graph {
  const { layers, width: d, heads, context } = config;
  if (d % heads !== 0) throw new GraphError(`width ${d} does not divide into ${heads} heads`);
  if (length > context)
    throw new GraphError(`sequences of ${length} are longer than the context, ${context}`);
  const rows = length * batch;
  const b = new GraphBuilder("gpt");
  b.input("ids", "i64", [length, batch]);
  if (head === "loss") b.input("targets", "i64", [rows]);
  for (const { name, dtype, shape } of gptParameters(config)) b.input(name, dtype, shape);

  const linear = (x: string, name: string) =>
    b.op("Gemm", [x, `${name}.weight`, `${name}.bias`], { alpha: float(1), beta: float(1) });
  const norm = (x: string, name: string) =>
    b.op("LayerNormalization", [x, `${name}.weight`, `${name}.bias`], { axis: -1, epsilon: EPSILON });

  const headSize = d / heads;

  const selfAttention = (x: string, h: string): string => {
    const [q, k, v] = ["q", "k", "v"].map((name) =>
      b.op("Reshape", [linear(x, `${h}.attn.${name}`), b.ints([length, batch, heads, headSize])]),
    ) as [string, string, string];
    return linear(causalAttention(b, [q, k, v], null), `${h}.attn.proj`);
  };

  const tokens = b.op("Gather", ["tok_emb", "ids"], { axis: 0 });
  const positions =
    length === context ? "pos_emb" : b.op("Slice", ["pos_emb", b.ints([0]), b.ints([length]), b.ints([0])]);
  const placed = b.op("Add", [tokens, b.op("Reshape", [positions, b.ints([length, 1, d])])]);
  let x = b.op("Reshape", [placed, b.ints([rows, d])]);
  for (let layer = 0; layer < layers; layer++) {
    const h = `h${layer}`;
    x = b.op("Add", [x, selfAttention(norm(x, `${h}.ln1`), h)]);
    const hidden = b.op("Gelu", [linear(norm(x, `${h}.ln2`), `${h}.mlp.fc`)]);
    x = b.op("Add", [x, linear(hidden, `${h}.mlp.proj`)]);
  }
  const logits = b.op(
    "Gemm",
    [norm(x, "ln_f"), "head.weight"],
    { alpha: float(1), beta: float(0) },
    "logits",
  );
  if (head === "loss") {
    b.op("SoftmaxCrossEntropyLoss", [logits, "targets"], { reduction: "mean" }, "loss");
  }
  b.output(head);
  return b.build();
}

/** The GPT as a trainable model, for micro-batches of `rows` sequences of the full context. */
export function gptModel(config: GptConfig, rows: number): Model {
  const parameters = new Map(gptParameters(config).map((parameter) => [parameter.name, parameter]));
  return {
    name: "gpt",
    graph: gptGraph(config, rows, config.context, "loss"),
    parameters: [...parameters.keys()],
    frozen: [],
    statistics: {},
    ties: {},
    prediction: "logits",
    initial: (name, seed) => gptInitial(seed, name, parameters.get(name)!.shape, config.layers),
  };
}
