/**
 * The steps from the one that there are copies of to the one that all others are behind. Whoever takes the place of a lost
 * worker makes them by itself, one after the other: what others have sent in them they send again, data is fed again, and
 * what a commit goes by is known here. The others stay where they are, and pass over what they are sent again (message
 * logging; Elnozahy et al., "A Survey of Rollback-Recovery Protocols in Message-Passing Systems", 2002). What comes of it is
 * what the lost one held, to the bit.
 */

import type { Tensor } from "../../protocols/tensor.ts";
import type { Ref } from "../../runtime/index.ts";
import type { Stage } from "../stage.ts";

/** What all workers were told in the commits of steps: the sums of squares of the whole model's gradients. */
export class Commits {
  private readonly sums = new Map<number, Tensor>();

  add(step: number, squareSums: Tensor): void {
    this.sums.set(step, squareSums);
  }

  /** Undefined where it is not known. */
  of(step: number): Tensor | undefined {
    return this.sums.get(step);
  }

  /** Whether it is known of all steps behind one, up to another. */
  cover(behind: number, last: number): boolean {
    for (let step = behind + 1; step <= last; step++) if (!this.sums.has(step)) return false;
    return true;
  }

  /** Nobody makes steps before this one again. */
  forgetBefore(step: number): void {
    for (const own of this.sums.keys()) if (own < step) this.sums.delete(own);
  }
}

/** Who catches up. */
export interface CatchingUp {
  /** To ask something of each of them. */
  readonly asks: readonly (() => Ref<Stage>["ask"])[];
  /** Sends them their data of a step. */
  readonly feed: (step: number) => Promise<unknown>;
  readonly commits: Commits;
}

/** Makes all steps behind one, up to another. */
export async function catchUp(
  { asks, feed, commits }: CatchingUp,
  behind: number,
  last: number,
): Promise<void> {
  if (asks.length === 0) return;
  for (let step = behind + 1; step <= last; step++) {
    // One that may not be asked any more fails as the others would, and leaves none of them unheard.
    await Promise.all([feed(step), ...asks.map(async (ask) => ask().train(step))]);
    const sums = commits.of(step)!;
    await Promise.all(asks.map(async (ask) => ask().commit(step, sums)));
  }
}
