/**
 * Loss scaling (Micikevicius et al., "Mixed Precision Training", 2018): the loss is multiplied before the backward pass
 * so that small gradients survive f16, and the optimiser divides by the same number.
 *
 * A dynamic scale is doubled after a number of steps without overflow, and halved by an overflow, whose step is left
 * out. Every stage keeps a scale of its own and moves it by the sums of squares, which are the same on all of them, so
 * the scales stay the same too.
 */

import { Tensor } from "../../protocols/tensor.ts";

export interface LossScaleConfig {
  /** What the loss is multiplied by, best a power of two; for a dynamic scale the first one. Left out: nothing. */
  readonly lossScale?: number;
  /** Steps without overflow after which the scale is doubled. Left out, or 0: the scale is static. */
  readonly lossScaleGrowth?: number;
}

/** A dynamic scale as state: f32 [2], the scale and the steps since it last changed. */
export const LOSS_SCALE = "troupe.loss_scale";

/** Doubling goes no further: the largest number of f16. */
const LARGEST = 2 ** 16;

export const isScaled = ({ lossScale = 1 }: LossScaleConfig): boolean => lossScale !== 1;

export class LossScale {
  private readonly state: Tensor;
  private readonly growth: number;

  constructor({ lossScale = 1, lossScaleGrowth = 0 }: LossScaleConfig) {
    this.state = Tensor.f32([2], [lossScale, 0]);
    this.growth = lossScaleGrowth;
  }

  get value(): number {
    return this.state.f32()[0]!;
  }

  /** Whether an overflow can be answered by a smaller scale: a gradient that overflows at 1 has diverged. */
  get canShrink(): boolean {
    return this.growth > 0 && this.value > 1;
  }

  /** A step is over. */
  after(overflowed: boolean): void {
    if (this.growth === 0) return;
    const state = this.state.f32();
    if (overflowed) state.set([this.value / 2, 0]);
    else if (state[1]! + 1 >= this.growth) state.set([Math.min(LARGEST, this.value * 2), 0]);
    else state[1]!++;
  }

  /** Live views of what belongs into a checkpoint. */
  tensors(): [string, Tensor][] {
    return this.growth > 0 ? [[LOSS_SCALE, this.state]] : [];
  }
}
