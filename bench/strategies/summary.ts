/**
 * What scenarios say together: whether the planner's choice was the best of what was measured, what others would have lost,
 * how close predictions were, and where energy goes. Pure: from results, figures.
 */

import { median, quantile } from "../statistics.ts";
import type { Measured, ScenarioResult, StrategyResult } from "./result.ts";

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
  /** How many times as fast the choice is as the fastest single device, and as others; null where these do not run. */
  readonly timesSingle: number | null;
  readonly timesData: number | null;
  readonly timesEvenSplit: number | null;
  readonly timesEqualData: number | null;
  readonly timesBlindHybrid: number | null;
}

export interface Summary {
  readonly scenarios: readonly ScenarioSummary[];
  /** Over all plans measured; null where nothing was. */
  readonly predictionError: {
    readonly median: number;
    readonly p90: number;
    readonly count: number;
  } | null;
  /** The largest of the strategies with one device's semantics; null where nothing was measured. */
  readonly largestWeightsDifference: number | null;
}

export function summarise(scenarios: readonly ScenarioResult[]): Summary {
  // Each plan counts once, under whatever names.
  const ran = scenarios.flatMap(({ strategies }) => strategies.filter(({ sameAs }) => sameAs === null));
  const errors = ran.flatMap(({ measured }) => (measured ? [measured.predictionError] : []));
  const differences = ran.flatMap(({ role, measured }) =>
    measured && role !== "other semantics" ? [measured.weightsDifference] : [],
  );
  return {
    scenarios: scenarios.map(summariseScenario),
    predictionError:
      errors.length === 0
        ? null
        : { median: median(errors), p90: quantile(errors, 0.9), count: errors.length },
    largestWeightsDifference: differences.length === 0 ? null : Math.max(...differences),
  };
}

export function summariseScenario({ name, strategies }: ScenarioResult): ScenarioSummary {
  const msOf = (strategy: string) =>
    strategies.find((each) => each.name === strategy)?.measured?.stepMs ?? null;
  const chosenMs = msOf(PLANNER);
  const judged = strategies.filter(isJudged);
  const fastest = judged.reduce<Judged | null>(
    (a, b) => (a && a.measured.stepMs <= b.measured.stepMs ? a : b),
    null,
  );
  const best = fastest && { name: fastest.name, ms: fastest.measured.stepMs };
  const times = (rival: string) => {
    const ms = msOf(rival);
    return ms === null || chosenMs === null ? null : ms / chosenMs;
  };
  const overBest = best && chosenMs !== null ? chosenMs / best.ms : null;
  return {
    ...{ scenario: name, chosenMs, best, overBest },
    isClose: overBest === null ? null : overBest <= 1 + CLOSE_TO_BEST,
    timesSingle: times("single"),
    timesData: times("data"),
    timesEvenSplit: times("even-split"),
    timesEqualData: times("equal-data"),
    timesBlindHybrid: times("blind-hybrid"),
  };
}

type Judged = StrategyResult & { readonly measured: Measured };

/** Whether it ran, and its result is one device's. */
function isJudged(strategy: StrategyResult): strategy is Judged {
  return strategy.measured !== null && strategy.role !== "other semantics";
}

/** A row of the energy table: modelled joules per sample of a strategy in a scenario. */
export interface EnergyRow {
  readonly scenario: string;
  /** Classes of devices with their counts, and the slowest line. */
  readonly devices: string;
  readonly megabits: number;
  readonly model: string;
  /** By strategy; null where it does not run. */
  readonly joules: Readonly<Record<string, number | null>>;
  /** The least, and why: what most of the joules of the others' least are spent on. */
  readonly least: string | null;
  readonly why: string;
}

/** The parallelisms of the study of collaborative edge training, and hybrid. */
export const ENERGY_STRATEGIES = ["single", "data", "tensor", "sequence", "pipeline", "hybrid"] as const;

export function energyRows(scenarios: readonly ScenarioResult[]): EnergyRow[] {
  return scenarios.map((scenario) => {
    const entries = ENERGY_STRATEGIES.map((strategy) => [strategy, ofEnergy(scenario, strategy)] as const);
    const ran = entries.flatMap(([strategy, found]) => (found ? [{ strategy, found }] : []));
    const least = ran.reduce<(typeof ran)[number] | null>(
      (a, b) => (a && a.found.modelledJoulesPerSample <= b.found.modelledJoulesPerSample ? a : b),
      null,
    );
    return {
      scenario: scenario.name,
      devices: mixOf(scenario),
      megabits: Math.min(...scenario.devices.map(({ megabits }) => megabits)),
      model: scenario.model.name,
      joules: Object.fromEntries(
        entries.map(([strategy, found]) => [strategy, found?.modelledJoulesPerSample ?? null]),
      ),
      least: least?.strategy ?? null,
      why: least
        ? reasonOf(
            least.found,
            ran.map(({ found }) => found),
          )
        : "nothing ran",
    };
  });
}

/** Of pipelines, the schedule that takes least. */
function ofEnergy(
  { strategies }: ScenarioResult,
  strategy: (typeof ENERGY_STRATEGIES)[number],
): Measured | null {
  const found = strategies.filter(({ name, role, plan }) =>
    strategy === "pipeline" ? role === "strategy" && plan?.strategy === "pipeline" : name === strategy,
  );
  return found
    .flatMap(({ measured }) => (measured ? [measured] : []))
    .reduce<Measured | null>(
      (a, b) => (a && a.modelledJoulesPerSample <= b.modelledJoulesPerSample ? a : b),
      null,
    );
}

/** `2 jetson-nano, jetson-tx2`. */
export function mixOf({ devices }: Pick<ScenarioResult, "devices">): string {
  const counts = new Map<string, number>();
  for (const { class: named } of devices) counts.set(named, (counts.get(named) ?? 0) + 1);
  return [...counts].map(([named, count]) => (count === 1 ? named : `${count} ${named}`)).join(", ");
}

function reasonOf(least: Measured, all: readonly Measured[]): string {
  if (all.length === 1) return "the only one that runs";
  const traffic = ({ devices }: Measured) => devices.reduce((sum, { sentBytes }) => sum + sentBytes, 0);
  const others = all.filter((each) => each !== least);
  const fastest = others.every(({ stepMs }) => stepMs >= least.stepMs);
  const fewest = others.every(({ devices }) => devices.length >= least.devices.length);
  const lightest = others.every((each) => traffic(each) >= traffic(least));
  const reasons = [
    ...(fastest ? ["the shortest step, so devices are idle for least"] : []),
    ...(fewest
      ? [`${least.devices.length === 1 ? "one device" : `${least.devices.length} devices`} draw power`]
      : []),
    ...(lightest && traffic(least) > 0 ? ["least is sent"] : []),
  ];
  return reasons.join("; ") || `${(100 * (1 - least.bubble)).toFixed(0)} % of its devices' time is work`;
}
