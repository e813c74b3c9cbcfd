/**
 * GPT-2 (Radford et al., 2019) as Hugging Face keeps it: learned positions, pre-normalised blocks, one matrix for
 * queries, keys and values. Parameters have transformers' names; its Conv1D matrices are [in, out].
 */

import { GraphBuilder } from "../onnx/builder.ts";
import { float, type Graph, GraphError, type ValueInfo } from "../onnx/graph.ts";
import {
  type Activation,
  activate,
  causalAttention,
  IDS,
  languageHead,
  TARGETS,
  type TextShape,
} from "./transformer.ts";

export interface Gpt2Config {
  readonly layers: number;
  readonly width: number;
  readonly heads: number;
  /** Width of the feed-forward layer. */
  readonly inner: number;
  /** The most positions a sequence may have. */
  readonly positions: number;
  readonly vocabulary: number;
  readonly activation: Activation;
  readonly epsilon: number;
}

/** Name and shape of every parameter, f32, in the order of the model; the head's matrix is one of its own. */
export function gpt2Parameters(config: Gpt2Config): ValueInfo[] {
  const { layers, width: d, inner, positions, vocabulary } = config;
  const shapes: [string, number[]][] = [
    ["transformer.wte.weight", [vocabulary, d]],
    ["transformer.wpe.weight", [positions, d]],
  ];
  for (let layer = 0; layer < layers; layer++) {
    const pair = (name: string, ...shape: number[]) =>
      shapes.push(
        [`transformer.h.${layer}.${name}.weight`, shape],
        [`transformer.h.${layer}.${name}.bias`, shape.slice(-1)],
      );
    pair("ln_1", d);
    pair("attn.c_attn", d, 3 * d);
    pair("attn.c_proj", d, d);
    pair("ln_2", d);
    pair("mlp.c_fc", d, inner);
    pair("mlp.c_proj", inner, d);
  }
  shapes.push(["transformer.ln_f.weight", [d]], ["transformer.ln_f.bias", [d]]);
  shapes.push(["lm_head.weight", [vocabulary, d]]);
  return shapes.map(([name, shape]) => ({ name, dtype: "f32", shape }));
}

/**
 * The forward graph. Inputs: ids i64 [T, B], targets i64 [T·B], the parameters; output: the loss; `logits` is a value.
 * @throws GraphError when the heads do not divide the width, or the context is longer than there are positions.
 */
export function gpt2Graph(config: Gpt2Config, { context: length, rows: batch }: TextShape): Graph {
  const { layers, width: d, heads, positions, activation } = config;
  if (d % heads !== 0) throw new GraphError(`width ${d} does not divide into ${heads} heads`);
  if (length > positions) {
    throw new GraphError(`sequences of ${length} tokens are longer than the model's ${positions} positions`);
  }
  const rows = length * batch;
  const b = new GraphBuilder("gpt2");
  b.input(IDS, "i64", [length, batch]);
  b.input(TARGETS, "i64", [rows]);
  for (const { name, dtype, shape } of gpt2Parameters(config)) b.input(name, dtype, shape);

  const linear = (x: string, name: string) =>
    b.op("Gemm", [x, `${name}.weight`, `${name}.bias`], { alpha: float(1), beta: float(1) });
  const norm = (x: string, name: string) => {
    const attributes = { axis: -1, epsilon: float(config.epsilon) };
    return b.op("LayerNormalization", [x, `${name}.weight`, `${name}.bias`], attributes);
  };
  const attention = (x: string, h: string): string => {
    const joined = linear(x, `${h}.attn.c_attn`);
    const parts = b.node("Split", [joined, b.ints([d, d, d])], {
      attributes: { axis: 1 },
      outputs: ["q", "k", "v"].map((name) => `${h}.attn.${name}`),
    });
    const [q, k, v] = parts.map((part) =>
      b.op("Reshape", [part, b.ints([length, batch, heads, d / heads])]),
    ) as [string, string, string];
    return linear(causalAttention(b, [q, k, v], null), `${h}.attn.c_proj`);
  };

  const tokens = b.op("Gather", ["transformer.wte.weight", IDS], { axis: 0 });
  const table = "transformer.wpe.weight";
  const places =
    length === positions ? table : b.op("Slice", [table, b.ints([0]), b.ints([length]), b.ints([0])]);
  const placed = b.op("Add", [tokens, b.op("Reshape", [places, b.ints([length, 1, d])])]);
  let x = b.op("Reshape", [placed, b.ints([rows, d])]);
  for (let layer = 0; layer < layers; layer++) {
    const h = `transformer.h.${layer}`;
    x = b.op("Add", [x, attention(norm(x, `${h}.ln_1`), h)]);
    const hidden = activate(b, linear(norm(x, `${h}.ln_2`), `${h}.mlp.c_fc`), activation);
    x = b.op("Add", [x, linear(hidden, `${h}.mlp.c_proj`)]);
  }
  languageHead(b, norm(x, "transformer.ln_f"), "lm_head.weight");
  return b.build();
}
