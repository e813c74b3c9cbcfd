/** Adapters as PEFT keeps them, and adapters merged into a folder, with a Python that has transformers. */

import { describe, expect, test } from "bun:test";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { exportAdapter } from "../../../nn/finetune/adapter.ts";
import { type LoraModel, type LoraOptions, lora } from "../../../nn/finetune/lora.ts";
import { mergeLora } from "../../../nn/finetune/merge.ts";
import { type ExportedFile, exportFolder } from "../../../nn/hf/export.ts";
import { GraphError } from "../../../nn/onnx/graph.ts";
import { decodeSafetensors } from "../../../nn/weights/safetensors.ts";
import { type Tensor, TensorError } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";
import {
  batchMajor,
  batchOf,
  difference,
  expected,
  initialValues,
  logitsGraph,
  open,
  shapeOf,
} from "../hf/fixtures.ts";
import { missing, PYTHON_TIMEOUT, pythonLogits, withFolders } from "../hf/python.ts";
import { runGraph } from "../run.ts";

/** A model with random adapters, and its logits where they are asked for. */
async function tuned(name: string, options: LoraOptions) {
  const want = expected(name);
  const folder = await open(name);
  const model = lora(folder.model(shapeOf(want)), options);
  const chance = new Chance(8);
  const values: Record<string, Tensor> = await initialValues(model, 1);
  for (const parameter of model.parameters)
    values[parameter] = chance.f32(values[parameter]!.shape, -0.3, 0.3);
  const trained = new Map(model.parameters.map((parameter) => [parameter, values[parameter]!]));
  const logits = async () => {
    const inputs = { ...values, ...batchOf(want) };
    const results = await runGraph(createReferenceEngine(), logitsGraph(model), inputs);
    return batchMajor(results.logits!, shapeOf(want));
  };
  return { folder, model, trained, want, logits };
}

const config = (files: readonly ExportedFile[]) =>
  JSON.parse(new TextDecoder().decode(files.find(({ name }) => name.endsWith(".json"))!.chunks[0])) as Record<
    string,
    unknown
  >;

async function* each(files: readonly ExportedFile[]): AsyncGenerator<ExportedFile> {
  yield* files;
}

describe("an exported adapter", () => {
  test("has PEFT's files, names, shapes and settings", async () => {
    const { model, trained } = await tuned("llama", {
      targets: ["q_proj", "mlp.*"],
      rank: 2,
      alpha: 8,
      dropout: 0.1,
    });
    const files = exportAdapter(model, trained, "base");
    expect(files.map(({ name }) => name)).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
    expect(config(files)).toMatchObject({
      peft_type: "LORA",
      task_type: "CAUSAL_LM",
      base_model_name_or_path: "base",
      r: 2,
      lora_alpha: 8,
      lora_dropout: 0.1,
      fan_in_fan_out: false,
      target_modules: ["down_proj", "gate_proj", "q_proj", "up_proj"],
    });
    const { tensors, metadata } = decodeSafetensors(new Uint8Array(Buffer.concat(files[1]!.chunks)));
    expect(metadata).toEqual({ format: "pt" });
    expect(tensors.size).toBe(2 * 8);
    const module = "base_model.model.model.layers.1.mlp.down_proj";
    expect(tensors.get(`${module}.lora_A.weight`)!.shape).toEqual([2, 40]);
    expect(tensors.get(`${module}.lora_B.weight`)!.shape).toEqual([32, 2]);
    expect(tensors.get(`${module}.lora_B.weight`)!.bytes).toEqual(
      trained.get("model.layers.1.mlp.down_proj.lora_B.weight")!.bytes,
    );
  });

  test("names whole modules where their ends would pick others too", async () => {
    const some = await tuned("llama", { targets: ["layers.1.self_attn.q_proj"], rank: 1, alpha: 1 });
    expect(config(exportAdapter(some.model, some.trained, "b")).target_modules).toEqual([
      "model.layers.1.self_attn.q_proj",
    ]);
    const gpt2 = await tuned("gpt2", { targets: ["c_attn"], rank: 1, alpha: 1 });
    expect(config(exportAdapter(gpt2.model, gpt2.trained, "b"))).toMatchObject({
      fan_in_fan_out: true,
      target_modules: ["c_attn"],
    });
  });

  test("and a merged one want every value, of its shape", async () => {
    const { model, trained } = await tuned("llama", { targets: ["q_proj"], rank: 1, alpha: 1 });
    const name = "model.layers.0.self_attn.q_proj.lora_A.weight";
    const others = new Map([...trained].filter(([key]) => key !== name));
    expect(() => exportAdapter(model, others, "b")).toThrow(
      new GraphError(`the adapter's value ${name} is missing`),
    );
    await expect(mergeLora(model, others, 1)).rejects.toThrow(
      new TensorError(`adapter ${name}: expected f32[1,32], got nothing`),
    );
    const wrong = new Map([
      ...trained,
      [name, trained.get("model.layers.0.self_attn.q_proj.lora_B.weight")!],
    ]);
    await expect(mergeLora(model, wrong, 1)).rejects.toThrow(
      `adapter ${name}: expected f32[1,32], got f32[32,1]`,
    );
  });
});

const why = await missing("transformers", "torch");
if (why) console.warn(`adapters in transformers: skipped, ${why}`);

test.skipIf(why !== null)(
  "transformers computes the same with an exported adapter, and with a merged one",
  async () => {
    const gpt2 = await tuned("gpt2", { targets: ["c_attn", "mlp"], rank: 2, alpha: 6 });
    const llama = await tuned("llama", { targets: ["q_proj", "v_proj", "lm_head"], rank: 3, alpha: 3 });
    const tied = await tuned("qwen3", { targets: ["lm_head", "up_proj"], rank: 2, alpha: 4 });
    const all = [gpt2, llama, tied];
    const merged = async ({
      folder,
      model,
      trained,
    }: {
      folder: typeof gpt2.folder;
      model: LoraModel;
      trained: Map<string, Tensor>;
    }) => exportFolder(folder, await mergeLora(model, trained, 1), { dtype: "f32" });
    const folders = [
      ...(await Promise.all(all.map(merged))),
      ...all.map(({ folder }) => exportFolder(folder, new Map(), { dtype: "f32" })),
      ...all.map(({ model, trained }) => each(exportAdapter(model, trained, "base"))),
    ];
    await withFolders(folders, async (paths) => {
      const requests = [
        ...all.map(({ want }, i) => ({ folder: paths[i]!, adapter: null, ids: want.ids })),
        // Beside a tied head an adapter would be merged into the embedding too; peft keeps them apart.
        ...all
          .slice(0, 2)
          .map(({ want }, i) => ({ folder: paths[3 + i]!, adapter: paths[6 + i]!, ids: want.ids })),
      ];
      const theirs = await pythonLogits(requests);
      const ours = await Promise.all(all.map(({ logits }) => logits()));
      [...ours, ...ours.slice(0, 2)].forEach((logits, i) => {
        expect(difference(logits, theirs[i]!), `request ${i}`).toBeLessThan(1e-4);
      });
      all.forEach(({ want }, i) => {
        expect(difference(ours[i]!, want.logits)).toBeGreaterThan(0.01);
      });
    });
  },
  PYTHON_TIMEOUT,
);
