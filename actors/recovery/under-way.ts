/** The step that a run is in the middle of: by which plan it was begun and when, also where it goes on by another since. */

import type { Clock } from "../../runtime/index.ts";
import type { Midway } from "../scheduler/dealt.ts";
import type { Plan } from "../scheduler/plan.ts";

export class UnderWay {
  private readonly clock: Clock;
  private begun: { readonly step: number; readonly plan: Plan; readonly at: number } | undefined;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** A step begins, unless it goes on. */
  begin(step: number, plan: Plan): void {
    if (!this.isIn(step)) this.begun = { step, plan, at: this.clock.now() };
  }

  /** Nothing goes on: whichever step is next begins from its beginning. */
  end(): void {
    this.begun = undefined;
  }

  /** Whether the run is in the middle of this step. */
  isIn(step: number): boolean {
    return this.begun?.step === step;
  }

  /** Undefined where the run is not in the middle of this step. */
  midway(step: number): Midway | undefined {
    if (!this.begun || !this.isIn(step)) return undefined;
    return { begun: this.begun.plan, elapsedMs: this.clock.now() - this.begun.at };
  }
}
