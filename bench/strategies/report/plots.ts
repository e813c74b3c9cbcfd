/** The pictures of a report: bars by strategy, and predicted against measured step times. */

import type { ScenarioResult, StrategyResult } from "../result.ts";
import { COLOURS, circle, line, rect, svg, text } from "./svg.ts";

const LABEL = 130;
const BARS = 420;
const VALUE = 190;
const ROW = 22;

/** What a bar is of. */
export interface Bar {
  readonly strategy: StrategyResult;
  readonly value: number;
  /** Where the plan's prediction is; null where there is none. */
  readonly predicted: number | null;
  /** Whether nothing but a prediction is known. */
  readonly isPrediction: boolean;
}

/** The longest bar beside the shortest: what is longer is cut, and says how long it is. */
const MOST_TIMES = 8;
const AXIS = 34;
/** Of the legend, from one to the next. */
const KEY = 110;

/** One bar for each, with a tick at its prediction, over an axis that has the unit. */
export function bars(
  title: string,
  given: readonly Bar[],
  show: (value: number) => string,
  unit: string,
): string {
  const values = given.map(({ value }) => value);
  const most = Math.min(Math.max(...values, Number.MIN_VALUE), MOST_TIMES * Math.min(...values));
  const scale = (amount: number) => (Math.min(amount, most) / most) * BARS;
  const content = given.flatMap(({ strategy: { name, role, sameAs }, value, predicted, isPrediction }, i) => {
    const y = i * ROW;
    const said = `${isPrediction ? "~" : ""}${show(value)}`;
    const told = `${said}${value > most ? " (cut)" : ""}${sameAs === null ? "" : ` = ${sameAs}`}`;
    return [
      text(LABEL - 6, y + 15, name, "end"),
      rect(LABEL, y + 3, scale(value), ROW - 6, COLOURS[role], `${name}: ${said}`, isPrediction ? 0.35 : 1),
      ...(predicted === null
        ? []
        : [line(LABEL + scale(predicted), y + 1, LABEL + scale(predicted), y + ROW - 1, "mark")]),
      text(LABEL + scale(Math.max(value, predicted ?? 0)) + 6, y + 15, told),
    ];
  });
  const bottom = Math.max(1, given.length) * ROW + 2;
  const axis = [0, 0.25, 0.5, 0.75, 1].flatMap((part) => [
    line(LABEL + part * BARS, bottom, LABEL + part * BARS, bottom + 4),
    text(LABEL + part * BARS, bottom + 17, (part * most).toPrecision(2), "middle"),
  ]);
  const roles = [...new Set(given.map(({ strategy }) => strategy.role))];
  const below = bottom + AXIS + 8;
  const legend = roles.flatMap((role, i) => [
    rect(LABEL + i * KEY, below, 12, 12, COLOURS[role]),
    text(LABEL + i * KEY + 17, below + 11, role),
  ]);
  const last = LABEL + roles.length * KEY;
  const tick = [
    line(last + 6, below - 1, last + 6, below + 13, "mark"),
    text(last + 17, below + 11, "predicted"),
  ];
  return svg(LABEL + BARS + VALUE, below + 18, title, [
    ...content,
    ...legend,
    ...(given.some(({ predicted }) => predicted !== null) ? tick : []),
    line(LABEL, bottom, LABEL + BARS, bottom),
    ...(given.length === 0 ? [] : axis),
    text(LABEL + BARS / 2, bottom + AXIS - 3, unit, "middle"),
  ]);
}

/** Measured where they are, else predicted; the fastest first. */
export function stepBars(strategies: readonly StrategyResult[]): Bar[] {
  return strategies
    .flatMap((strategy): Bar[] => {
      const { plan, measured, refused } = strategy;
      if (!plan || refused !== null) return [];
      const predicted = plan.predictedStepMs / 1000;
      return [
        measured
          ? { strategy, value: measured.stepMs / 1000, predicted, isPrediction: false }
          : { strategy, value: predicted, predicted: null, isPrediction: true },
      ];
    })
    .sort((a, b) => a.value - b.value);
}

/** Of what ran. */
export function energyBars(strategies: readonly StrategyResult[]): Bar[] {
  return strategies.flatMap((strategy) => {
    const value = strategy.measured?.modelledJoulesPerSample;
    return value === undefined ? [] : [{ strategy, value, predicted: null, isPrediction: false }];
  });
}

const SIDE = 380;
const MARGIN = 50;

/** Every plan once, both axes logarithmic; on the diagonal they agree, between the dashed lines to 15 %. */
export function predictedAgainstMeasured(scenarios: readonly ScenarioResult[]): string {
  const points = scenarios.flatMap(({ name: scenario, strategies }) =>
    strategies.flatMap(({ name, role, measured, sameAs }) =>
      measured && sameAs === null ? [{ label: `${scenario}, ${name}`, role, measured }] : [],
    ),
  );
  const all = points.flatMap(({ measured }) => [measured.stepMs, measured.predictedStepMs]);
  const low = Math.log(Math.min(...all) / 1.3);
  const high = Math.log(Math.max(...all) * 1.3);
  const place = (ms: number) => ((Math.log(ms) - low) / (high - low)) * SIDE;
  const x = (ms: number) => MARGIN + place(ms);
  const y = (ms: number) => SIDE - place(ms);
  const title = "Predicted against measured step times";
  if (points.length === 0) return svg(MARGIN + SIDE, MARGIN, title, [text(0, 20, "nothing was measured")]);
  const [first, last] = [Math.exp(low), Math.exp(high)];
  const along = (factor: number, dashed: boolean) =>
    factor >= 1
      ? line(x(first), y(first * factor), x(last / factor), y(last), dashed ? "dashed" : "plain")
      : line(x(first / factor), y(first), x(last), y(last * factor), dashed ? "dashed" : "plain");
  const ticks = decades(first, last).flatMap((ms) => [
    text(x(ms), SIDE + 16, `${ms}`, "middle"),
    text(MARGIN - 6, y(ms) + 4, `${ms}`, "end"),
  ]);
  return svg(MARGIN + SIDE + 10, SIDE + MARGIN, title, [
    line(MARGIN, SIDE, MARGIN + SIDE, SIDE),
    line(MARGIN, 0, MARGIN, SIDE),
    ...[along(1, false), along(1.15, true), along(1 / 1.15, true)],
    ...ticks,
    text(MARGIN + SIDE / 2, SIDE + 36, "measured, ms", "middle"),
    text(MARGIN + 6, 12, "predicted, ms"),
    ...points.map(({ label, role, measured: { stepMs, predictedStepMs } }) =>
      circle(
        x(stepMs),
        y(predictedStepMs),
        COLOURS[role],
        `${label}: predicted ${predictedStepMs.toFixed(0)}, measured ${stepMs.toFixed(0)} ms`,
      ),
    ),
  ]);
}

/** 1, 2 and 5 times powers of ten within a range. */
function decades(low: number, high: number): number[] {
  const found: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const digit of [1, 2, 5]) {
      const value = Number((digit * 10 ** power).toPrecision(1));
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found;
}
