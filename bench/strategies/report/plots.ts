/** The pictures of a report: bars by strategy, and predicted against measured step times. */

import type { ScenarioResult, StrategyResult } from "../result.ts";
import { COLOURS, circle, line, rect, svg, text } from "./svg.ts";

const LABEL = 130;
const BARS = 420;
const VALUE = 110;
const ROW = 22;

/** One bar for each strategy that ran; a tick where the plan's prediction is, if there is one. */
export function bars(
  title: string,
  strategies: readonly StrategyResult[],
  value: (strategy: StrategyResult) => number | null,
  show: (value: number) => string,
  predicted: (strategy: StrategyResult) => number | null = () => null,
): string {
  const rows = strategies.flatMap((strategy) => {
    const found = value(strategy);
    return found === null ? [] : [{ strategy, found, expected: predicted(strategy) }];
  });
  const most = Math.max(...rows.flatMap(({ found, expected }) => [found, expected ?? 0]), Number.MIN_VALUE);
  const scale = (amount: number) => (amount / most) * BARS;
  const content = rows.flatMap(({ strategy: { name, role }, found, expected }, i) => {
    const y = i * ROW;
    return [
      text(LABEL - 6, y + 15, name, "end"),
      rect(LABEL, y + 3, scale(found), ROW - 6, COLOURS[role], `${name}: ${show(found)}`),
      ...(expected === null ? [] : [line(LABEL + scale(expected), y, LABEL + scale(expected), y + ROW)]),
      text(LABEL + scale(Math.max(found, expected ?? 0)) + 6, y + 15, show(found)),
    ];
  });
  return svg(LABEL + BARS + VALUE, Math.max(1, rows.length) * ROW, title, content);
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
      ? line(x(first), y(first * factor), x(last / factor), y(last), dashed)
      : line(x(first / factor), y(first), x(last), y(last * factor), dashed);
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
