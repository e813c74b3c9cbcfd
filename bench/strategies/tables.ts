/** The results of `bench strategies` as tables, for terminals and Markdown. */

import { type Plan, workersOf } from "../../actors/scheduler/plan.ts";
import { milliseconds, percent } from "../format.ts";
import type { Section } from "../report.ts";
import { median } from "../statistics.ts";
import type { Table } from "../table.ts";
import { ENERGY_STRATEGIES } from "./energy.ts";
import { energyRows } from "./energy-rows.ts";
import type { ScenarioResult, StrategiesResult, StrategyResult } from "./result.ts";
import { CLOSE_TO_BEST, RATIO_NAMES, type Ratio, summarise } from "./summary.ts";

const NONE = "–";
/** Characters of a reason in a table. */
const MOST_REASON = 120;

/** Everything: a table for each scenario behind those of all. */
export function sectionsOf(result: Pick<StrategiesResult, "scenarios" | "failures">): Section[] {
  return [...summarySections(result), ...result.scenarios.map(scenarioSection)];
}

/** What all scenarios come to. */
export function summarySections({
  scenarios,
  failures,
}: Pick<StrategiesResult, "scenarios" | "failures">): Section[] {
  const { predictionError } = summarise(scenarios);
  return [
    {
      title: "The planner's choice",
      text: [
        ...failures.map(({ scenario, why }) => `Scenario ${scenario} was not measured: ${why}.`),
        "How many times as fast the choice's step is as the others'; single is the fastest device that can hold the model. " +
          `Close is within ${percent(CLOSE_TO_BEST)} of the best measured. A ratio with ~ is of predictions: that plan was not run.`,
      ],
      table: choiceTable(scenarios),
    },
    {
      title: "Time of a step",
      text: [
        "Medians, and how many times as long as the best measured. With ~ a plan was not run, being predicted many times as " +
          "slow as the best, and its prediction stands there; = is the same plan as another's, measured once.",
      ],
      table: timesTable(scenarios),
    },
    {
      title: "Prediction of a step's time",
      text: predictionError
        ? [
            `Over ${predictionError.count} plans measured: median error ${percent(predictionError.median)}, 90th ` +
              `percentile ${percent(predictionError.p90)}, at most ${percent(predictionError.most)}.${lateness(scenarios)}`,
          ]
        : ["Nothing was measured."],
      table: errorsTable(scenarios),
    },
    {
      title: "Weights beside one device's",
      text: [
        "The largest difference of any tensor from the same steps on one device: by norm, ‖a − b‖ / ‖b‖, and of any single " +
          "weight as a part of the largest of its tensor. Adam divides a gradient by its own size, so that where one is next to " +
          "nothing the order of a sum decides the weight's step; such weights are few, and by norm they weigh what they are.",
        "What is left of the first update grows with further ones, fast in networks with ReLUs: rounding that moves one " +
          "over its kink is another gradient. Only pipelines, which keep the order of sums, keep the weights there.",
      ],
      table: weightsTable(scenarios),
    },
    {
      title: "Energy",
      text: [
        "Joules per sample, MODELLED from the figures of the devices' classes (idle and busy watts, joules per byte): from " +
          "times and bytes that were measured on the scenario's own lines, and below from those that the simulator predicts " +
          "with the same devices on other lines, planned anew for the least time.",
      ],
      table: energyTable(scenarios),
    },
  ];
}

/** How far the testbed was from what it emulates; nothing where nobody knows. */
function lateness(scenarios: readonly ScenarioResult[]): string {
  const parts = scenarios.flatMap(({ strategies }) =>
    strategies.flatMap(({ measured }) =>
      (measured?.devices ?? []).flatMap(({ lateMs }) => (lateMs === null ? [] : [lateMs / measured!.stepMs])),
    ),
  );
  if (parts.length === 0) return "";
  const [middle, most] = [median(parts), Math.max(...parts)].map(percent);
  return ` Kernels were done later than an emulated device's would have been by ${middle} of a step (median; at most ${most}).`;
}

function scenarioSection(scenario: ScenarioResult): Section {
  const { name, about, model, aboutTestbed, batch, microBatches, steps, warmUp } = scenario;
  return {
    title: `Scenario ${name}`,
    text: [
      `${about}. ${model.about}; ${batch} samples a step in ${microBatches} micro-batches; medians of up to ${steps} steps a ` +
        `run after ${warmUp} to warm up; plans that may be the best have further runs.`,
      `${scenario.devices.map(deviceText).join("; ")}. ${aboutTestbed.join("; ")}.`,
    ],
    table: scenarioTable(scenario),
  };
}

export function choiceTable(scenarios: readonly ScenarioResult[]): Table {
  const ratio = (found: Ratio | null) =>
    found ? `${found.isPredicted ? "~" : ""}${found.times.toFixed(2)} ×` : NONE;
  return {
    columns: [
      ...["scenario", "choice", "step", "best measured", "over best", "close"],
      ...["single", "best data", "even-split pipeline", "equal-share data", "blind hybrid"],
    ],
    rows: summarise(scenarios).scenarios.map((row, i) => {
      const choice = scenarios[i]!.strategies.find(({ role }) => role === "planner");
      return [
        row.scenario,
        choice?.plan ? planText(choice.plan) : NONE,
        row.chosenMs === null ? NONE : milliseconds(row.chosenMs),
        row.best ? `${row.best.name}, ${milliseconds(row.best.ms)}` : NONE,
        row.overBest === null ? NONE : `${row.overBest.toFixed(2)} ×`,
        row.isClose === null ? NONE : row.isClose ? "yes" : "NO",
        ...RATIO_NAMES.map((name) => ratio(row.times[name])),
      ];
    }),
  };
}

/** By strategy and scenario. */
export function timesTable(scenarios: readonly ScenarioResult[]): Table {
  const names = [...new Set(scenarios.flatMap(({ strategies }) => strategies.map(({ name }) => name)))];
  const summaries = summarise(scenarios).scenarios;
  const cell = (found: StrategyResult | undefined, bestMs: number | undefined) => {
    if (!found?.plan || found.refused !== null) return NONE;
    const ms = found.measured?.stepMs ?? found.plan.predictedStepMs;
    const ratio = bestMs === undefined ? "" : ` (${(ms / bestMs).toFixed(2)})`;
    return `${found.measured ? "" : "~"}${found.sameAs === null ? "" : "= "}${seconds(ms)}${ratio}`;
  };
  return {
    columns: ["strategy", ...scenarios.map(({ name }) => name)],
    rows: names.map((name) => [
      name,
      ...scenarios.map(({ strategies }, i) =>
        cell(
          strategies.find((each) => each.name === name),
          summaries[i]!.best?.ms,
        ),
      ),
    ]),
  };
}

export function errorsTable(scenarios: readonly ScenarioResult[]): Table {
  return {
    columns: ["scenario", "plans measured", "median", "90th percentile", "largest", "of"],
    rows: summarise(scenarios).scenarios.flatMap(({ scenario, predictionError }, i) => {
      if (!predictionError) return [];
      const { count, median, p90, most } = predictionError;
      const worst = scenarios[i]!.strategies.find(({ measured }) => measured?.predictionError === most)!;
      const { predictedStepMs, stepMs } = worst.measured!;
      const way = predictedStepMs < stepMs ? "predicted too short" : "predicted too long";
      return [[scenario, count, percent(median), percent(p90), percent(most), `${worst.name}, ${way}`]];
    }),
  };
}

export function weightsTable(scenarios: readonly ScenarioResult[]): Table {
  return {
    columns: ["model", "strategy", "first update, by norm", "final, by norm", "final, any weight"],
    rows: summarise(scenarios).weightsDifferences.map((each) => [
      ...[each.kind, each.strategy],
      ...[each.firstByNorm, each.byNorm, each.byElement].map(scientific),
    ]),
  };
}

export function energyTable(scenarios: readonly ScenarioResult[]): Table {
  return {
    columns: ["scenario", "devices", "model", "Mbit/s", "times", ...ENERGY_STRATEGIES, "least", "why"],
    rows: energyRows(scenarios).map(
      ({ scenario, devices, megabits, model, isMeasured, joules, least, why }) => [
        ...[scenario, devices, model, megabits, isMeasured ? "measured" : "predicted"],
        ...ENERGY_STRATEGIES.map((strategy) => {
          const value = joules[strategy] ?? null;
          return value === null ? NONE : value.toPrecision(3);
        }),
        ...[least ?? NONE, why],
      ],
    ),
  };
}

export function scenarioTable({ strategies }: Pick<ScenarioResult, "strategies">): Table {
  return {
    columns: [
      ...[
        "strategy",
        "plan",
        "step",
        "samples/s",
        "predicted",
        "error",
        "bubble",
        "loss ±",
        "norm ±",
        "weight ±",
      ],
      ...["sent", "process memory", "J/sample"],
    ],
    rows: strategies.map((strategy) => {
      const { plan, measured } = strategy;
      if (!measured) {
        const { refused, skipped } = strategy;
        const rest = (count: number) => new Array<string>(count).fill(NONE);
        if (refused !== null || !plan)
          return [strategy.name, `does not run: ${shortened(refused ?? "")}`, ...rest(11)];
        const predicted = [milliseconds(plan.predictedStepMs), ...rest(8)];
        return [nameText(strategy), `${planText(plan)}, not run: ${skipped}`, NONE, NONE, ...predicted];
      }
      const { devices } = measured;
      const memory = Math.max(...devices.map((each) => each.peakBytes ?? each.predictedMemoryBytes));
      const predicted = devices.some(({ peakBytes }) => peakBytes === null);
      return [
        nameText(strategy),
        planText(plan!),
        milliseconds(measured.stepMs),
        measured.samplesPerSecond.toFixed(2),
        milliseconds(measured.predictedStepMs),
        percent(measured.predictionError),
        percent(measured.bubble),
        scientific(measured.lossDifference),
        scientific(measured.weightsDifference.firstByNorm),
        scientific(measured.weightsDifference.byNorm),
        megabytes(devices.reduce((sum, { sentBytes }) => sum + sentBytes, 0)),
        `${megabytes(memory)}${predicted ? " planned" : ""}`,
        measured.modelledJoulesPerSample.toPrecision(3),
      ];
    }),
  };
}

/** `data: nx 5 + nano 3 | 1f1b: nx 0–3 → tx2 4–7`: who has which segments, and how they share them. */
export function planText(plan: Plan): string {
  const stages = plan.stages.map(({ ranges, members, sharing }) => {
    const held = ranges.map(({ from, to }) => (to - from === 1 ? `${from}` : `${from}–${to - 1}`)).join(", ");
    const who = members.map(({ deviceName, microBatches, share }) => {
      if (sharing === null) return deviceName;
      const part =
        sharing === "data" || sharing === "local" ? `${microBatches.length}` : Number(share.toPrecision(2));
      return `${deviceName} (${part})`;
    });
    return `${who.join(" + ")}${sharing === null ? "" : ` ${sharing}`}${plan.stages.length > 1 ? ` ${held}` : ""}`;
  });
  const schedule = workersOf(plan).length > 1 && plan.stages.length > 1 ? `${plan.schedule}: ` : "";
  return `${schedule}${stages.join(" → ")}`;
}

/** A reason's first clause: all of it is in the JSON. */
function shortened(reason: string): string {
  const [first = ""] = reason.split(/; /);
  return first.length <= MOST_REASON ? first : `${first.slice(0, MOST_REASON).replace(/\s+\S*$/, "")} …`;
}

function nameText({ name, role, sameAs }: StrategyResult): string {
  const what = role === "strategy" ? "" : ` (${role})`;
  return `${name}${what}${sameAs === null ? "" : ` = ${sameAs}`}`;
}

function deviceText(device: ScenarioResult["devices"][number]): string {
  const { name, class: named, megabits, latencyMs, memoryBytes } = device;
  const line = `${megabits} Mbit/s${latencyMs > 0 ? ` ${latencyMs} ms` : ""}`;
  return `${name}: ${named}, ${line}, ${megabytes(memoryBytes)}`;
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;
export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
export const scientific = (value: number): string => (value === 0 ? "0" : value.toExponential(1));
