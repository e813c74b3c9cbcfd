/**
 * What a run trains, without how: a model, the feed it learns from, and what is made of it in the end. Every kind of
 * model is opened by a file of its own beside this one; whoever trains knows none of them.
 */

import type { Model } from "../../nn/model.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { Config } from "../checkpoint-state.ts";
import type { Feed } from "../data/feed.ts";

export interface Task {
  /** For one micro-batch. */
  readonly model: Model;
  readonly feed: Feed;
  /** What the model is made from; a checkpoint says it, and is refused for another. */
  readonly description: Config;
  /** What is learned from, for people; with its size where that is of text. */
  readonly source: { readonly name: string; readonly bytes: number | null };
  /** What is counted for a rate, and how many of them a micro-batch holds. */
  readonly unit: { readonly name: "tokens" | "images" | "samples"; readonly perMicroBatch: number };
  /** What the loss is measured in, e.g. "nats per byte". */
  readonly lossUnit: string;
  /**
   * The trained model as an `.onnx` file for inference, kept in every checkpoint; parameters and statistics by name,
   * borrowed. Absent where the model is exported at the end instead.
   */
  readonly inference?: (values: ReadonlyMap<string, Tensor>) => Uint8Array | Promise<Uint8Array>;
  /** Files of a folder in which others find the trained model in their own form; absent where there is no other. */
  readonly exported?: (values: ReadonlyMap<string, Tensor>) => AsyncIterable<ExportedFile>;
  /** Text that the model goes on with; absent for a model that writes none. */
  readonly sample?: (
    values: ReadonlyMap<string, Tensor>,
    request: { readonly prompt: string; readonly count: number; readonly random: () => number },
  ) => Promise<string>;
}

/** A file to write: its chunks one after another, which stay until the next file is asked for. */
export interface ExportedFile {
  /** Its path in the folder. */
  readonly name: string;
  readonly chunks: readonly Uint8Array[];
}

/** What a task is opened with besides the model's own settings. */
export interface TaskOptions {
  /** A file or folder to learn from; null for the kind's default. */
  readonly data: string | null;
  /** Samples in a micro-batch. */
  readonly rows: number;
  /** Micro-batches in a step. */
  readonly microBatches: number;
  readonly seed: number;
}
