/** The results of `bench strategies` as tables, for terminals and Markdown. */

import { type Plan, workersOf } from "../../actors/scheduler/plan.ts";
import { milliseconds, percent } from "../format.ts";
import type { Section } from "../report.ts";
import type { Table } from "../table.ts";
import type { ScenarioResult, StrategiesResult, StrategyResult } from "./result.ts";
import { CLOSE_TO_BEST, ENERGY_STRATEGIES, energyRows, summarise } from "./summary.ts";

const NONE = "–";

export function sectionsOf({ scenarios }: Pick<StrategiesResult, "scenarios">): Section[] {
  const { predictionError, largestWeightsDifference } = summarise(scenarios);
  const told = [
    ...(predictionError
      ? [
          `Predicted step times: median error ${percent(predictionError.median)}, 90th percentile ` +
            `${percent(predictionError.p90)}, over ${predictionError.count} plans measured.`,
        ]
      : []),
    ...(largestWeightsDifference === null
      ? []
      : [
          "Largest difference of any final weight from one device's, as a part of the largest of its tensor: " +
            `${scientific(largestWeightsDifference)}.`,
        ]),
  ];
  return [
    {
      title: "The planner's choice",
      text: [
        ...told,
        "How many times as fast as the choice's step the others' are; the fastest single device is one that can hold " +
          `the model. Close is within ${percent(CLOSE_TO_BEST)} of the best measured.`,
      ],
      table: choiceTable(scenarios),
    },
    {
      title: "Energy",
      text: [
        "Joules per sample, MODELLED from the figures of the devices' classes (idle and busy watts, joules per byte) with " +
          "the times and bytes that were measured.",
      ],
      table: energyTable(scenarios),
    },
    ...scenarios.map((scenario): Section => {
      const { about, model, aboutTestbed, batch, microBatches, steps, repeats, warmUp } = scenario;
      return {
        title: `Scenario ${scenario.name}`,
        text: [
          `${about}. ${model.about}; ${batch} samples a step in ${microBatches} micro-batches; medians over ${repeats} runs ` +
            `of ${steps} steps after ${warmUp} to warm up.`,
          `${scenario.devices.map(deviceText).join("; ")}. ${aboutTestbed.join("; ")}.`,
        ],
        table: scenarioTable(scenario),
      };
    }),
  ];
}

export function choiceTable(scenarios: readonly ScenarioResult[]): Table {
  const times = (value: number | null) => (value === null ? NONE : `${value.toFixed(2)} ×`);
  return {
    columns: [
      ...["scenario", "choice", "step", "best measured", "over best", "close"],
      ...["single", "data", "even split", "equal data", "blind hybrid"],
    ],
    rows: summarise(scenarios).scenarios.map((row, i) => {
      const choice = scenarios[i]!.strategies.find(({ role }) => role === "planner");
      return [
        row.scenario,
        choice?.plan ? planText(choice.plan) : NONE,
        row.chosenMs === null ? NONE : milliseconds(row.chosenMs),
        row.best ? `${row.best.name}, ${milliseconds(row.best.ms)}` : NONE,
        times(row.overBest),
        row.isClose === null ? NONE : row.isClose ? "yes" : "NO",
        times(row.timesSingle),
        times(row.timesData),
        times(row.timesEvenSplit),
        times(row.timesEqualData),
        times(row.timesBlindHybrid),
      ];
    }),
  };
}

export function energyTable(scenarios: readonly ScenarioResult[]): Table {
  return {
    columns: ["scenario", "devices", "Mbit/s", "model", ...ENERGY_STRATEGIES, "least", "why"],
    rows: energyRows(scenarios).map(({ scenario, devices, megabits, model, joules, least, why }) => [
      ...[scenario, devices, megabits, model],
      ...ENERGY_STRATEGIES.map((strategy) => {
        const value = joules[strategy] ?? null;
        return value === null ? NONE : value.toPrecision(3);
      }),
      ...[least ?? NONE, why],
    ]),
  };
}

export function scenarioTable({ strategies }: Pick<ScenarioResult, "strategies">): Table {
  return {
    columns: [
      ...["strategy", "plan", "step", "samples/s", "predicted", "error", "bubble", "loss ±", "weights ±"],
      ...["sent", "process memory", "J/sample"],
    ],
    rows: strategies.map((strategy) => {
      const { plan, measured } = strategy;
      if (!measured) {
        const why = strategy.refused ?? "not run";
        return [strategy.name, `does not run: ${why}`, ...new Array<string>(10).fill(NONE)];
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
        scientific(measured.weightsDifference),
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

function nameText({ name, role, sameAs }: StrategyResult): string {
  const what = role === "strategy" ? "" : ` (${role})`;
  return `${name}${what}${sameAs === null ? "" : ` = ${sameAs}`}`;
}

function deviceText(device: ScenarioResult["devices"][number]): string {
  const { name, class: named, megabits, latencyMs, memoryBytes } = device;
  const line = `${megabits} Mbit/s${latencyMs > 0 ? ` ${latencyMs} ms` : ""}`;
  return `${name}: ${named}, ${line}, ${megabytes(memoryBytes)}`;
}

export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
export const scientific = (value: number): string => (value === 0 ? "0" : value.toExponential(1));
