/** What plans are compared by: the time of a step, the energy of one, or the energy as long as a step is in time. */

import { PlanError } from "../plan-error.ts";

/** What a plan may be chosen for. */
export const OBJECTIVES = ["time", "energy"] as const;

export interface Objective {
  readonly of: (typeof OBJECTIVES)[number];
  /** With energy: a step takes no longer than that. */
  readonly deadlineMs: number;
}

/** @throws PlanError for an unknown name, and for a deadline that is none or that is not for energy. */
export function objectiveOf(name = "time", deadlineMs?: number): Objective {
  const of = OBJECTIVES.find((known) => known === name);
  if (!of) throw new PlanError(`objective "${name}" is not available, use one of ${OBJECTIVES.join(", ")}`);
  if (deadlineMs === undefined) return { of, deadlineMs: Number.POSITIVE_INFINITY };
  if (of === "time") {
    throw new PlanError(
      `a deadline of ${deadlineMs} ms is for objective energy: time is as short as can be anyway`,
    );
  }
  if (!(deadlineMs > 0)) throw new PlanError(`a deadline of ${deadlineMs} ms: it takes a number above 0`);
  return { of, deadlineMs };
}

/** Beyond any plan's joules: whatever is late is worse than whatever is not, and the later the worse. */
const LATE = 1e15;

/** The less the better. */
export function score({ of, deadlineMs }: Objective, stepMs: number, joules: number | null): number {
  if (of === "time") return stepMs;
  return stepMs > deadlineMs ? LATE + stepMs : joules!;
}
