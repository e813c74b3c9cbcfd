/**
 * What scenarios say together: whether the planner's choice was the best of what was measured, what others would have lost,
 * and how close predictions were. Pure: from results, figures.
 */

import { median, quantile } from "../statistics.ts";
import type { Measured, ScenarioResult, StrategyResult, WeightsDifference } from "./result.ts";

/** How far from the best the planner's choice may be. */
export const CLOSE_TO_BEST = 0.05;
export const PLANNER = "auto";

export interface ScenarioSummary {
  readonly scenario: string;
  /** Milliseconds of the planner's choice; null where it did not run. */
  readonly chosenMs: number | null;
  /** The strategy of the same semantics that was fastest, and its milliseconds; null where nothing ran. */
  readonly best: { readonly name: string; readonly ms: number } | null;
  /** chosenMs / best.ms. */
  readonly overBest: number | null;
  readonly isClose: boolean | null;
  /** How many times as fast the choice is as others, by name; null where these do not run. */
  readonly times: Readonly<Record<RatioName, Ratio | null>>;
  readonly predictionError: Spread | null;
}

/** Single is the fastest device that can hold the model. */
export const RATIO_NAMES = ["single", "data", "even-split", "equal-data", "blind-hybrid"] as const;
export type RatioName = (typeof RATIO_NAMES)[number];

export interface Ratio {
  readonly times: number;
  /** Of predicted times, both of them: the rival was planned and not run. */
  readonly isPredicted: boolean;
}

export interface Spread {
  readonly median: number;
  readonly p90: number;
  readonly most: number;
  readonly count: number;
}

export interface Summary {
  readonly scenarios: readonly ScenarioSummary[];
  /** Over all plans measured; null where nothing was. */
  readonly predictionError: Spread | null;
  /** The largest by strategy and kind of model, of those with one device's semantics. */
  readonly weightsDifferences: readonly (WeightsDifference & {
    readonly strategy: string;
    readonly kind: string;
  })[];
}

export function summarise(scenarios: readonly ScenarioResult[]): Summary {
  return {
    scenarios: scenarios.map(summariseScenario),
    predictionError: spreadOf(scenarios.flatMap(errorsOf)),
    weightsDifferences: differencesOf(scenarios),
  };
}

/** Each plan counts once, under whatever names. */
function errorsOf({ strategies }: ScenarioResult): number[] {
  return strategies.flatMap(({ sameAs, measured }) =>
    measured && sameAs === null ? [measured.predictionError] : [],
  );
}

function spreadOf(errors: readonly number[]): Spread | null {
  if (errors.length === 0) return null;
  return {
    ...{ median: median(errors), p90: quantile(errors, 0.9) },
    ...{ most: Math.max(...errors), count: errors.length },
  };
}

function differencesOf(scenarios: readonly ScenarioResult[]): Summary["weightsDifferences"] {
  const found = new Map<string, Summary["weightsDifferences"][number]>();
  for (const { model, strategies } of scenarios) {
    for (const { plan, measured } of strategies.filter(isJudged)) {
      const { strategy } = plan!;
      const own = measured.weightsDifference;
      const key = `${model.kind} ${strategy}`;
      const before = found.get(key) ?? own;
      found.set(key, {
        ...{ strategy, kind: model.kind },
        firstByNorm: Math.max(before.firstByNorm, own.firstByNorm),
        byNorm: Math.max(before.byNorm, own.byNorm),
        byElement: Math.max(before.byElement, own.byElement),
      });
    }
  }
  return [...found.values()].sort((x, y) => y.kind.localeCompare(x.kind));
}

export function summariseScenario(scenario: ScenarioResult): ScenarioSummary {
  const { name, strategies } = scenario;
  const named = (wanted: string) => strategies.find((each) => each.name === wanted);
  const choice = named(PLANNER);
  const chosenMs = choice?.measured?.stepMs ?? null;
  const judged = strategies.filter(isJudged);
  const fastest = judged.reduce<Judged | null>(
    (a, b) => (a && a.measured.stepMs <= b.measured.stepMs ? a : b),
    null,
  );
  const best = fastest && { name: fastest.name, ms: fastest.measured.stepMs };
  const times = (rival: StrategyResult | undefined): Ratio | null => {
    if (chosenMs === null || !rival) return null;
    if (rival.measured) return { times: rival.measured.stepMs / chosenMs, isPredicted: false };
    if (!rival.plan || rival.refused !== null) return null;
    return { times: rival.plan.predictedStepMs / choice!.plan!.predictedStepMs, isPredicted: true };
  };
  const overBest = best && chosenMs !== null ? chosenMs / best.ms : null;
  return {
    ...{ scenario: name, chosenMs, best, overBest },
    isClose: overBest === null ? null : overBest <= 1 + CLOSE_TO_BEST,
    times: Object.fromEntries(RATIO_NAMES.map((rival) => [rival, times(named(rival))])) as Record<
      RatioName,
      Ratio | null
    >,
    predictionError: spreadOf(errorsOf(scenario)),
  };
}

type Judged = StrategyResult & { readonly measured: Measured };

/** Whether it ran, and its result is one device's. */
function isJudged(strategy: StrategyResult): strategy is Judged {
  return strategy.measured !== null && strategy.role !== "other semantics";
}
