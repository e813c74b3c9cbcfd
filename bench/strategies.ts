/**
 * `bench strategies`: every way to train a model on some devices, measured on equal terms in emulated clusters: time and
 * bubble of a step, what is sent, memory, modelled energy, whether the result is one device's, and how close the planner's
 * prediction was. Writes tables, JSON, one HTML report, and a trace of every strategy for Perfetto.
 */

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { chromeTrace } from "../actors/scheduler/timeline.ts";
import { UsageError } from "../cli/command.ts";
import { nearest } from "../cli/nearest.ts";
import type { Options } from "../cli/options.ts";
import { settingOf, toMarkdown } from "./report.ts";
import { DEFAULT_STRATEGIES, isStrategyName, KINDS, type StrategyName } from "./strategies/candidates.ts";
import { htmlReport, stepPicture } from "./strategies/report/html.ts";
import {
  RESULT_FORMAT,
  type ScenarioFailure,
  type ScenarioResult,
  type StrategiesResult,
} from "./strategies/result.ts";
import { runScenario } from "./strategies/scenario.ts";
import { bedOf, SCENARIOS, type Scenario } from "./strategies/scenarios.ts";
import { isScenarioModel, SCENARIO_MODELS } from "./strategies/scenarios-models.ts";
import { summarise } from "./strategies/summary.ts";
import { sectionsOf, summarySections } from "./strategies/tables.ts";
import type { Suite } from "./suite.ts";
import { TestbedError } from "./testbed/error.ts";
import { openTestbed, type Testbed, type TestbedKind, type TestbedOptions } from "./testbed/testbed.ts";

const DEFAULTS = { repeats: 2, steps: 3, warmUp: 1, profileMs: 10_000, minutes: 23 };
const TESTBEDS: readonly TestbedKind[] = ["namespaces", "shaped"];

export const strategies: Suite = {
  name: "strategies",
  summary: "every parallelism and the planner's choice, on emulated clusters of slow devices",
  options: {
    scenario: {
      value: "name",
      help: `all, or of ${SCENARIOS.map(({ name }) => name).join(", ")}`,
      repeated: true,
    },
    model: {
      value: "name",
      help: `instead of each scenario's own: ${Object.keys(SCENARIO_MODELS).join(", ")}`,
    },
    strategies: {
      value: "a,b",
      help: `of ${Object.keys(KINDS).join(", ")} (default: those with one device's result)`,
    },
    repeats: { value: "N", help: `runs of strategies that may be the best (default: ${DEFAULTS.repeats})` },
    steps: { value: "N", help: `steps that are timed in a run, at most (default: ${DEFAULTS.steps})` },
    "warm-up": { value: "N", help: `steps before them (default: ${DEFAULTS.warmUp})` },
    "profile-ms": {
      value: "N",
      help: `milliseconds of runs a device is profiled for (default: ${DEFAULTS.profileMs})`,
    },
    minutes: {
      value: "N",
      help: `for all scenarios together; what does not fit in is left out (default: ${DEFAULTS.minutes})`,
    },
    testbed: { value: "kind", help: `${TESTBEDS.join(" or ")} (default: namespaces where they can be had)` },
    out: { value: "folder", help: "where the report, the JSON and the traces go (default: strategies)" },
  },
  run: async (options, { note }) => {
    const chosen = scenariosOf(options);
    const names = strategiesOf(options);
    const model = options.text("model");
    if (model !== undefined && !isScenarioModel(model)) {
      throw new UsageError(`--model ${model} is not one of ${Object.keys(SCENARIO_MODELS).join(", ")}`);
    }
    const kind = options.choice("testbed", TESTBEDS);
    const numbers = {
      repeats: options.whole("repeats", { from: 1, to: 100 }) ?? DEFAULTS.repeats,
      steps: options.whole("steps", { from: 1, to: 1000 }) ?? DEFAULTS.steps,
      warmUp: options.whole("warm-up", { from: 0, to: 1000 }) ?? DEFAULTS.warmUp,
      profileMs: options.whole("profile-ms", { from: 1 }) ?? DEFAULTS.profileMs,
    };
    const out = options.text("out") ?? "strategies";
    mkdirSync(out, { recursive: true });
    const asked = chosen.map(({ name }) => name).join(" --scenario ");
    const setting = await settingOf(`npx bun run bench strategies --scenario ${asked}`, []);
    const scenarios: ScenarioResult[] = [];
    const failures: ScenarioFailure[] = [];
    const ends = performance.now() + (options.whole("minutes", { from: 1 }) ?? DEFAULTS.minutes) * 60_000;
    for (const [i, scenario] of chosen.entries()) {
      const named = model ?? scenario.model;
      const limitMs = (ends - performance.now()) / (chosen.length - i);
      try {
        const result = await runScenario(
          scenario,
          { name: named, ...SCENARIO_MODELS[named] },
          {
            ...{ ...numbers, limitMs, strategies: names, note },
            openBed: () => openPatiently(scenario, { ...(kind && { kind }), note }),
          },
        );
        scenarios.push(result);
      } catch (error) {
        const why = (error as Error).message;
        note(`${scenario.name}: ${why}`);
        failures.push({ scenario: scenario.name, why });
      }
      // What has been measured is kept, whatever comes.
      writeReport(out, { format: RESULT_FORMAT, ...setting, scenarios, failures });
    }
    if (scenarios.length === 0) throw new TestbedError(failures.map(({ why }) => why).join("; "));
    note(`report: ${join(out, "report.html")}`);
    if (scenarios.every(({ strategies }) => strategies.every(({ measured }) => measured === null))) {
      throw new TestbedError(
        "nothing was measured within the time: allow more --minutes, or ask for fewer strategies",
      );
    }
    return {
      report: {
        title: "Strategies",
        sections: summarySections({ scenarios, failures }),
        figures: { summary: summarise(scenarios), failures, scenarios: scenarios.map(withoutTimelines) },
      },
      versions: [],
    };
  },
};

/** Twice, should the machine be too busy for its calibration at first. */
async function openPatiently(scenario: Scenario, options: TestbedOptions): Promise<Testbed> {
  try {
    return await openTestbed(bedOf(scenario), options);
  } catch (error) {
    if (!(error instanceof TestbedError)) throw error;
    options.note?.(`${scenario.name}: ${error.message}; once more`);
    return openTestbed(bedOf(scenario), options);
  }
}

/** Writes a result as `result.json`, `report.md`, `report.html`, a picture of each scenario and a trace of each strategy. */
export function writeReport(out: string, result: StrategiesResult): void {
  const { date, machine, versions, command, scenarios } = result;
  const report = { title: "Strategies", sections: sectionsOf(result), figures: {} };
  const setting = { date, machine, versions, command };
  writeFileSync(join(out, "result.json"), `${JSON.stringify(result)}\n`);
  writeFileSync(join(out, "report.md"), `${toMarkdown(report, setting)}\n`);
  writeFileSync(join(out, "report.html"), htmlReport(result));
  for (const each of scenarios) writeFileSync(join(out, `${each.name}.svg`), stepPicture(each));
  for (const { name: scenario, strategies: all } of scenarios) {
    for (const { name, measured, sameAs } of all) {
      if (!measured || sameAs !== null) continue;
      const trace = chromeTrace(measured.timeline, measured.workerNames);
      writeFileSync(join(out, `${scenario}-${name}.trace.json`), `${JSON.stringify(trace)}\n`);
    }
  }
}

function withoutTimelines(scenario: ScenarioResult) {
  const without = scenario.strategies.map(({ measured, ...rest }) => {
    if (!measured) return { ...rest, measured };
    const { timeline: _, ...figures } = measured;
    return { ...rest, measured: figures };
  });
  return { ...scenario, strategies: without };
}

function scenariosOf(options: Options): readonly Scenario[] {
  const asked = options.all("scenario");
  const known = SCENARIOS.map(({ name }) => name);
  const unknown = asked.find((name) => name !== "all" && !known.includes(name));
  if (unknown !== undefined) {
    throw new UsageError(`there is no scenario "${unknown}"; the nearest is ${nearest(unknown, known)}`);
  }
  return asked.length === 0 || asked.includes("all")
    ? SCENARIOS
    : SCENARIOS.filter(({ name }) => asked.includes(name));
}

function strategiesOf(options: Options): readonly StrategyName[] {
  const asked = options.text("strategies")?.split(",") ?? DEFAULT_STRATEGIES;
  const names = asked.filter(isStrategyName);
  if (names.length === asked.length) return names;
  const unknown = asked.find((name) => !isStrategyName(name))!;
  throw new UsageError(
    `there is no strategy "${unknown}"; the nearest is ${nearest(unknown, Object.keys(KINDS))}`,
  );
}
