/**
 * What the updates of a stage's last steps went by, for those who follow it: the gradients that were added up, and the sums
 * of squares of the whole model. With that, whoever has what a step began with makes what it left. Memory of gradients that
 * are forgotten is used for later ones.
 */

import type { Followed } from "../../nn/executor/follower.ts";
import { firstNonFinite } from "../../nn/optim/finite.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import { Copies } from "./copies.ts";

/** A stage whose updates can be made elsewhere. */
export interface Followable {
  /** What updates are made from besides, by chunk. */
  readonly recipe: readonly Followed[];
  /** Bytes of a step's gradients. */
  readonly bytes: number;
  /** Those of the step that is about to be committed: views. */
  gradients(): Promise<Iterable<readonly [name: string, tensor: Tensor]>>;
}

export interface Update {
  readonly step: number;
  /** Of all parameters of the model. */
  readonly squareSums: Tensor;
  /** Of a step that was left out, none. */
  readonly gradients: ReadonlyMap<string, Tensor>;
}

/** A copy has to be so many times as large as gradients are for these to be worth an update elsewhere. */
const LEAST_GAIN = 1.5;

/**
 * Steps that gradients are given of in place of a copy, at most: no more than would be as many bytes. None where that gains
 * too little, as with an optimiser that keeps nothing.
 */
export function mostUpdates(copyBytes: number, gradientBytes: number): number {
  return gradientBytes > 0 && copyBytes >= LEAST_GAIN * gradientBytes
    ? Math.floor(copyBytes / gradientBytes)
    : 0;
}

/** Of copies of a stage: bytes of one, and of the gradients that it can be made by from the one before, where it can. */
export interface CopySize {
  readonly bytes: number;
  readonly gradientBytes: number | null;
}

/** So many times as large copies are, all together, as what they are made by. */
export function gainOf(sizes: readonly CopySize[]): number {
  const sum = (of: (size: CopySize) => number) => sizes.reduce((all, size) => all + of(size), 0);
  const given = sum(({ bytes, gradientBytes }) => gradientBytes ?? bytes);
  return given > 0 ? sum(({ bytes }) => bytes) / given : 1;
}

export class UpdateLog {
  private readonly gradients = new Copies();
  private readonly squareSums = new Map<number, Tensor>();

  /** Keeps what the update of a step goes by: it is read until this resolves. */
  async put(step: number, squareSums: Tensor, { gradients }: Followable): Promise<void> {
    const isLeftOut = firstNonFinite(squareSums.f32()) !== undefined;
    if (!isLeftOut) this.gradients.put(step, await gradients());
    this.squareSums.set(step, squareSums);
  }

  /** Updates that lead from one step to another; null where some are not kept. */
  between(from: number, step: number): readonly Update[] | null {
    const updates: Update[] = [];
    for (let each = from + 1; each <= step; each++) {
      const squareSums = this.squareSums.get(each);
      if (!squareSums) return null;
      updates.push({ step: each, squareSums, gradients: this.gradients.at(each) ?? new Map() });
    }
    return updates;
  }

  /** Nobody follows from a step before this one. */
  forgetUpTo(step: number): void {
    this.gradients.forgetBefore(step + 1);
    for (const own of [...this.squareSums.keys()]) if (own <= step) this.squareSums.delete(own);
  }

  /** Steps behind this one are made again. */
  forgetAfter(step: number): void {
    this.gradients.forgetAfter(step);
    for (const own of [...this.squareSums.keys()]) if (own > step) this.squareSums.delete(own);
  }
}
