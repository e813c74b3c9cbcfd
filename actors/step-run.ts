/** What a stage keeps account of in one step: where the time goes, and what goes on in the background. */

import type { OperationSpan } from "./stage/spec.ts";

export class StepRun {
  readonly step: number;
  kernelMs = 0;
  copyMs = 0;
  waitMs = 0;
  reduceMs = 0;
  readonly losses: number[];
  readonly spans: OperationSpan[] = [];
  /** What the step waits for at its end. */
  readonly background: Promise<void>[] = [];

  constructor(step: number, microBatches: number) {
    this.step = step;
    this.losses = new Array(microBatches).fill(Number.NaN);
  }
}
