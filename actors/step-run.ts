/** What a stage keeps account of in one step: where the time goes, and what goes on in the background. */

import type { OperationSpan } from "./stage/spec.ts";

export class StepRun {
  readonly step: number;
  kernelMs = 0;
  copyMs = 0;
  waitMs = 0;
  reduceMs = 0;
  /** What the step waits for at its end. */
  readonly background: Promise<void>[] = [];
  readonly losses: number[];
  readonly spans: OperationSpan[] = [];

  constructor(step: number, microBatches: number) {
    this.step = step;
    this.losses = new Array(microBatches).fill(Number.NaN);
  }

  /** Milliseconds that are said where they went. */
  get accounted(): number {
    return this.kernelMs + this.copyMs + this.waitMs + this.reduceMs;
  }
}
