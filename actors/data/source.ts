/**
 * The data source: the actor that owns the text, on the device that has it. It sends the micro-batches of a step
 * to the stages that read them: token ids to the first, targets to the last. Which windows those are is a pure
 * function of (seed, step), so any step can be fed again.
 */

import { Tensor } from "../../protocols/tensor.ts";
import { Actor, type Ref } from "../../runtime/index.ts";
import type { Slip } from "../inbox.ts";
import type { Stage } from "../stage.ts";
import { fillBatch } from "./batch.ts";
import type { Split } from "./corpus.ts";
import { microBatchStarts, VALIDATION_WINDOWS, validationStarts } from "./order.ts";

export interface DataOptions {
  readonly seed: number;
  /** T, bytes of a window. */
  readonly context: number;
  /** Windows in a micro-batch. */
  readonly rows: number;
  readonly microBatches: number;
}

/** Where a step's data goes. */
export interface Destination {
  readonly generation: number;
  readonly first: Ref<Stage>;
  readonly last: Ref<Stage>;
}

export class DataSource extends Actor {
  readonly #split: Split;
  readonly #options: DataOptions;
  /** Starts of the validation windows, by micro-batch. */
  readonly #validation: readonly number[][];

  constructor(split: Split, options: DataOptions) {
    super();
    this.#split = split;
    this.#options = options;
    this.#validation = validationMicroBatches(split, options);
  }

  /** Micro-batches of a validation pass. */
  validationCount(): number {
    return this.#validation.length;
  }

  /** Sends all micro-batches of a training step; resolves when they have been accepted. */
  async feed(step: number, to: Destination): Promise<void> {
    const { seed, context, rows, microBatches } = this.#options;
    const { train } = this.#split;
    const sends: Promise<void>[] = [];
    for (let microBatch = 0; microBatch < microBatches; microBatch++) {
      const starts = microBatchStarts(seed, step, microBatch, rows, train.length, context);
      sends.push(this.#send(train, starts, to, { phase: "train", step, microBatch }));
    }
    await Promise.all(sends);
  }

  /** Sends the validation windows. `step` only tells one pass from another. */
  async feedValidation(step: number, to: Destination): Promise<void> {
    const { validation } = this.#split;
    await Promise.all(
      this.#validation.map((starts, microBatch) =>
        this.#send(validation, starts, to, { phase: "evaluate", step, microBatch }),
      ),
    );
  }

  async #send(
    text: Uint8Array,
    starts: readonly number[],
    to: Destination,
    where: Pick<Slip, "phase" | "step" | "microBatch">,
  ): Promise<void> {
    const { context, rows } = this.#options;
    const ids = Tensor.zeros("i64", [context, rows]);
    const targets = Tensor.zeros("i64", [context * rows]);
    fillBatch(text, starts, context, ids.i64(), targets.i64());
    const slip = { generation: to.generation, ...where };
    await Promise.all([
      to.first.ask.deliver({ ...slip, value: "ids" }, ids),
      to.last.ask.deliver({ ...slip, value: "targets" }, targets),
    ]);
  }
}

/**
 * Starts of the validation windows, `rows` to each micro-batch, from all over the text: as many full micro-batches
 * as the windows make. A text that has not enough for one repeats them.
 */
export function validationMicroBatches(
  split: Split,
  { context, rows }: Pick<DataOptions, "context" | "rows">,
): number[][] {
  const most = validationStarts(split, context, Math.max(VALIDATION_WINDOWS, rows));
  const full = Math.floor(most.length / rows);
  if (full === 0) return [Array.from({ length: rows }, (_, i) => most[i % most.length]!)];
  const starts = validationStarts(split, context, full * rows);
  return Array.from({ length: full }, (_, i) => starts.slice(i * rows, (i + 1) * rows));
}
