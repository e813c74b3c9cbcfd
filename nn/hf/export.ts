/**
 * A trained model as a Hugging Face folder that transformers loads: the files of the folder it came from, with the
 * trained tensors in the place of the old ones. Names, order of shards and, unless f32 is asked for, element types stay;
 * so a tensor that was not trained comes out bit by bit as it went in.
 *
 * Files are given one after another and their tensors one after another, so that memory holds one shard at most.
 */

import { byteLength, elements, type Tensor } from "../../protocols/tensor.ts";
import { typeText } from "../onnx/shapes.ts";
import { type FloatType, fromF32, isFloat, toF32 } from "../weights/convert.ts";
import type { SafetensorsReader } from "../weights/reader.ts";
import { encodeSafetensors } from "../weights/safetensors.ts";
import { HuggingFaceError, readJson } from "./folder.ts";
import { CONFIG, HEAD, type HuggingFaceModel } from "./model.ts";
import { INDEX } from "./weights.ts";

/** A file to write: its chunks one after another. They are the caller's until the next file is asked for. */
export interface ExportedFile {
  readonly name: string;
  readonly chunks: readonly Uint8Array[];
}

export interface ExportOptions {
  /** Element type of the weights: "kept" is what each tensor came in. */
  readonly dtype: "kept" | "f32";
}

/** Files that are carried over: configuration, tokenizer, templates. */
const CARRIED = /\.(json|txt|jinja|model|md)$/;

/** transformers takes a file for PyTorch's only with this. */
const METADATA = { format: "pt" };

/**
 * The files of the exported folder.
 * @param values trained parameters in f32, by the model's names; what is not among them is as in `source`. A head that
 *   is tied to the embedding and has become another (LoRA on it) is written out, and config.json says so.
 * @throws HuggingFaceError for a value of another type than the parameter, or a name that is none.
 */
export async function* exportFolder(
  source: HuggingFaceModel,
  values: ReadonlyMap<string, Tensor>,
  options: ExportOptions = { dtype: "kept" },
): AsyncGenerator<ExportedFile> {
  const { folder, weights } = source;
  const known = new Map(source.parameters.map((info) => [info.name, info]));
  for (const [name, value] of values) {
    const info = known.get(name);
    if (!info || typeText(info) !== typeText(value)) {
      const expected = info ? `expected ${typeText(info)}, got ${typeText(value)}` : "the model has none";
      throw new HuggingFaceError(`${folder.name}: value ${name} cannot be exported: ${expected}`);
    }
  }
  const head = await headOfItsOwn(source, values);
  const replaced = new Map<string, Tensor>();
  for (const [name, value] of values) {
    const stored = weights.find(name);
    if (stored && !(name in source.ties)) replaced.set(stored.entry.name, value);
  }
  // Some folders hold the head also where it is tied: then it has to follow.
  const storedHead = weights.find(HEAD);
  const follows = head?.value ?? values.get(source.ties[HEAD] ?? HEAD);
  if (storedHead && follows) replaced.set(storedHead.entry.name, follows);

  for (const file of (await folder.list()).keys()) {
    if (!CARRIED.test(file) || file === INDEX || file === CONFIG) continue;
    yield { name: file, chunks: [await folder.read(file)] };
  }
  const config = { ...(await readJson(folder, CONFIG)) };
  if (head) config.tie_word_embeddings = false;
  for (const key of ["dtype", "torch_dtype"])
    if (options.dtype === "f32" && key in config) config[key] = "float32";
  yield { name: CONFIG, chunks: [json(config)] };

  const index: [string, string][] = [];
  const total = { total_parameters: 0, total_size: 0 };
  const last = [...weights.files.keys()].at(-1);
  for (const [file, reader] of weights.files) {
    const tensors = await shardOf(reader, replaced, options);
    if (head && !storedHead && file === last) {
      tensors.set(HEAD, fromF32(head.value, options.dtype === "f32" ? "f32" : head.dtype));
    }
    for (const [name, { dtype, shape }] of tensors) {
      index.push([name, file]);
      total.total_parameters += elements(shape);
      total.total_size += byteLength(dtype, shape);
    }
    yield { name: file, chunks: encodeSafetensors(tensors, METADATA) };
  }
  if (weights.sharded) {
    const map = Object.fromEntries(index.sort(([a], [b]) => (a < b ? -1 : 1)));
    yield { name: INDEX, chunks: [json({ metadata: total, weight_map: map })] };
  }
}

/** A shard's tensors, the trained ones in their new values. */
async function shardOf(
  reader: SafetensorsReader,
  replaced: ReadonlyMap<string, Tensor>,
  { dtype }: ExportOptions,
): Promise<Map<string, Tensor>> {
  const tensors = new Map<string, Tensor>();
  for (const [name, entry] of reader.entries) {
    const value = replaced.get(name);
    if (value) {
      tensors.set(name, fromF32(value, dtype === "f32" ? "f32" : (entry.dtype as FloatType)));
    } else {
      const tensor = await reader.tensor(name);
      tensors.set(name, dtype === "f32" && isFloat(tensor.dtype) ? toF32(tensor) : tensor);
    }
  }
  return tensors;
}

/** The head's value and element type where it was tied and is no longer the embedding; else null. */
async function headOfItsOwn(
  source: HuggingFaceModel,
  values: ReadonlyMap<string, Tensor>,
): Promise<{ value: Tensor; dtype: FloatType } | null> {
  const [embedding, value] = [source.ties[HEAD], values.get(HEAD)];
  if (embedding === undefined || !value) return null;
  const other = values.get(embedding) ?? (await source.value(embedding));
  if (equalBytes(value.bytes, other.bytes)) return null;
  return { value, dtype: source.weights.find(embedding)!.entry.dtype as FloatType };
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return a.length === b.length;
}

const json = (value: unknown) => new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`);
