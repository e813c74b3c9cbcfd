/** Who of those that come while a simulated run makes a step is in the plan that it goes over to behind it. */

import { gatherMs } from "../../actors/recovery/decision.ts";

export interface SteppedMs {
  readonly began: number;
  /** That it takes where nobody is lost. */
  readonly stepMs: number;
  readonly endedMs: number;
}

/**
 * Until when somebody has to be measured to be considered in the step, and to have compiled at its end, by the runtime's
 * rule: those that are there when it begins are considered then, others together as late as is safe by what the step was
 * predicted to take, and again others once the plan for those is ready. Before all time where nobody is.
 * @param takesMs to find a plan and to compile. @param measured when those were that have no work yet.
 */
export function consideredUntil(
  { began, stepMs, endedMs }: SteppedMs,
  takesMs: number,
  measured: readonly number[],
): number {
  let until = Number.NEGATIVE_INFINITY;
  let at = began;
  for (;;) {
    const waiting = measured.filter((each) => each > until);
    if (waiting.length === 0) return until;
    at = Math.max(at, Math.min(...waiting));
    const waitMs = at === began ? 0 : gatherMs(began + stepMs - at, takesMs, stepMs);
    if (waitMs === null || at + waitMs + takesMs > endedMs) return until;
    until = at + waitMs;
    at = until + takesMs;
  }
}
