/** The committed Hugging Face folders, read from disk, and what transformers computes with them. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Folder, memoryFolder } from "../../../nn/hf/folder.ts";
import { HuggingFaceModel } from "../../../nn/hf/model.ts";
import type { Model } from "../../../nn/model.ts";
import { LOGITS, type TextShape } from "../../../nn/models/transformer.ts";
import { extract } from "../../../nn/onnx/extract.ts";
import type { Graph } from "../../../nn/onnx/graph.ts";
import { Tensor } from "../../../protocols/tensor.ts";

export const FIXTURES = join(import.meta.dir, "..", "..", "fixtures", "huggingface");

export const FOLDERS = ["gpt2", "llama", "mistral", "qwen2", "qwen3", "smollm3"] as const;

export interface Expected {
  /** [rows][context] */
  readonly ids: readonly (readonly number[])[];
  /** [rows, context, vocabulary] */
  readonly logits: readonly number[];
  readonly loss: number;
  readonly gradients: Readonly<Record<string, number>>;
}

export function files(name: string): Map<string, Uint8Array> {
  const where = join(FIXTURES, name);
  return new Map(readdirSync(where).map((file) => [file, new Uint8Array(readFileSync(join(where, file)))]));
}

export const folder = (name: string): Folder => memoryFolder(name, files(name));
export const open = (name: string): Promise<HuggingFaceModel> => HuggingFaceModel.open(folder(name));

export const expected = (name: string): Expected =>
  JSON.parse(readFileSync(join(FIXTURES, `${name}.json`), "utf8")) as Expected;

export const shapeOf = ({ ids }: Expected): TextShape => ({ rows: ids.length, context: ids[0]!.length });

/** The ids as the graph takes them, time-major, and the ids that follow; the last position predicts 0. */
export function batchOf({ ids }: Pick<Expected, "ids">): Record<string, Tensor> {
  const [rows, context] = [ids.length, ids[0]!.length];
  const timeMajor = (at: (row: number, t: number) => number) =>
    Array.from({ length: rows * context }, (_, i) => at(i % rows, Math.floor(i / rows)));
  return {
    ids: Tensor.i64(
      [context, rows],
      timeMajor((row, t) => ids[row]![t]!),
    ),
    targets: Tensor.i64(
      [context * rows],
      timeMajor((row, t) => ids[row]![t + 1] ?? 0),
    ),
  };
}

/** Every held value of the model, as it begins. */
export async function initialValues(model: Model, seed = 0): Promise<Record<string, Tensor>> {
  const names = [...model.parameters, ...model.frozen];
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await model.initial(name, seed)])),
  );
}

export const logitsGraph = ({ graph }: Model): Graph => extract(graph, graph.inputs, [LOGITS]);

/** Logits [context·rows, vocabulary] of the graph in the order of the fixture, [rows, context, vocabulary]. */
export function batchMajor(logits: Tensor, { rows, context }: TextShape): Float32Array {
  const vocabulary = logits.shape[1]!;
  const from = logits.f32();
  const to = new Float32Array(from.length);
  for (let row = 0; row < rows; row++) {
    for (let t = 0; t < context; t++) {
      const at = (t * rows + row) * vocabulary;
      to.set(from.subarray(at, at + vocabulary), (row * context + t) * vocabulary);
    }
  }
  return to;
}

/** The largest difference, relative to 1 + |expected|. */
export function difference(got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length) throw new Error(`${got.length} values, expected ${want.length}`);
  let most = 0;
  for (let i = 0; i < want.length; i++) {
    most = Math.max(most, Math.abs(got[i]! - want[i]!) / (1 + Math.abs(want[i]!)));
    if (Number.isNaN(got[i]!)) return Number.NaN;
  }
  return most;
}
