/** Folders that cannot be used: one line that names file, tensor and remedy. */

import { describe, expect, test } from "bun:test";
import { parseConfig } from "../../../nn/hf/config.ts";
import { HuggingFaceError, memoryFolder } from "../../../nn/hf/folder.ts";
import { HuggingFaceModel } from "../../../nn/hf/model.ts";
import { WeightsError } from "../../../nn/weights/header.ts";
import { decodeSafetensors, encodeSafetensors } from "../../../nn/weights/safetensors.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { files, open } from "./fixtures.ts";

const INDEX = "model.safetensors.index.json";
const utf8 = (value: unknown) =>
  new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
const json = (bytes: Uint8Array | undefined) =>
  JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;

/** The message with which a changed folder is refused. */
async function refusal(name: string, change: (all: Map<string, Uint8Array>) => void): Promise<string> {
  const all = files(name);
  change(all);
  try {
    await HuggingFaceModel.open(memoryFolder(name, all));
  } catch (error) {
    expect(error instanceof HuggingFaceError || error instanceof WeightsError).toBe(true);
    const { message } = error as Error;
    expect(message).not.toContain("\n");
    return message;
  }
  throw new Error("was accepted");
}

const config = (change: Record<string, unknown>) => (all: Map<string, Uint8Array>) =>
  all.set("config.json", utf8({ ...json(all.get("config.json")), ...change }));

const tensors = (change: (tensors: Map<string, Tensor>) => void) => (all: Map<string, Uint8Array>) => {
  const map = new Map(decodeSafetensors(all.get("model.safetensors")!).tensors);
  change(map);
  all.set("model.safetensors", new Uint8Array(Buffer.concat(encodeSafetensors(map))));
};

describe("a folder is refused", () => {
  const cases: [string, string, (all: Map<string, Uint8Array>) => void, string][] = [
    [
      "without config.json",
      "gpt2",
      (all) => all.delete("config.json"),
      "gpt2 has no config.json: it is no Hugging Face model folder",
    ],
    [
      "with a config.json cut off",
      "gpt2",
      (all) => all.set("config.json", utf8("{")),
      "gpt2/config.json is not a JSON object: fetch the folder again",
    ],
    [
      "of an unknown model type",
      "gpt2",
      config({ model_type: "bert" }),
      'gpt2/config.json: no model for model_type "bert"; known are gpt2, llama, mistral, qwen2, qwen3, smollm3; any other can be exported to .onnx',
    ],
    [
      "with a setting that is no number",
      "llama",
      config({ hidden_size: "32" }),
      'llama/config.json: hidden_size is "32", expected a number greater than 0',
    ],
    [
      "with more layers than a model has",
      "gpt2",
      config({ n_layer: 1e9 }),
      "gpt2/config.json: n_layer is 1000000000, expected at most 1000",
    ],
    [
      "with a setting missing",
      "llama",
      config({ vocab_size: null }),
      "llama/config.json: vocab_size is null, expected a number greater than 0",
    ],
    [
      "with an unknown activation",
      "llama",
      config({ hidden_act: "mish" }),
      'llama/config.json: hidden_act is "mish", expected one of gelu, gelu_new, gelu_pytorch_tanh, silu, swish, relu',
    ],
    [
      "with unknown rotary scaling",
      "llama",
      config({ rope_parameters: { rope_type: "yarn", factor: 2 } }),
      "llama/config.json, rope_parameters: rope type yarn is not known; known are default, linear, llama3",
    ],
    [
      "with quantised weights",
      "llama",
      config({ quantization_config: { bits: 4 } }),
      "llama/config.json: its weights are quantised; take the folder with bf16, f16 or f32 weights",
    ],
    [
      "with other attention",
      "gpt2",
      config({ scale_attn_by_inverse_layer_idx: true }),
      "gpt2/config.json: scale_attn_by_inverse_layer_idx is true, expected false; nothing else is known",
    ],
    [
      "without weights",
      "gpt2",
      (all) => all.delete("model.safetensors"),
      `gpt2 has neither model.safetensors nor ${INDEX}: save it with save_pretrained(folder, safe_serialization=True)`,
    ],
    [
      "with a truncated file",
      "gpt2",
      (all) => all.set("model.safetensors", all.get("model.safetensors")!.subarray(0, 20_000)),
      "gpt2/model.safetensors: truncated: tensor transformer.h.0.mlp.c_fc.weight ends at byte 19584, the file holds 17432 bytes of tensors",
    ],
    [
      "without a tensor",
      "gpt2",
      tensors((map) => map.delete("transformer.ln_f.bias")),
      "gpt2: tensor transformer.ln_f.bias is in none of model.safetensors: config.json and weights are of different models, or a file is an older one",
    ],
    [
      "with a tensor of another shape",
      "gpt2",
      tensors((map) => map.set("transformer.ln_f.bias", Tensor.zeros("f32", [25]))),
      "gpt2/model.safetensors: tensor transformer.ln_f.bias is [25] and config.json makes it [24]: they are of different models",
    ],
    [
      "with a tensor of integers",
      "gpt2",
      tensors((map) => map.set("transformer.ln_f.bias", Tensor.zeros("i8", [24]))),
      "gpt2/model.safetensors: tensor transformer.ln_f.bias is i8: take the folder with bf16, f16 or f32 weights",
    ],
    [
      "without a shard",
      "llama",
      (all) => all.delete("model-00002-of-00002.safetensors"),
      `llama lacks model-00002-of-00002.safetensors, which ${INDEX} names for lm_head.weight: fetch that shard`,
    ],
    [
      "with an index of another model",
      "llama",
      (all) =>
        all.set(
          INDEX,
          utf8({
            weight_map: {
              ...(json(all.get(INDEX)).weight_map as object),
              x: "model-00001-of-00002.safetensors",
            },
          }),
        ),
      `llama/model-00001-of-00002.safetensors lacks tensor x, which ${INDEX} says it has: index and shards are of different models: fetch all of them again`,
    ],
    [
      "with an index that leads out of it",
      "llama",
      (all) => all.set(INDEX, utf8({ weight_map: { x: "../secret.safetensors" } })),
      `llama/${INDEX}: weight_map must name a file of the folder for every tensor; fetch it again`,
    ],
  ];
  test.each(cases)("%s", async (_, name, change, message) => {
    expect(await refusal(name, change)).toBe(message);
  });
});

describe("settings", () => {
  const base = {
    model_type: "llama",
    hidden_size: 32,
    num_attention_heads: 4,
    num_hidden_layers: 4,
    intermediate_size: 8,
    vocab_size: 9,
    max_position_embeddings: 16,
  };
  const llama = (settings: Record<string, unknown>) => {
    const parsed = parseConfig({ ...base, ...settings }, "c");
    if (parsed.family !== "llama") throw new Error("not a Llama");
    return { ...parsed.graph, tied: parsed.tied };
  };
  const windows = (settings: Record<string, unknown>) => llama(settings).layers.map(({ window }) => window);

  test("of rotary positions are read as transformers 4 and 5 write them", () => {
    expect(llama({}).rotary).toEqual({ theta: 10000, scaling: null });
    const old = { rope_theta: 500, rope_scaling: { type: "linear", factor: 4 } };
    const now = { rope_parameters: { rope_type: "linear", rope_theta: 500, factor: 4 } };
    for (const settings of [old, now]) {
      expect(llama(settings).rotary).toEqual({ theta: 500, scaling: { type: "linear", factor: 4 } });
    }
  });

  test("of windows follow each model's own rule", () => {
    expect(windows({ model_type: "llama", sliding_window: 4 })).toEqual([null, null, null, null]);
    expect(windows({ model_type: "mistral" })).toEqual([4096, 4096, 4096, 4096]);
    expect(windows({ model_type: "mistral", sliding_window: null })).toEqual([null, null, null, null]);
    const qwen = { model_type: "qwen2", sliding_window: 4, max_window_layers: 3 };
    expect(windows(qwen)).toEqual([null, null, null, null]);
    expect(windows({ ...qwen, use_sliding_window: true })).toEqual([null, null, null, 4]);
    expect(windows({ ...qwen, use_sliding_window: true, max_window_layers: 0 })).toEqual([4, 4, 4, 4]);
    const types = ["sliding_attention", "full_attention", "full_attention", "full_attention"];
    expect(windows({ ...qwen, use_sliding_window: true, layer_types: types })).toEqual([4, null, null, null]);
  });

  test("left out are each model's own", () => {
    expect(llama({ model_type: "smollm3" }).layers.map(({ rotated }) => rotated)).toEqual([
      true,
      true,
      true,
      false,
    ]);
    expect([llama({ model_type: "smollm3" }).tied, llama({}).tied]).toEqual([true, false]);
    expect([llama({ model_type: "qwen3" }).headSize, llama({}).headSize]).toEqual([128, 8]);
    expect(llama({ model_type: "qwen2" }).bias).toEqual({
      attention: true,
      output: false,
      feedForward: false,
    });
    expect(llama({}).keyHeads).toBe(4);
  });
});

test("a context longer than the model's positions, and sizes that do not fit, are named", async () => {
  const model = await open("gpt2");
  expect(() => model.model({ rows: 1, context: 25 })).toThrow(
    "sequences of 25 tokens are longer than the model's 24 positions",
  );
  expect((await open("llama")).positions).toBe(64);
});
