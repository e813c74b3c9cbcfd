/**
 * Joules per sample of the parallelisms on lines of other rates: the measured profiles of a scenario's devices with
 * every link as wide as is asked, planned anew for the least time. What is measured stands beside it; this is predicted.
 */

import type { LinkProfile, Profile } from "../../actors/scheduler/cost.ts";
import { PlanError } from "../../actors/scheduler/plan-error.ts";
import { makePlan } from "../../actors/scheduler/planner.ts";
import { GOODPUT } from "../testbed/link.ts";
import type { Inputs } from "./candidates.ts";
import type { EnergyPrediction } from "./result.ts";

/** The parallelisms of the study of collaborative edge training, and hybrid. */
export const ENERGY_STRATEGIES = ["single", "data", "tensor", "sequence", "pipeline", "hybrid"] as const;

export type EnergyStrategy = (typeof ENERGY_STRATEGIES)[number];

const RATES = [10, 100, 1000] as const;

/** @param batch samples in a step. */
export function predictEnergy({ microBatches, ...inputs }: Inputs, batch: number): EnergyPrediction[] {
  return RATES.map((megabits) => {
    const profile = withLines(inputs.profile, megabits);
    const entries = ENERGY_STRATEGIES.map((strategy): [EnergyStrategy, number | null] => {
      try {
        const options = { strategy, schedule: "auto", microBatches, recompute: false };
        const { predictedJoules } = makePlan({ ...inputs, profile, options });
        return [strategy, predictedJoules === null ? null : predictedJoules / batch];
      } catch (error) {
        if (!(error instanceof PlanError)) throw error;
        return [strategy, null];
      }
    });
    return { megabits, joulesPerSample: Object.fromEntries(entries) };
  });
}

/** Latencies stay as they are. */
function withLines({ links, ...rest }: Profile, megabits: number): Profile {
  const bytesPerMs = (megabits * 1000 * GOODPUT) / 8;
  const widened = (row: Readonly<Record<string, LinkProfile>>) =>
    Object.fromEntries(Object.entries(row).map(([id, link]) => [id, { ...link, bytesPerMs }]));
  return {
    ...rest,
    links: Object.fromEntries(Object.entries(links).map(([id, row]) => [id, widened(row)])),
  };
}
