/**
 * Windows of a text as a feed: `ids`, i64 [context, rows], and `targets`, i64 [context * rows], one token further on;
 * or the same sequence by sequence, [rows, context], for models that take them so. A token is a byte, or a number of some vocabulary; how text became tokens is not known here.
 *
 * In training windows start anywhere, with replacement, by a pure function of (seed, step, micro-batch); `order.ts`
 * has the rule. Validation windows are those that the split held out.
 */

import type { ValueInfo } from "../../nn/onnx/graph.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { fillBatch, fillSequences, type Tokens } from "./batch.ts";
import type { Split } from "./corpus.ts";
import type { Feed } from "./feed.ts";
import { microBatchStarts, VALIDATION_WINDOWS, validationStarts } from "./order.ts";

export interface TextFeedOptions {
  readonly seed: number;
  /** T, tokens of a window. */
  readonly context: number;
  /** Windows in a micro-batch. */
  readonly rows: number;
  /** What the ids are called; `ids` when left out. */
  readonly ids?: string;
  /** Whether ids are [rows, context] and not [context, rows]. */
  readonly batchMajor?: boolean;
}

export class TextFeed implements Feed {
  readonly values: readonly ValueInfo[];
  readonly validationCount: number;
  private readonly split: Split<Tokens>;
  private readonly options: TextFeedOptions;
  /** Starts of the validation windows, by micro-batch. */
  private readonly held: readonly number[][];

  constructor(split: Split<Tokens>, options: TextFeedOptions) {
    const { context, rows } = options;
    this.split = split;
    this.options = options;
    this.held = validationMicroBatches(split, options);
    this.validationCount = this.held.length;
    this.values = [
      { name: this.ids, dtype: "i64", shape: options.batchMajor ? [rows, context] : [context, rows] },
      { name: "targets", dtype: "i64", shape: [context * rows] },
    ];
  }

  training(step: number, microBatch: number): Record<string, Tensor> {
    const { seed, context, rows } = this.options;
    const { train } = this.split;
    return this.batch(train, microBatchStarts(seed, step, microBatch, rows, train.length, context));
  }

  validation(microBatch: number): Record<string, Tensor> {
    return this.batch(this.split.validation, this.held[microBatch]!);
  }

  private batch(text: Tokens, starts: readonly number[]): Record<string, Tensor> {
    const { context, batchMajor } = this.options;
    const [ids, targets] = this.values.map(({ dtype, shape }) => Tensor.zeros(dtype, shape)) as [
      Tensor,
      Tensor,
    ];
    if (batchMajor) fillSequences(text, starts, context, ids.i64(), targets.i64());
    else fillBatch(text, starts, context, ids.i64(), targets.i64());
    return { [this.ids]: ids, targets };
  }

  private get ids(): string {
    return this.options.ids ?? "ids";
  }
}

/**
 * Starts of the validation windows, `rows` to each micro-batch, from all over the text: as many full micro-batches
 * as the windows make. A text that has not enough for one repeats them.
 */
export function validationMicroBatches(
  split: Split<Tokens>,
  { context, rows }: Pick<TextFeedOptions, "context" | "rows">,
): number[][] {
  const most = validationStarts(split, context, Math.max(VALIDATION_WINDOWS, rows));
  const full = Math.floor(most.length / rows);
  if (full === 0) return [Array.from({ length: rows }, (_, i) => most[i % most.length]!)];
  const starts = validationStarts(split, context, full * rows);
  return Array.from({ length: full }, (_, i) => starts.slice(i * rows, (i + 1) * rows));
}
