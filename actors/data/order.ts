/**
 * Which windows of the text are learned from, and when: a pure function of (seed, step, sample), where a sample's
 * number counts through the whole batch of a step. A step that is repeated, resumed or moved to another device
 * therefore reads the same bytes, and no log of the order is kept. As in nanoGPT, windows start anywhere,
 * uniformly and with replacement; how a batch is cut into micro-batches does not change which windows it has.
 *
 * Validation windows are evenly spaced, not overlapping, each inside one held-out block; they are the same in every
 * run whose micro-batches have as many rows.
 */

import { streamOf, threefry2x32 } from "../../nn/models/threefry.ts";
import type { Split } from "./corpus.ts";

/** Windows that a validation loss is the mean of, if there are so many and full micro-batches can be made of them. */
export const VALIDATION_WINDOWS = 128;

const STREAM = streamOf("data order");

/**
 * Where the window of sample `sample` of step `step` starts in the training text of `trainBytes` bytes:
 * floor(w * n / 2^32) with w the first word of Threefry-2x32-20 under the key (seed, FNV-1a of "data order") and
 * the counter (step, sample), and n = trainBytes - context, the number of places a window can start at. The
 * product is taken in 64-bit floats.
 */
export function trainingStart(
  seed: number,
  step: number,
  sample: number,
  trainBytes: number,
  context: number,
): number {
  const words = new Uint32Array(2);
  threefry2x32(seed, STREAM, step, sample, words);
  return Math.floor((words[0]! * (trainBytes - context)) / 2 ** 32);
}

/** Starts of the windows of one micro-batch of `rows` samples, micro-batches counted from 0 within the step. */
export function microBatchStarts(
  seed: number,
  step: number,
  microBatch: number,
  rows: number,
  trainBytes: number,
  context: number,
): number[] {
  return Array.from({ length: rows }, (_, row) =>
    trainingStart(seed, step, microBatch * rows + row, trainBytes, context),
  );
}

/**
 * Starts, in the validation text, of at most `count` windows, ascending. Each block holds as many windows as fit
 * end to end (the last byte of one is the first of the next, as a target and as an input); of all of these,
 * `count` are taken at even distances.
 */
export function validationStarts(
  split: Split<Uint8Array | Uint32Array>,
  context: number,
  count: number = VALIDATION_WINDOWS,
): number[] {
  const perBlock = Math.floor((split.blockBytes - 1) / context);
  const all = perBlock * (split.validation.length / split.blockBytes);
  const taken = Math.min(count, all);
  return Array.from({ length: taken }, (_, i) => {
    const window = Math.floor((i * all) / taken);
    return Math.floor(window / perBlock) * split.blockBytes + (window % perBlock) * context;
  });
}
