/**
 * Which plans are run, how often, and in which order, so that a scenario ends when it has to. All are planned before any
 * runs; one that is predicted to be many times as slow as the best is believed, unless a ratio of the report needs it. What
 * the report cannot do without comes first.
 */

import { type Candidate, isSame, type StrategyName } from "./candidates.ts";
import type { RunSteps } from "./run.ts";

/** Beyond so many times the best that is predicted, a plan is shown as predicted only. */
export const MOST_TIMES_BEST = 6;
/** A run is as many steps as fit into this, within bounds. */
const RUN_MS = 9000;
const LEAST_STEPS = 2;
/** A plan whose few steps take longer is not run. */
export const LONGEST_RUN_MS = 45_000;
/** For a deployment, whose lines are at full speed, and for steps that take longer than predicted. */
const PATIENCE_MS = 25_000;
const PATIENCE = 2.5;

/** In the order of their turns. Others follow, the fastest first. */
const NEEDED: readonly StrategyName[] = [
  ...(["auto", "single", "data", "blind-hybrid", "even-split", "equal-data"] as const),
];

export interface Selected {
  readonly candidate: Candidate;
  readonly steps: RunSteps;
  /** Milliseconds after which it is stopped. */
  readonly limitMs: number;
}

export interface Selection {
  readonly selected: readonly Selected[];
  /** By name, why a plan is not run. */
  readonly skipped: ReadonlyMap<string, string>;
}

/** By device's id, what it is. */
export type Kinds = Readonly<Record<string, string>>;

/** @param most steps of a run. */
export function select(candidates: readonly Candidate[], most: RunSteps, kinds: Kinds = {}): Selection {
  const distinct = candidates.filter((each) => each.refused === null && !standIn(each, candidates, kinds));
  const best = Math.min(...distinct.map(predicted));
  const skipped = new Map<string, string>();
  const selected: Selected[] = [];
  const place = (candidate: Candidate) => {
    const at = NEEDED.findIndex((name) => sharers(candidate, candidates, kinds).includes(name));
    return at < 0 ? NEEDED.length : at;
  };
  for (const candidate of distinct.sort((a, b) => place(a) - place(b) || predicted(a) - predicted(b))) {
    const stepMs = predicted(candidate);
    const least = most.warmUp + Math.min(LEAST_STEPS, most.steps);
    if (place(candidate) === NEEDED.length && stepMs > MOST_TIMES_BEST * best) {
      skipped.set(candidate.name, `${(stepMs / best).toFixed(1)} times the best`);
    } else if (least * stepMs > LONGEST_RUN_MS) {
      skipped.set(candidate.name, `${least} steps would take ${((least * stepMs) / 1000).toFixed(0)} s`);
    } else {
      const steps = Math.min(most.steps, Math.max(LEAST_STEPS, Math.floor(RUN_MS / stepMs) - most.warmUp));
      const limitMs = PATIENCE_MS + PATIENCE * (most.warmUp + steps) * stepMs;
      selected.push({ candidate, steps: { warmUp: most.warmUp, steps }, limitMs });
    }
  }
  return { selected, skipped };
}

function predicted({ plan }: Candidate): number {
  return plan!.predictedStepMs;
}

/** Names of all that have this one's plan, its own included. */
function sharers(own: Candidate, candidates: readonly Candidate[], kinds: Kinds): string[] {
  return candidates
    .filter(({ plan, refused }) => plan && refused === null && isSame(plan, own.plan!, kinds))
    .map(({ name }) => name);
}

/** The first candidate that has the same plan, where that is not itself. */
export function standIn(
  own: Candidate,
  candidates: readonly Candidate[],
  kinds: Kinds,
): Candidate | undefined {
  if (!own.plan || own.refused !== null) return undefined;
  const first = candidates.find(
    ({ plan, refused }) => plan && refused === null && isSame(plan, own.plan!, kinds),
  );
  return first === own ? undefined : first;
}
