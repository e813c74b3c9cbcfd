/**
 * What a run learns from, as tensors: a pure function of (step, micro-batch), so that a step that is repeated,
 * resumed or moved to another device reads the same, and no log of the order is kept.
 *
 * A feed knows samples, their order and how they become tensors (augmentation included); it knows nothing of stages.
 * `DataSource` sends what it gives.
 */

import type { ValueInfo } from "../../nn/onnx/graph.ts";
import type { Tensor } from "../../protocols/tensor.ts";

export interface Feed {
  /** What it gives for every micro-batch: names and types are those of the model's data inputs. */
  readonly values: readonly ValueInfo[];
  /** One micro-batch of a training step, by name. The tensors are the caller's. Micro-batches count from 0. */
  training(step: number, microBatch: number): Readonly<Record<string, Tensor>>;
  /** Micro-batches in a validation pass; the same in every run. */
  readonly validationCount: number;
  /** One micro-batch of validation, without augmentation. */
  validation(microBatch: number): Readonly<Record<string, Tensor>>;
}
