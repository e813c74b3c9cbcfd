/**
 * The data source: the actor that owns the samples, on the device that has them. It sends the micro-batches of a step
 * to the stages that read them. Which samples those are is the feed's business, and a pure function of the step, so
 * any step can be fed again.
 */

import type { Tensor } from "../../protocols/tensor.ts";
import { Actor, type Ref } from "../../runtime/index.ts";
import type { Slip } from "../inbox.ts";
import type { Stage } from "../stage.ts";
import type { Feed } from "./feed.ts";

/** Who reads a value. */
export interface Reader {
  readonly stage: Ref<Stage>;
  /** Those micro-batches alone, in validation those that are the same modulo their number in training; null for all. */
  readonly microBatches: readonly number[] | null;
}

/** Where a step's data goes. */
export interface Destination {
  readonly generation: number;
  /** Micro-batches in a training step. */
  readonly microBatches: number;
  /** The stages that read each of the feed's values. */
  readonly readers: Readonly<Record<string, readonly Reader[]>>;
}

export class DataSource extends Actor {
  readonly #feed: Feed;

  constructor(feed: Feed) {
    super();
    this.#feed = feed;
  }

  /** Micro-batches of a validation pass. */
  validationCount(): number {
    return this.#feed.validationCount;
  }

  /** Sends all micro-batches of a training step; resolves when they have been accepted. */
  async feed(step: number, to: Destination): Promise<void> {
    const sends = Array.from({ length: to.microBatches }, (_, microBatch) =>
      this.#send(this.#feed.training(step, microBatch), to, { phase: "train", step, microBatch }),
    );
    await Promise.all(sends);
  }

  /** Sends the validation micro-batches. `step` only tells one pass from another. */
  async feedValidation(step: number, to: Destination): Promise<void> {
    const sends = Array.from({ length: this.#feed.validationCount }, (_, microBatch) =>
      this.#send(this.#feed.validation(microBatch), to, { phase: "evaluate", step, microBatch }),
    );
    await Promise.all(sends);
  }

  async #send(
    tensors: Readonly<Record<string, Tensor>>,
    { generation, microBatches, readers }: Destination,
    where: Pick<Slip, "phase" | "step" | "microBatch">,
  ): Promise<void> {
    const sends = Object.entries(tensors).flatMap(([value, tensor]) =>
      (readers[value] ?? [])
        .filter((reader) => reader.microBatches?.includes(where.microBatch % microBatches) ?? true)
        .map(({ stage }) => stage.ask.deliver({ generation, ...where, value }, tensor)),
    );
    await Promise.all(sends);
  }
}
