/** Where energy goes: modelled joules per sample by parallelism, measured and predicted, and which takes least. */

import { ENERGY_STRATEGIES, type EnergyStrategy } from "./energy.ts";
import type { Measured, ScenarioResult } from "./result.ts";

/** A row of the energy table: modelled joules per sample of a strategy in a scenario. */
export interface EnergyRow {
  readonly scenario: string;
  /** Classes of devices with their counts, and the slowest line. */
  readonly devices: string;
  readonly megabits: number;
  readonly model: string;
  /** Whether its times and bytes were measured, on the scenario's own lines, or predicted. */
  readonly isMeasured: boolean;
  /** By strategy; null where it does not run. */
  readonly joules: Readonly<Record<string, number | null>>;
  /** The least, and where it was measured, why. */
  readonly least: string | null;
  readonly why: string;
}

/** What was measured, and behind it the same devices on other lines, as predicted. */
export function energyRows(scenarios: readonly ScenarioResult[]): EnergyRow[] {
  return scenarios.flatMap((scenario) => [measuredRow(scenario), ...predictedRows(scenario)]);
}

function measuredRow(scenario: ScenarioResult): EnergyRow {
  const entries = ENERGY_STRATEGIES.map((strategy) => [strategy, ofEnergy(scenario, strategy)] as const);
  const ran = entries.flatMap(([strategy, found]) => (found ? [{ strategy, found }] : []));
  const least = leastOf(ran, ({ found }) => found.modelledJoulesPerSample);
  const all = ran.map(({ found }) => found);
  return {
    ...rowOf(scenario, Math.min(...scenario.devices.map(({ megabits }) => megabits)), true),
    joules: Object.fromEntries(
      entries.map(([strategy, found]) => [strategy, found?.modelledJoulesPerSample ?? null]),
    ),
    least: least?.strategy ?? null,
    why: least ? reasonOf(least.found, all) : "nothing ran",
  };
}

function predictedRows(scenario: ScenarioResult): EnergyRow[] {
  return scenario.energy.map(({ megabits, joulesPerSample }) => {
    const known = Object.entries(joulesPerSample).flatMap(([strategy, joules]) =>
      joules === null ? [] : [{ strategy, joules }],
    );
    const least = leastOf(known, ({ joules }) => joules);
    return {
      ...rowOf(scenario, megabits, false),
      ...{ joules: joulesPerSample, least: least?.strategy ?? null, why: "" },
    };
  });
}

function rowOf(scenario: ScenarioResult, megabits: number, isMeasured: boolean) {
  const { name, model } = scenario;
  return { ...{ scenario: name, devices: mixOf(scenario), model: model.name }, megabits, isMeasured };
}

function leastOf<T>(values: readonly T[], joules: (value: T) => number): T | null {
  return values.reduce<T | null>((a, b) => (a && joules(a) <= joules(b) ? a : b), null);
}

/** Of pipelines, the schedule that takes least. */
function ofEnergy({ strategies }: ScenarioResult, strategy: EnergyStrategy): Measured | null {
  const found = strategies.filter(({ name, role, plan }) =>
    strategy === "pipeline" ? role === "strategy" && plan?.strategy === "pipeline" : name === strategy,
  );
  return leastOf(
    found.flatMap(({ measured }) => measured ?? []),
    ({ modelledJoulesPerSample }) => modelledJoulesPerSample,
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
