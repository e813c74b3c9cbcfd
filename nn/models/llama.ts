/**
 * The Llama family (Touvron et al., 2023) as Hugging Face keeps it: RMS normalisation, rotary positions, grouped-query
 * attention (Ainslie et al., 2023), a gated feed-forward layer (Shazeer, 2020). Mistral, Qwen2, Qwen3 and SmolLM are the
 * same graph with biases, normalised heads, windows or layers without positions switched on. Parameters have
 * transformers' names; its matrices are [out, in].
 */

import { GraphBuilder } from "../onnx/builder.ts";
import { float, type Graph, GraphError, type ValueInfo } from "../onnx/graph.ts";
import { type Rotary, rotate } from "./rotary.ts";
import {
  type Activation,
  activate,
  causalAttention,
  IDS,
  languageHead,
  rmsNorm,
  TARGETS,
  type TextShape,
} from "./transformer.ts";

export interface LlamaConfig {
  readonly width: number;
  /** Query heads. */
  readonly heads: number;
  /** Key and value heads; each serves heads / keyHeads query heads. */
  readonly keyHeads: number;
  readonly headSize: number;
  /** Width of the feed-forward layer. */
  readonly inner: number;
  /** The most positions a sequence may have. */
  readonly positions: number;
  readonly vocabulary: number;
  readonly activation: Activation;
  readonly epsilon: number;
  readonly rotary: Rotary;
  /** Biases of the query, key and value products, of attention's output, and of the feed-forward layer. */
  readonly bias: { readonly attention: boolean; readonly output: boolean; readonly feedForward: boolean };
  /** Queries and keys are normalised head by head (Qwen3). */
  readonly normalisedHeads: boolean;
  readonly layers: readonly LlamaLayer[];
}

export interface LlamaLayer {
  /** Positions that a position sees, itself included; null for all before it. */
  readonly window: number | null;
  /** Queries and keys are rotated by position (all layers but every fourth of SmolLM3). */
  readonly rotated: boolean;
}

/** Name and shape of every parameter, f32, in the order of the model; the head's matrix is one of its own. */
export function llamaParameters(config: LlamaConfig): ValueInfo[] {
  const { width: d, heads, keyHeads, headSize, inner, vocabulary, bias, normalisedHeads } = config;
  const shapes: [string, number[]][] = [["model.embed_tokens.weight", [vocabulary, d]]];
  config.layers.forEach((_, layer) => {
    const h = `model.layers.${layer}`;
    const linear = (name: string, from: number, to: number, biased: boolean) => {
      shapes.push([`${h}.${name}.weight`, [to, from]]);
      if (biased) shapes.push([`${h}.${name}.bias`, [to]]);
    };
    shapes.push([`${h}.input_layernorm.weight`, [d]]);
    linear("self_attn.q_proj", d, heads * headSize, bias.attention);
    linear("self_attn.k_proj", d, keyHeads * headSize, bias.attention);
    linear("self_attn.v_proj", d, keyHeads * headSize, bias.attention);
    if (normalisedHeads) {
      for (const name of ["q_norm", "k_norm"]) shapes.push([`${h}.self_attn.${name}.weight`, [headSize]]);
    }
    linear("self_attn.o_proj", heads * headSize, d, bias.output);
    shapes.push([`${h}.post_attention_layernorm.weight`, [d]]);
    linear("mlp.gate_proj", d, inner, bias.feedForward);
    linear("mlp.up_proj", d, inner, bias.feedForward);
    linear("mlp.down_proj", inner, d, bias.feedForward);
  });
  shapes.push(["model.norm.weight", [d]], ["lm_head.weight", [vocabulary, d]]);
  return shapes.map(([name, shape]) => ({ name, dtype: "f32", shape }));
}

/**
 * The forward graph. Inputs: ids i64 [T, B], targets i64 [T·B], the parameters; output: the loss; `logits` is a value.
 * @throws GraphError when key heads do not divide the heads, heads cannot be rotated because their size is odd, or the
 *   context is longer than there are positions.
 */
export function llamaGraph(config: LlamaConfig, { context: length, rows: batch }: TextShape): Graph {
  const { width: d, heads, keyHeads, headSize, positions, rotary } = config;
  if (heads % keyHeads !== 0)
    throw new GraphError(`${heads} heads do not divide among ${keyHeads} key and value heads`);
  if (headSize % 2 !== 0) throw new GraphError(`heads of odd size ${headSize} cannot be rotated in pairs`);
  if (length > positions) {
    throw new GraphError(`sequences of ${length} tokens are longer than the model's ${positions} positions`);
  }
  const rows = length * batch;
  const b = new GraphBuilder("llama");
  b.input(IDS, "i64", [length, batch]);
  b.input(TARGETS, "i64", [rows]);
  const parameters = llamaParameters(config);
  const present = new Set(parameters.map(({ name }) => name));
  for (const { name, dtype, shape } of parameters) b.input(name, dtype, shape);

  const linear = (x: string, name: string) => {
    const bias = present.has(`${name}.bias`) ? [`${name}.bias`] : [];
    const beta = float(bias.length);
    return b.op("Gemm", [x, `${name}.weight`, ...bias], { transB: 1, alpha: float(1), beta });
  };
  const norm = (x: string, name: string) => rmsNorm(b, x, `${name}.weight`, config.epsilon);

  /** [T, B, heads, size] of a product of x; normalised head by head where the model does that. */
  const headsOf = (x: string, name: string, count: number) => {
    const split = b.op("Reshape", [linear(x, `${name}_proj`), b.ints([length, batch, count, headSize])]);
    return present.has(`${name}_norm.weight`) ? norm(split, `${name}_norm`) : split;
  };
  /** Every key and value head once for each of the query heads it serves. */
  const shared = (x: string) => {
    if (keyHeads === heads) return x;
    const group = heads / keyHeads;
    const column = b.op("Reshape", [x, b.ints([length, batch, keyHeads, 1, headSize])]);
    const repeated = b.op("Expand", [column, b.ints([length, batch, keyHeads, group, headSize])]);
    return b.op("Reshape", [repeated, b.ints([length, batch, heads, headSize])]);
  };
  const attention = (x: string, h: string, { window, rotated }: LlamaLayer): string => {
    const placed = (y: string) => (rotated ? rotate(b, y, rotary) : y);
    const q = placed(headsOf(x, `${h}.self_attn.q`, heads));
    const k = shared(placed(headsOf(x, `${h}.self_attn.k`, keyHeads)));
    const v = shared(headsOf(x, `${h}.self_attn.v`, keyHeads));
    return linear(causalAttention(b, [q, k, v], window), `${h}.self_attn.o_proj`);
  };
  const feedForward = (x: string, h: string): string => {
    const gate = activate(b, linear(x, `${h}.mlp.gate_proj`), config.activation);
    return linear(b.op("Mul", [gate, linear(x, `${h}.mlp.up_proj`)]), `${h}.mlp.down_proj`);
  };

  const tokens = b.op("Gather", ["model.embed_tokens.weight", IDS], { axis: 0 });
  let x = b.op("Reshape", [tokens, b.ints([rows, d])]);
  config.layers.forEach((kind, layer) => {
    const h = `model.layers.${layer}`;
    x = b.op("Add", [x, attention(norm(x, `${h}.input_layernorm`), h, kind)]);
    x = b.op("Add", [x, feedForward(norm(x, `${h}.post_attention_layernorm`), h)]);
  });
  languageHead(b, norm(x, "model.norm"), "lm_head.weight");
  return b.build();
}
