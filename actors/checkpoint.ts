/**
 * A checkpoint: a folder that holds all a run needs to go on, and a model that others can use.
 *
 * - `model.safetensors`: the parameters and running statistics, under their names
 * - `optimizer.safetensors`: the optimiser's state, such as AdamW's moments `m.<parameter>` and `v.<parameter>`
 * - `model.onnx`: the model for inference, where it is not exported in another form at the end
 * - `state.json`: format, step, seed, configurations, the SHA-256 of each file and of the weights
 *
 * Writing is all or nothing. The folder is made beside its place as `<folder>.partial`, the old one becomes
 * `<folder>.previous`, the new one takes its place, the old one goes. Whenever the process is killed, either the
 * old or the new checkpoint is whole; reading finds it even between the two renames.
 */

import type { ValueInfo } from "../nn/onnx/graph.ts";
import { typeText } from "../nn/onnx/shapes.ts";
import { decodeSafetensors, encodeSafetensors } from "../nn/weights/safetensors.ts";
import type { Tensor } from "../protocols/tensor.ts";
import type { Files } from "../runtime/platform/files.ts";
import { sha256 } from "../runtime/platform/hash.ts";
import { CheckpointError, type Config, parseState, type State, stateJson } from "./checkpoint-state.ts";

export interface Checkpoint {
  /** Steps that are done. */
  readonly step: number;
  readonly seed: number;
  /** What the model is made from, e.g. layers and width. */
  readonly model: Config;
  /** How it is trained, e.g. batch and learning rate. */
  readonly training: Config;
  /** What is trained, and running statistics. */
  readonly parameters: ReadonlyMap<string, Tensor>;
  /** What the optimiser keeps of the parameters between steps, under its own names. */
  readonly optimizer: ReadonlyMap<string, Tensor>;
}

const MODEL = "model.safetensors";
const OPTIMIZER = "optimizer.safetensors";
const ONNX = "model.onnx";
const STATE = "state.json";
const NAMES: readonly string[] = [MODEL, OPTIMIZER, ONNX, STATE];

/**
 * SHA-256 that tells whether two models are equal to the bit, in lower-case hexadecimal. For each parameter in
 * the order of the names (by UTF-16 code unit) it covers a line of JSON, `["<name>","<dtype>",[<dims>]]` without
 * spaces and with a line feed, in UTF-8, and then the tensor's bytes. The line gives the number of bytes that
 * follow it, so no two different models read as the same stream.
 */
export function weightsSha256(tensors: ReadonlyMap<string, Tensor>): string {
  return sha256(stream(tensors));
}

function* stream(tensors: ReadonlyMap<string, Tensor>): Generator<Uint8Array | string> {
  for (const name of [...tensors.keys()].sort()) {
    const { dtype, shape, bytes } = tensors.get(name)!;
    yield `${JSON.stringify([name, dtype, shape])}\n`;
    yield bytes;
  }
}

/**
 * Makes sure, before hours of training, that a checkpoint can be written here.
 * @throws FileError when the folder cannot be written, CheckpointError when it holds anything else, which a new
 *   checkpoint would remove.
 */
export async function prepareCheckpoint(files: Files, folder: string): Promise<void> {
  const { place, partial } = places(folder);
  await recover(files, place);
  if (await files.exists(place)) {
    const stranger = (await files.list(place)).find((name) => !NAMES.includes(name));
    if (stranger !== undefined) {
      throw new CheckpointError(
        "occupied",
        `${place} holds ${stranger}, which is no part of a checkpoint: choose a new or an empty folder`,
      );
    }
  }
  await files.remove(partial);
  await files.makeFolder(partial);
  await files.write(`${partial}/${STATE}`, []);
  await files.remove(partial);
}

/**
 * Writes a checkpoint in the place of the one that may be there; resolves with the weights' SHA-256, as
 * `weightsSha256` gives it. Tensors and `onnx` are borrowed until it is done.
 * @throws FileError, CheckpointError as `prepareCheckpoint`; then the old checkpoint is as it was.
 */
export async function writeCheckpoint(
  files: Files,
  folder: string,
  checkpoint: Checkpoint,
  onnx: Uint8Array | null,
): Promise<string> {
  await prepareCheckpoint(files, folder);
  const { place, partial, previous } = places(folder);
  const { parameters, optimizer, ...rest } = checkpoint;
  const contents: Record<string, readonly Uint8Array[]> = {
    [MODEL]: encodeSafetensors(parameters, { format: "pt" }),
    [OPTIMIZER]: encodeSafetensors(optimizer),
    ...(onnx && { [ONNX]: [onnx] }),
  };
  const digests: Record<string, string> = {};
  await files.makeFolder(partial);
  for (const [name, chunks] of Object.entries(contents)) {
    digests[name] = sha256(chunks);
    await files.write(`${partial}/${name}`, chunks);
  }
  const weights = weightsSha256(parameters);
  const state = stateJson({ ...rest, files: digests, weightsSha256: weights });
  await files.write(`${partial}/${STATE}`, [new TextEncoder().encode(state)]);

  await files.remove(previous);
  if (await files.exists(place)) await files.rename(place, previous);
  await files.rename(partial, place);
  await files.remove(previous);
  return weights;
}

/**
 * Reads a checkpoint back. The tensors are views of memory that is theirs alone.
 * @throws CheckpointError when a file is missing, was truncated or changed, or is of another format; FileError
 *   when it cannot be read.
 */
export async function readCheckpoint(files: Files, folder: string): Promise<Checkpoint> {
  const { place } = places(folder);
  await recover(files, place);
  const state = parseState(await part(files, place, STATE), `${place}/${STATE}`);
  const [model, kept] = [
    await verified(files, place, MODEL, state),
    await verified(files, place, OPTIMIZER, state),
  ];
  if (state.files[ONNX]) await verified(files, place, ONNX, state);
  const { tensors: parameters } = decodeSafetensors(model, `${place}/${MODEL}`);
  const { tensors: optimizer } = decodeSafetensors(kept, `${place}/${OPTIMIZER}`);
  const { step, seed, model: modelConfig, training } = state;
  return { step, seed, model: modelConfig, training, parameters, optimizer };
}

/**
 * Where the model came from is not compared: a folder may have moved.
 * @throws CheckpointError naming every setting in which the checkpoint's model differs from `model`.
 */
export function requireModel(checkpoint: Checkpoint, model: Config, folder: string): void {
  const names = [...new Set([...Object.keys(checkpoint.model), ...Object.keys(model)])];
  const differences = names
    .filter((name) => name !== "from" && checkpoint.model[name] !== model[name])
    .map(
      (name) =>
        `${name} is ${checkpoint.model[name] ?? "not set"} there and ${model[name] ?? "not set"} here`,
    );
  if (differences.length > 0) {
    throw new CheckpointError("other-model", `${folder} is of another model: ${differences.join(", ")}`);
  }
}

/**
 * @param expected all that a run goes on from: parameters and statistics, and the optimiser's state.
 * @throws CheckpointError naming the first that the checkpoint lacks, or has in another type.
 */
export function requireTensors(
  checkpoint: Checkpoint,
  expected: Readonly<Record<"parameters" | "optimizer", readonly ValueInfo[]>>,
  folder: string,
): void {
  for (const part of ["parameters", "optimizer"] as const) {
    for (const info of expected[part]) {
      const tensor = checkpoint[part].get(info.name);
      if (tensor && typeText(tensor) === typeText(info)) continue;
      const file = part === "parameters" ? MODEL : OPTIMIZER;
      const came = tensor ? `is ${typeText(tensor)}` : "is missing";
      throw new CheckpointError(
        "damaged",
        `${folder}/${file}: ${info.name} ${came}, ${typeText(info)} was expected`,
      );
    }
  }
}

function places(folder: string): { place: string; partial: string; previous: string } {
  const place = folder.replace(/(?<=.)[/\\]+$/, "");
  return { place, partial: `${place}.partial`, previous: `${place}.previous` };
}

/** Puts the old checkpoint back when a writer was killed between its two renames. */
async function recover(files: Files, place: string): Promise<void> {
  const { previous } = places(place);
  if (!(await files.exists(place)) && (await files.exists(previous))) await files.rename(previous, place);
}

async function part(files: Files, place: string, name: string): Promise<Uint8Array> {
  const path = `${place}/${name}`;
  if (await files.exists(path)) return files.read(path);
  const what = (await files.exists(place)) ? `it has no ${name}` : "it does not exist";
  throw new CheckpointError("missing", `${place} is not a checkpoint folder: ${what}`);
}

async function verified(files: Files, place: string, name: string, state: State): Promise<Uint8Array> {
  const bytes = await part(files, place, name);
  if (sha256([bytes]) !== state.files[name]) {
    throw new CheckpointError(
      "damaged",
      `${place}/${name} is truncated or was changed: its SHA-256 is not the one ${STATE} names; use another checkpoint`,
    );
  }
  return bytes;
}
