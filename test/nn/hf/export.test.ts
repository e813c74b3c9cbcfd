/** What is exported is read again as the same; transformers' own reading of it is in `transformers.test.ts`. */

import { describe, expect, test } from "bun:test";
import { type ExportOptions, exportFolder } from "../../../nn/hf/export.ts";
import { HuggingFaceError, memoryFolder } from "../../../nn/hf/folder.ts";
import { HEAD, HuggingFaceModel } from "../../../nn/hf/model.ts";
import { SafetensorsReader } from "../../../nn/weights/reader.ts";
import { decodeSafetensors, encodeSafetensors } from "../../../nn/weights/safetensors.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { FOLDERS, files, open } from "./fixtures.ts";

const join = (chunks: readonly Uint8Array[]) => new Uint8Array(Buffer.concat(chunks));
const json = (bytes: Uint8Array | undefined) =>
  JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;

async function exported(
  model: HuggingFaceModel,
  values: ReadonlyMap<string, Tensor>,
  options?: ExportOptions,
) {
  const written = new Map<string, Uint8Array>();
  for await (const { name, chunks } of exportFolder(model, values, options)) {
    expect(written.has(name)).toBe(false);
    written.set(name, join(chunks));
  }
  return written;
}

async function allValues(model: HuggingFaceModel): Promise<Map<string, Tensor>> {
  const names = model.parameters.map(({ name }) => name);
  return new Map(
    await Promise.all(names.map(async (name): Promise<[string, Tensor]> => [name, await model.value(name)])),
  );
}

/** Tensors of all weight files. */
const tensorsOf = (all: ReadonlyMap<string, Uint8Array>) =>
  new Map(
    [...all]
      .filter(([name]) => name.endsWith(".safetensors"))
      .flatMap(([, bytes]) => [...decodeSafetensors(bytes).tensors]),
  );

const described = (tensors: ReadonlyMap<string, Tensor>) =>
  [...tensors]
    .map(([name, { dtype, shape, bytes }]) => [name, dtype, shape, Buffer.from(bytes).toString("base64")])
    .sort();

describe.each(FOLDERS)("a folder of %s", (name) => {
  test("comes out as it went in, whether its values are given or not", async () => {
    const model = await open(name);
    for (const values of [new Map<string, Tensor>(), await allValues(model)]) {
      const written = await exported(model, values);
      expect([...written.keys()].sort()).toEqual([...files(name).keys()].sort());
      expect(described(tensorsOf(written))).toEqual(described(tensorsOf(files(name))));
      for (const [file, bytes] of written) {
        if (file.endsWith(".json")) expect(json(bytes), file).toEqual(json(files(name).get(file)));
        else expect(decodeSafetensors(bytes).metadata, file).toEqual({ format: "pt" });
      }
    }
  });

  test("takes trained values, in its own element type or in f32", async () => {
    const model = await open(name);
    const values = await allValues(model);
    for (const [parameter, value] of values) {
      if (parameter in model.ties) continue;
      const trained = value.f32().map((x) => x * 1.01 + 0.001);
      values.set(parameter, Tensor.f32(value.shape, trained));
    }
    for (const [tied, owner] of Object.entries(model.ties)) values.set(tied, values.get(owner)!);
    const single = await exported(model, values, { dtype: "f32" });
    const again = await HuggingFaceModel.open(memoryFolder("again", single));
    for (const [parameter, value] of values) expect(await again.value(parameter)).toEqual(value);
    expect(json(single.get("config.json")).dtype).toBe("float32");
    const kept = tensorsOf(await exported(model, values));
    expect([...kept.values()].map(({ dtype }) => dtype)).toEqual(
      [...kept.keys()].map((tensor) => tensorsOf(files(name)).get(tensor)!.dtype),
    );
  });
});

describe("the export of a folder", () => {
  test("reads one shard at a time", async () => {
    const all = files("llama");
    const ranges: string[] = [];
    const inMemory = memoryFolder("llama", all);
    const model = await HuggingFaceModel.open({
      ...inMemory,
      readRange: (file, start, end) => {
        ranges.push(file);
        return inMemory.readRange(file, start, end);
      },
    });
    ranges.length = 0;
    for await (const { name } of exportFolder(model, new Map())) {
      expect(ranges.filter((file) => file !== name && name.endsWith(".safetensors"))).toEqual([]);
      ranges.length = 0;
    }
  });

  test("gives a head that is tied no longer a tensor of its own", async () => {
    const model = await open("qwen3");
    const head = (await model.value(HEAD)).f32().map((x) => x + 1);
    const shape = model.parameters.find(({ name }) => name === HEAD)!.shape;
    const written = await exported(model, new Map([[HEAD, Tensor.f32(shape, head)]]));
    expect(json(written.get("config.json")).tie_word_embeddings).toBe(false);
    const again = await HuggingFaceModel.open(memoryFolder("again", written));
    expect(again.ties).toEqual({});
    expect((await again.value(HEAD)).f32()[0]).toBeCloseTo(head[0]!, 1);
    expect((await again.value("model.embed_tokens.weight")).f32()[0]).not.toBeCloseTo(head[0]!, 1);
  });

  test("writes the head beside the embedding where the folder has both", async () => {
    const all = files("qwen3");
    const { tensors } = decodeSafetensors(all.get("model.safetensors")!);
    const embedding = tensors.get("model.embed_tokens.weight")!;
    all.set("model.safetensors", join(encodeSafetensors(new Map([...tensors, [HEAD, embedding]]))));
    const model = await HuggingFaceModel.open(memoryFolder("both", all));
    const value = Tensor.f32(embedding.shape, new Float32Array(embedding.elements).fill(0.5));
    const trained = new Map([
      ["model.embed_tokens.weight", value],
      [HEAD, value],
    ]);
    const written = tensorsOf(await exported(model, trained));
    expect(written.get(HEAD)!.bytes).toEqual(written.get("model.embed_tokens.weight")!.bytes);
    expect(written.get(HEAD)!.bytes).not.toEqual(embedding.bytes);
  });

  test("keeps the names of a folder of the bare model, and its buffers", async () => {
    const all = files("gpt2");
    const { tensors } = decodeSafetensors(all.get("model.safetensors")!);
    const bare = new Map([...tensors].map(([name, tensor]) => [name.replace("transformer.", ""), tensor]));
    bare.set("h.0.attn.bias", Tensor.zeros("bool", [1, 1, 4, 4]));
    all.set("model.safetensors", join(encodeSafetensors(bare)));
    const model = await HuggingFaceModel.open(memoryFolder("bare", all));
    const value = await model.value("transformer.ln_f.bias");
    expect(value.bytes).toEqual(tensors.get("transformer.ln_f.bias")!.bytes);
    const zero = Tensor.zeros("f32", value.shape);
    const written = tensorsOf(await exported(model, new Map([["transformer.ln_f.bias", zero]])));
    expect([...written.keys()].sort()).toEqual([...bare.keys()].sort());
    expect(written.get("ln_f.bias")).toEqual(zero);
  });

  test("refuses a value that is no parameter, or of another shape, in one line", async () => {
    const model = await open("gpt2");
    const refused = (name: string) => exported(model, new Map([[name, Tensor.f32([1], [1])]]));
    await expect(refused("other")).rejects.toThrow(
      new HuggingFaceError("gpt2: value other cannot be exported: the model has none"),
    );
    await expect(refused("transformer.ln_f.bias")).rejects.toThrow(
      new HuggingFaceError(
        "gpt2: value transformer.ln_f.bias cannot be exported: expected f32[24], got f32[1]",
      ),
    );
  });
});

test("a folder is opened by headers alone, and a value reads its own bytes", async () => {
  const inMemory = memoryFolder("llama", files("llama"));
  let bytes = 0;
  const model = await HuggingFaceModel.open({
    ...inMemory,
    readRange: async (file, start, end) => {
      bytes += end - start;
      return inMemory.readRange(file, start, end);
    },
  });
  expect(bytes).toBeLessThan(6000);
  bytes = 0;
  await model.value("model.layers.1.mlp.up_proj.weight");
  expect(bytes).toBe(40 * 32 * 4);
  expect(model.weights.files.get("model-00001-of-00002.safetensors")).toBeInstanceOf(SafetensorsReader);
});
