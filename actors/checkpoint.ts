/**
 * A checkpoint: a folder, or a place in a bucket, that holds all a run needs to go on, and a model that others can use.
 *
 * - `model.safetensors`: the parameters and running statistics, under their names. Where several stages have trained the
 *   model, each has a shard, `model-00001-of-00003.safetensors`, and `model.safetensors.index.json` says what is where
 * - `optimizer.safetensors`, or its shards: the optimiser's state, such as AdamW's moments `m.<parameter>` and
 *   `v.<parameter>`
 * - `model.onnx`: the model for inference, where it is not exported in another form at the end
 * - `state.json`: format, step, seed, configurations, the SHA-256 of each file, of the weights, and of itself
 *
 * Who wrote which shard does not matter to whoever reads: a run goes on from it on any devices, in any strategy. Writing is
 * all or nothing (`checkpoint/folder-store.ts`, `checkpoint/bucket-store.ts`), what is read is what was written or an
 * error, and where there are several checkpoints in a place, the newest that is whole is read.
 */

import type { ValueInfo } from "../nn/onnx/graph.ts";
import { typeText } from "../nn/onnx/shapes.ts";
import { decodeSafetensors } from "../nn/weights/safetensors.ts";
import type { Tensor } from "../protocols/tensor.ts";
import type { Files } from "../runtime/platform/files.ts";
import { sha256 } from "../runtime/platform/hash.ts";
import { STATE, shardsOf } from "./checkpoint/file-names.ts";
import { openStore, type Store } from "./checkpoint/store.ts";
import { CheckpointWriter, weightsStream } from "./checkpoint/writer.ts";
import { CheckpointError, type Config, parseState, REMEDY } from "./checkpoint-state.ts";

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

/** A checkpoint that is damaged, and the older one that is used in its place. */
export interface Damage {
  readonly path: string;
  /** One line for people. */
  readonly why: string;
  readonly used: string;
  /** Of the one that is used. */
  readonly step: number;
}

/** SHA-256 that tells whether two models are equal to the bit, in lower-case hexadecimal; see `weightsStream`. */
export function weightsSha256(tensors: ReadonlyMap<string, Tensor>): string {
  return sha256(weightsStream(tensors));
}

/**
 * Makes sure, before hours of training, that a checkpoint can be written here.
 * @param folder or `s3://bucket/prefix`, here and below.
 * @throws FileError when the folder cannot be written, CheckpointError when it holds anything else, which a new
 *   checkpoint would remove.
 */
export async function prepareCheckpoint(files: Files, folder: string): Promise<void> {
  await openStore(files, folder).prepare();
}

/** Whether there are checkpoints in a place, whole or damaged. @throws FileError. */
export async function hasCheckpoints(files: Files, folder: string): Promise<boolean> {
  const store = openStore(files, folder);
  for (const { path } of await store.list()) if ((await store.read(path, STATE)) !== null) return true;
  return false;
}

/**
 * Writes a checkpoint in the place of those that may be there, in one shard; resolves with the weights' SHA-256, as
 * `weightsSha256` gives it. Tensors and `onnx` are borrowed until it is done.
 * @throws FileError, CheckpointError as `prepareCheckpoint`; then the old checkpoint is as it was.
 */
export async function writeCheckpoint(
  files: Files,
  folder: string,
  checkpoint: Checkpoint,
  onnx: Uint8Array | null,
): Promise<string> {
  const { parameters, optimizer, ...rest } = checkpoint;
  const values = Object.fromEntries([...parameters, ...optimizer]);
  return new CheckpointWriter(openStore(files, folder)).write({
    ...rest,
    shards: [{ model: [...parameters.keys()], optimizer: [...optimizer.keys()] }],
    values: async () => values,
    onnx: async () => onnx,
  });
}

/**
 * Reads a checkpoint back: the newest of those that are there whole. The tensors are views of memory that is theirs alone.
 * @param tell hears of newer ones that are damaged.
 * @throws CheckpointError when in all of them a file is missing, was truncated or changed, or is of another format;
 *   FileError when it cannot be read.
 */
export async function readCheckpoint(
  files: Files,
  folder: string,
  tell: (damage: Damage) => void = () => {},
): Promise<Checkpoint> {
  const store = openStore(files, folder);
  const kept = await store.list();
  if (kept.length === 0) throw missing(store.place, "it does not exist");
  const damaged: { path: string; error: CheckpointError }[] = [];
  for (const { path } of kept) {
    try {
      const checkpoint = await readOne(store, path);
      const { step } = checkpoint;
      for (const { path: other, error } of damaged) {
        tell({ path: other, why: withoutRemedy(error), used: path, step });
      }
      return checkpoint;
    } catch (error) {
      if (!(error instanceof CheckpointError) || error.reason === "format") throw error;
      damaged.push({ path, error });
    }
  }
  const first = damaged[0]!.error;
  if (damaged.length === 1) throw first;
  const older = damaged.length === 2 ? "the one before it is" : `the ${damaged.length - 1} before it are`;
  throw new CheckpointError("damaged", `${withoutRemedy(first)}; ${older} damaged too`);
}

async function readOne(store: Store, path: string): Promise<Checkpoint> {
  const state = parseState(await part(store, path, STATE), `${path}/${STATE}`);
  const names = Object.keys(state.files);
  const tensors = { model: new Map<string, Tensor>(), optimizer: new Map<string, Tensor>() };
  const shards = new Map(
    (["model", "optimizer"] as const).flatMap((kind) => shardsOf(kind, names).map((name) => [name, kind])),
  );
  for (const name of names) {
    const bytes = await part(store, path, name);
    if (sha256([bytes]) !== state.files[name]) {
      throw new CheckpointError(
        "damaged",
        `${path}/${name} is truncated or was changed: its SHA-256 is not the one ${STATE} names${REMEDY}`,
      );
    }
    const kind = shards.get(name);
    if (kind === undefined) continue;
    for (const [each, tensor] of decodeSafetensors(bytes, `${path}/${name}`).tensors) {
      tensors[kind].set(each, tensor);
    }
  }
  const { step, seed, model, training } = state;
  return { step, seed, model, training, parameters: tensors.model, optimizer: tensors.optimizer };
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
      const file = part === "parameters" ? "model.safetensors" : "optimizer.safetensors";
      const came = tensor ? `is ${typeText(tensor)}` : "is missing";
      throw new CheckpointError(
        "damaged",
        `${folder}/${file}: ${info.name} ${came}, ${typeText(info)} was expected`,
      );
    }
  }
}

async function part(store: Store, path: string, name: string): Promise<Uint8Array> {
  const bytes = await store.read(path, name);
  if (bytes === null) throw missing(path, `it has no ${name}`);
  return bytes;
}

/** What is wrong, for whoever has another checkpoint already. */
function withoutRemedy({ message }: CheckpointError): string {
  return message.replace(REMEDY, "");
}

function missing(path: string, what: string): CheckpointError {
  return new CheckpointError("missing", `${path} is not a checkpoint folder: ${what}`);
}
