/**
 * Writes checkpoints, shard by shard, and keeps as many as asked. Of the optimiser's state there is never more in memory
 * than one shard's; parameters are there until all are written, for the SHA-256 of the weights goes through them in the
 * order of their names, and the exported model needs all of them.
 *
 * Every file's SHA-256 is taken from the bytes as they are written, and goes into the last file, `state.json`, with which
 * the checkpoint is complete. Older ones are removed only after that.
 */

import { encodeSafetensors } from "../../nn/weights/safetensors.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import { Sha256 } from "../../runtime/platform/hash.ts";
import { type Config, stateJson } from "../checkpoint-state.ts";
import { INDEX, ONNX, type ShardKind, STATE, shardName } from "./file-names.ts";
import type { Store } from "./store.ts";

/** Names of what a stage holds. */
export interface Shard {
  /** Parameters and running statistics. */
  readonly model: readonly string[];
  readonly optimizer: readonly string[];
}

/** What is to be written. */
export interface Draft {
  readonly step: number;
  readonly seed: number;
  readonly model: Config;
  readonly training: Config;
  /** One at least. */
  readonly shards: readonly Shard[];
  /** Values, by name; borrowed until all is written. */
  values(names: readonly string[]): Promise<Readonly<Record<string, Tensor>>>;
  /** The exported model, of all parameters and statistics; null for none. */
  onnx(parameters: ReadonlyMap<string, Tensor>): Promise<Uint8Array | null>;
}

export interface WriterOptions {
  /** Checkpoints that are there when one has been written, with that one; 1 when left out. */
  readonly keep?: number;
  /** The step that the run goes on from: what is there of later ones is not of this run. */
  readonly from?: number;
  /** Resolves when whoever writes leads the run, where others may; never when they do no more. */
  readonly held?: () => Promise<void>;
  /** Lets others have their turn: called between pieces of work that take milliseconds. */
  readonly pause?: () => Promise<void>;
}

/** Hashed or written in one go. */
const PIECE_BYTES = 4 << 20;

const NOW = async () => {};

export class CheckpointWriter {
  private readonly store: Store;
  private readonly keep: number;
  private readonly held: () => Promise<void>;
  private readonly pause: () => Promise<void>;
  private from: number;
  private readonly written = new Set<number>();

  constructor(store: Store, { keep = 1, from = 0, held = NOW, pause = NOW }: WriterOptions = {}) {
    this.store = store;
    this.keep = keep;
    this.from = from;
    this.held = held;
    this.pause = pause;
  }

  /** The run has gone back to a step: checkpoints of later ones are not to be relied on. */
  goBackTo(step: number): void {
    this.from = step;
    this.written.clear();
  }

  /**
   * Writes a checkpoint, and removes those that are more than are to be kept; resolves with the weights' SHA-256.
   * @throws FileError, CheckpointError, Deposed; then those that were there are as they were.
   */
  async write(draft: Draft): Promise<string> {
    const { store } = this;
    const { step, seed, model, training, shards } = draft;
    await this.held();
    await store.begin(step);
    const files: Record<string, string> = {};
    const put = async (name: string, chunks: readonly Uint8Array[]) => {
      const hash = new Sha256();
      await store.write(name, this.hashed(chunks, hash));
      files[name] = hash.hex();
    };
    const counts = { model: filled(shards, "model"), optimizer: filled(shards, "optimizer") };
    const places: Record<ShardKind, number> = { model: 0, optimizer: 0 };
    const parameters = new Map<string, Tensor>();
    const index = new Map<string, string>();
    for (const shard of shards) {
      const values = await draft.values([...shard.model, ...shard.optimizer]);
      for (const name of shard.model) parameters.set(name, values[name]!);
      for (const kind of ["model", "optimizer"] as const) {
        if (!counts[kind].includes(shard)) continue;
        const name = shardName(kind, places[kind]++, counts[kind].length);
        const tensors = new Map(shard[kind].map((each) => [each, values[each]!]));
        await put(name, encodeSafetensors(tensors, kind === "model" ? { format: "pt" } : {}));
        if (kind === "model") for (const each of tensors.keys()) index.set(each, name);
      }
    }
    if (counts.model.length > 1) await put(INDEX, [indexOf(parameters, index)]);
    const onnx = await draft.onnx(parameters);
    if (onnx) await put(ONNX, [onnx]);
    const weightsSha256 = await this.weightsSha256(parameters);
    const by = store.epoch > 0 ? { epoch: store.epoch } : {};
    const state = stateJson({ step, seed, model, training, files, weightsSha256, ...by });
    // A process that was stopped meanwhile may lead no more.
    await this.held();
    const path = await store.complete(STATE, new TextEncoder().encode(state));
    this.written.add(step);
    await this.removeOlder(path, step);
    return weightsSha256;
  }

  private async removeOlder(newest: string, step: number): Promise<void> {
    const others = (await this.store.list()).filter(({ path }) => path !== newest);
    const isOurs = (each: number) => each < step && (each <= this.from || this.written.has(each));
    // Of two of the same step the second is of an earlier epoch.
    const isFirst = (at: number) => others[at - 1]?.step !== others[at]!.step;
    const kept = others
      .filter(({ step: each }, at) => each !== null && isOurs(each) && isFirst(at))
      .slice(0, this.keep - 1);
    for (const other of others) {
      if (kept.includes(other)) continue;
      await this.held();
      await this.store.remove(other.path);
    }
  }

  private async *hashed(chunks: readonly Uint8Array[], hash: Sha256): AsyncGenerator<Uint8Array> {
    for (const piece of pieces(chunks)) {
      hash.update(piece);
      yield piece;
    }
  }

  private async weightsSha256(parameters: ReadonlyMap<string, Tensor>): Promise<string> {
    const hash = new Sha256();
    for (const part of weightsStream(parameters)) {
      if (typeof part === "string") hash.update(part);
      else {
        for (const piece of pieces([part])) {
          hash.update(piece);
          if (piece.byteLength === PIECE_BYTES) await this.pause();
        }
      }
    }
    return hash.hex();
  }
}

/**
 * What the SHA-256 of weights covers: for each parameter in the order of the names (by UTF-16 code unit) a line of JSON,
 * `["<name>","<dtype>",[<dims>]]` without spaces and with a line feed, in UTF-8, and then the tensor's bytes. The line
 * gives the number of bytes that follow it, so no two different models read as the same stream.
 */
export function* weightsStream(tensors: ReadonlyMap<string, Tensor>): Generator<Uint8Array | string> {
  for (const name of [...tensors.keys()].sort()) {
    const { dtype, shape, bytes } = tensors.get(name)!;
    yield `${JSON.stringify([name, dtype, shape])}\n`;
    yield bytes;
  }
}

/** Shards that have something of a kind; the first where none has. */
function filled(shards: readonly Shard[], kind: ShardKind): readonly Shard[] {
  const found = shards.filter((shard) => shard[kind].length > 0);
  return found.length > 0 ? found : shards.slice(0, 1);
}

/** Which shard has which tensor, as others read it: https://huggingface.co/docs/transformers/main/en/big_models. */
function indexOf(parameters: ReadonlyMap<string, Tensor>, files: ReadonlyMap<string, string>): Uint8Array {
  const total = [...parameters.values()].reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  const json = { metadata: { total_size: total }, weight_map: Object.fromEntries(files) };
  return new TextEncoder().encode(`${JSON.stringify(json, null, 2)}\n`);
}

function* pieces(chunks: readonly Uint8Array[]): Generator<Uint8Array> {
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.byteLength; at += PIECE_BYTES) yield chunk.subarray(at, at + PIECE_BYTES);
  }
}
