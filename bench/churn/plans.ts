/** Plans in a simulation of churn: whether there is one, and what it is weighed by whether to go over to it. */

import type { Plan } from "../../actors/scheduler/plan.ts";
import { PlanError } from "../../actors/scheduler/plan-error.ts";

/** Undefined where there is no plan. */
export function planned(make: () => Plan): Plan | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof PlanError) return undefined;
    throw error;
  }
}

/** Nobody knows how long a run on such devices goes on: as long as an hour of steps. */
const STEPS_LEFT = 100;

export function outlook(present: Plan, next: Plan) {
  return { oldStepMs: present.predictedStepMs, newStepMs: next.predictedStepMs, stepsLeft: STEPS_LEFT };
}
