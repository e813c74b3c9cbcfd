/**
 * A config.json as the configuration of a graph: which of transformers' models Troupe has, and what of their settings.
 *
 * What a setting means, and what it is when it is left out, is as in transformers 5 and 4 (a model's own
 * `configuration_*.py`). A setting that changes the arithmetic and is not known here is refused, never passed over.
 * Dropout is none: fine-tuning here is without, whatever the folder was trained with.
 */

import type { Gpt2Config } from "../models/gpt2.ts";
import type { LlamaConfig, LlamaLayer } from "../models/llama.ts";
import type { Rotary } from "../models/rotary.ts";
import type { Activation } from "../models/transformer.ts";
import { HuggingFaceError } from "./folder.ts";
import { Settings } from "./settings.ts";

export type ModelConfig =
  | { readonly family: "gpt2"; readonly graph: Gpt2Config; readonly tied: boolean }
  | { readonly family: "llama"; readonly graph: LlamaConfig; readonly tied: boolean };

/** Values of `model_type` that are known. */
const MODEL_TYPES = ["gpt2", "llama", "mistral", "qwen2", "qwen3", "smollm3"] as const;
type ModelType = (typeof MODEL_TYPES)[number];

const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  gelu: "gelu",
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  silu: "silu",
  swish: "silu",
  relu: "relu",
};

/**
 * Reads the settings of a config.json; `where` names the file in errors.
 * @throws HuggingFaceError for a model type or setting that is not known, naming what is.
 */
export function parseConfig(json: Readonly<Record<string, unknown>>, where: string): ModelConfig {
  const settings = new Settings(json, where);
  const type = MODEL_TYPES.find((known) => known === json.model_type);
  if (!type) {
    const known = `known are ${MODEL_TYPES.join(", ")}`;
    throw new HuggingFaceError(
      `${where}: no model for model_type ${JSON.stringify(json.model_type)}; ${known}; any other can be exported to .onnx`,
    );
  }
  if (settings.has("quantization_config")) {
    throw new HuggingFaceError(
      `${where}: its weights are quantised; take the folder with bf16, f16 or f32 weights`,
    );
  }
  const tied = settings.flag("tie_word_embeddings", type === "gpt2" || type === "smollm3");
  return type === "gpt2"
    ? { family: "gpt2", tied, graph: gpt2Config(settings) }
    : { family: "llama", tied, graph: llamaConfig(settings, type) };
}

function activation(settings: Settings, key: string, fallback: string): Activation {
  const known = ACTIVATIONS[settings.text(key, fallback)];
  return known ?? settings.wrong(key, `one of ${Object.keys(ACTIVATIONS).join(", ")}`);
}

function gpt2Config(settings: Settings): Gpt2Config {
  settings.only("scale_attn_weights", [true]);
  settings.only("scale_attn_by_inverse_layer_idx", [false]);
  settings.only("add_cross_attention", [false]);
  const width = settings.count("n_embd", 768);
  return {
    width,
    layers: settings.layers("n_layer", 12),
    heads: settings.count("n_head", 12),
    inner: settings.count("n_inner", 4 * width),
    positions: settings.count("n_positions", 1024),
    vocabulary: settings.count("vocab_size", 50257),
    activation: activation(settings, "activation_function", "gelu_new"),
    epsilon: settings.positive("layer_norm_epsilon", 1e-5),
  };
}

function llamaConfig(settings: Settings, type: ModelType): LlamaConfig {
  // Settings of these models that would be another arithmetic.
  settings.only("partial_rotary_factor", [1]);
  settings.only("pretraining_tp", [1]);
  const width = settings.count("hidden_size");
  const heads = settings.count("num_attention_heads");
  const layers = settings.layers("num_hidden_layers");
  const biased = settings.flag("attention_bias", false);
  return {
    width,
    heads,
    keyHeads: settings.count("num_key_value_heads", heads),
    headSize: settings.count("head_dim", type === "qwen3" ? 128 : width / heads),
    inner: settings.count("intermediate_size"),
    positions: settings.count("max_position_embeddings"),
    vocabulary: settings.count("vocab_size"),
    activation: activation(settings, "hidden_act", "silu"),
    epsilon: settings.positive("rms_norm_eps", 1e-6),
    rotary: rotary(settings),
    bias: {
      attention: type === "qwen2" || (type !== "mistral" && biased),
      output: type !== "qwen2" && type !== "mistral" && biased,
      feedForward: (type === "llama" || type === "smollm3") && settings.flag("mlp_bias", false),
    },
    normalisedHeads: type === "qwen3",
    layers: layerKinds(settings, type, layers),
  };
}

/** transformers 5 has all of it in `rope_parameters`; before, `rope_theta` stood beside `rope_scaling`. */
function rotary(settings: Settings): Rotary {
  const part = settings.part("rope_parameters") ?? settings.part("rope_scaling");
  const theta = part?.has("rope_theta")
    ? part.positive("rope_theta")
    : settings.positive("rope_theta", 10000);
  if (!part) return { theta, scaling: null };
  part.only("partial_rotary_factor", [1]);
  const type = part.has("rope_type") ? part.text("rope_type") : part.text("type", "default");
  switch (type) {
    case "default":
      return { theta, scaling: null };
    case "linear":
      return { theta, scaling: { type, factor: part.positive("factor") } };
    case "llama3":
      return {
        theta,
        scaling: {
          type,
          factor: part.positive("factor"),
          lowFrequency: part.positive("low_freq_factor"),
          highFrequency: part.positive("high_freq_factor"),
          original: part.positive("original_max_position_embeddings"),
        },
      };
    default:
      throw new HuggingFaceError(
        `${part.where}: rope type ${type} is not known; known are default, linear, llama3`,
      );
  }
}

/** Which layers see a window only, and which rotate. A model's own rule counts where `layer_types` is not given. */
function layerKinds(settings: Settings, type: ModelType, layers: number): LlamaLayer[] {
  const windows = settings.flag("use_sliding_window", type === "mistral");
  // Left out, it is 4096 for these; null is none.
  const absent = settings.values.sliding_window === undefined && type !== "smollm3" ? 4096 : null;
  const given = settings.has("sliding_window") ? settings.count("sliding_window") : absent;
  const window = type !== "llama" && windows ? given : null;
  const kinds = settings.perLayer("layer_types", layers);
  const firstWindow = settings.whole("max_window_layers", 28);
  const rotations = settings.perLayer("no_rope_layers", layers);
  const interval = settings.count("no_rope_layer_interval", 4);
  return Array.from({ length: layers }, (_, layer) => {
    const rotated = type !== "smollm3" || Boolean(rotations ? rotations[layer] : (layer + 1) % interval);
    const narrow = type === "smollm3" ? !rotated : type === "mistral" || layer >= firstWindow;
    const kind = kinds?.[layer] ?? (narrow ? "sliding_attention" : "full_attention");
    if (kind !== "full_attention" && kind !== "sliding_attention") {
      settings.wrong("layer_types", "full_attention or sliding_attention for every layer");
    }
    return { window: kind === "sliding_attention" ? window : null, rotated };
  });
}
