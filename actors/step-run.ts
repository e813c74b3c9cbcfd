/** What a stage keeps account of in one step: where the time goes, and what goes on in the background. */

import type { Kernels } from "./stage/kernels.ts";
import type { OperationSpan } from "./stage/spec.ts";

export class StepRun {
  readonly step: number;
  readonly kernels: Kernels;
  kernelMs = 0;
  copyMs = 0;
  waitMs = 0;
  reduceMs = 0;
  /** What the step waits for at its end. */
  readonly background: Promise<void>[] = [];
  readonly losses: number[];
  /** By operation of the program, whichever ended first. */
  readonly performed: OperationSpan[] = [];
  /** Of a step that was broken off, what ran before. */
  private readonly before: readonly OperationSpan[];
  /** When the step began. */
  readonly began: number;

  /** @param before the step's account so far, where it is gone on with. */
  constructor(
    step: number,
    microBatches: number,
    kernels: Kernels,
    now: number,
    before: StepRun | null = null,
  ) {
    this.step = step;
    this.kernels = kernels;
    this.losses = before?.losses ?? new Array(microBatches).fill(Number.NaN);
    this.before = before?.spans ?? [];
    this.began = before?.began ?? now;
    if (!before) return;
    this.kernelMs = before.kernelMs;
    this.copyMs = before.copyMs;
    this.waitMs = before.waitMs;
    this.reduceMs = before.reduceMs;
  }

  /** Resolves when nothing that the step has begun goes on, whatever became of it. */
  async settled(): Promise<void> {
    await Promise.allSettled([this.kernels.settled(), ...this.background]);
  }

  /** When operations ran, in the order of the program. */
  get spans(): OperationSpan[] {
    return [...this.before, ...Object.values(this.performed)];
  }

  /** Milliseconds that are said where they went. */
  get accounted(): number {
    return this.kernelMs + this.copyMs + this.waitMs + this.reduceMs;
  }
}
