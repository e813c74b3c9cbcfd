/**
 * What a stage keeps of what it held after steps: copies of its own, which it goes back to, gives to others, and whoever
 * takes its place is given. And of which step that is which it holds now.
 */

import type { Tensor } from "../../protocols/tensor.ts";
import type { Clock, Ref } from "../../runtime/index.ts";
import type { KeptCopies } from "../journal/kept.ts";
import { Copies } from "../recovery/copies.ts";
import type { Holding } from "../recovery/ledger.ts";
import { give, type Replica, recalled } from "../recovery/replica.ts";

type Values = Readonly<Record<string, Tensor>>;

export class Keeping {
  readonly copies = new Copies();
  /** The step that all that the stage holds is of; null in the middle of something. */
  step: number | null = null;
  /** Of a copy; nothing before somebody has asked what the stage holds. */
  bytes = 0;
  private holding: Holding | undefined;
  private readonly state: () => Promise<Values>;

  /** @param state what training changes of the stage: views. */
  constructor(state: () => Promise<Values>) {
    this.state = state;
  }

  /** @param holding what a copy is of. @param bytes of one. */
  describe(holding: Holding, bytes: number): void {
    this.holding = holding;
    this.bytes = bytes;
  }

  /** Keeps a copy of what the stage holds now, which is how this step has left it, unless it has. */
  async keep(step: number): Promise<void> {
    if (this.step === step && this.copies.at(step)) return;
    this.copies.put(step, Object.entries(await this.state()));
    this.step = step;
  }

  /** Keeps a copy of what the last step left, unless there is one, or the stage is in the middle of something. */
  async hold(): Promise<void> {
    if (this.step !== null && !this.copies.at(this.step)) await this.keep(this.step);
  }

  /**
   * Gives others a copy of what was kept of a step.
   * @param worker what they are to know it by. @returns bytes that each was given.
   */
  give(
    worker: string,
    step: number,
    to: readonly Ref<Replica>[],
    isOver: () => boolean,
    clock: Clock,
  ): Promise<number> {
    return give(this.copies, { ...this.holding!, worker }, step, to, isOver, clock);
  }

  /** Of which steps there are copies, and what they are of. */
  kept(): KeptCopies {
    return { holding: this.holding!, steps: this.copies.ofSteps() };
  }

  /** Those of `names` that there are, as kept of a step. @throws RangeError where there is no copy of it. */
  recall(worker: string, step: number, names: readonly string[]): Record<string, Tensor> {
    return recalled(this.copies, worker, step, names);
  }
}
