/**
 * The weights of a Hugging Face folder: one model.safetensors, or shards and the index that says which tensor is in
 * which. Opening reads headers only and checks that every tensor of the model is there and of its shape, so that what
 * is wrong with a folder is known before anything is trained; tensors are read one by one, when they are asked for.
 */

import type { Tensor } from "../../protocols/tensor.ts";
import type { ValueInfo } from "../onnx/graph.ts";
import { isFloat } from "../weights/convert.ts";
import type { TensorEntry } from "../weights/header.ts";
import { SafetensorsReader } from "../weights/reader.ts";
import { type Folder, HuggingFaceError, readJson } from "./folder.ts";

const SINGLE = "model.safetensors";
export const INDEX = "model.safetensors.index.json";

/** What a checkpoint of the bare model, without its head, leaves out of names. */
const PREFIXES = /^(transformer|model)\./;

/** A tensor of the model as the folder has it. */
export interface StoredTensor {
  readonly file: string;
  readonly entry: TensorEntry;
}

export class FolderWeights {
  /** Files with weights, in the order of their names. */
  readonly files: ReadonlyMap<string, SafetensorsReader>;
  /** Whether an index names the files. */
  readonly sharded: boolean;
  private readonly folder: Folder;
  private readonly stored: ReadonlyMap<string, StoredTensor>;

  private constructor(
    folder: Folder,
    files: ReadonlyMap<string, SafetensorsReader>,
    stored: ReadonlyMap<string, StoredTensor>,
    sharded: boolean,
  ) {
    this.folder = folder;
    this.files = files;
    this.stored = stored;
    this.sharded = sharded;
  }

  /**
   * Reads the index, where there is one, and the headers of all files.
   * @throws HuggingFaceError when there are no weights, a shard that the index names is missing or lacks a tensor;
   *   WeightsError when a file is truncated or malformed.
   */
  static async open(folder: Folder): Promise<FolderWeights> {
    const sizes = await folder.list();
    const sharded = !sizes.has(SINGLE) && sizes.has(INDEX);
    if (!sharded && !sizes.has(SINGLE)) {
      const remedy = "save it with save_pretrained(folder, safe_serialization=True)";
      throw new HuggingFaceError(`${folder.name} has neither ${SINGLE} nor ${INDEX}: ${remedy}`);
    }
    const index = sharded ? await readIndex(folder) : new Map<string, string>();
    const names = sharded ? [...new Set(index.values())].sort() : [SINGLE];
    const files = new Map<string, SafetensorsReader>();
    for (const file of names) {
      const size = sizes.get(file);
      if (size === undefined) {
        const tensor = [...index].find(([, shard]) => shard === file)![0];
        const what = `${file}, which ${INDEX} names for ${tensor}`;
        throw new HuggingFaceError(`${folder.name} lacks ${what}: fetch that shard`);
      }
      const read = (start: number, end: number) => folder.readRange(file, start, end);
      files.set(file, await SafetensorsReader.open(read, size, `${folder.name}/${file}`));
    }
    const stored = new Map<string, StoredTensor>();
    for (const [file, reader] of files) {
      for (const [name, entry] of reader.entries) stored.set(name, { file, entry });
    }
    for (const [name, file] of index) {
      if (files.get(file)!.entries.has(name)) continue;
      const remedy = "index and shards are of different models: fetch all of them again";
      throw new HuggingFaceError(
        `${folder.name}/${file} lacks tensor ${name}, which ${INDEX} says it has: ${remedy}`,
      );
    }
    return new FolderWeights(folder, files, stored, sharded);
  }

  /** Where a parameter is kept, under its own name or that of the bare model; undefined where it is not. */
  find(name: string): StoredTensor | undefined {
    return this.stored.get(name) ?? this.stored.get(name.replace(PREFIXES, ""));
  }

  /**
   * Where a parameter is kept.
   * @throws HuggingFaceError when it is missing, of another shape, or no real numbers.
   */
  require({ name, shape }: ValueInfo): StoredTensor {
    const found = this.find(name);
    if (!found) {
      const files = this.sharded ? `the shards of ${INDEX}` : SINGLE;
      const remedy = "config.json and weights are of different models, or a file is an older one";
      throw new HuggingFaceError(`${this.folder.name}: tensor ${name} is in none of ${files}: ${remedy}`);
    }
    const { file, entry } = found;
    const where = `${this.folder.name}/${file}: tensor ${entry.name}`;
    if (entry.shape.join() !== shape.join()) {
      const expected = `[${entry.shape}] and config.json makes it [${shape}]`;
      throw new HuggingFaceError(`${where} is ${expected}: they are of different models`);
    }
    if (!isFloat(entry.dtype)) {
      throw new HuggingFaceError(`${where} is ${entry.dtype}: take the folder with bf16, f16 or f32 weights`);
    }
    return found;
  }

  /** Reads one tensor as it is stored. @throws WeightsError when bytes are missing. */
  read({ file, entry }: StoredTensor): Promise<Tensor> {
    return this.files.get(file)!.tensor(entry.name);
  }
}

/** From each tensor's name to its shard. */
async function readIndex(folder: Folder): Promise<Map<string, string>> {
  const { weight_map: map } = await readJson(folder, INDEX);
  const valid = typeof map === "object" && map !== null;
  const entries = valid ? Object.entries(map) : [];
  // A shard is a file of this folder: nothing an index says leads out of it.
  if (
    entries.length === 0 ||
    !entries.every(([, file]) => typeof file === "string" && /^[^/\\]+$/.test(file))
  ) {
    const expected = "weight_map must name a file of the folder for every tensor";
    throw new HuggingFaceError(`${folder.name}/${INDEX}: ${expected}; fetch it again`);
  }
  return new Map(entries as [string, string][]);
}
