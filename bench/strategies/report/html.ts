/**
 * The report of a run of `bench strategies` as one file that needs no other: tables, pictures and the timeline of every
 * device. Pure: from a result, text.
 */

import { milliseconds } from "../../format.ts";
import type { Section } from "../../report.ts";
import { isFigure, type Table } from "../../table.ts";
import type { ScenarioResult, StrategiesResult } from "../result.ts";
import { sectionsOf } from "../tables.ts";
import { bars, energyBars, predictedAgainstMeasured, stepBars } from "./plots.ts";
import { COLOURS, escaped } from "./svg.ts";
import { TIMELINE_LEGEND, timelinePicture } from "./timelines.ts";

const STYLE = `
body { font: 15px/1.45 system-ui, sans-serif; color: #222; margin: 2em auto; max-width: 1280px; padding: 0 1em; }
table { border-collapse: collapse; font-size: 13px; margin: 0.7em 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ddd; padding: 3px 8px; text-align: left; vertical-align: top; }
svg { max-width: 100%; height: auto; }
tr:nth-child(even) td { background: #f7f7f7; }
td.short, th { white-space: nowrap; } td.right { text-align: right; }
figure { margin: 1em 0; } figcaption { color: #555; font-size: 13px; }
.key span { display: inline-block; width: 12px; height: 12px; margin: 0 4px 0 12px; }
summary { cursor: pointer; }
`;

/** Characters of a cell that stays on one line. */
const SHORT = 24;

export function htmlReport(result: StrategiesResult): string {
  const { date, machine, versions, command, scenarios } = result;
  const [choice, times, errors, weights, energy, ...each] = sectionsOf(result);
  const facts = [`Date: ${date}`, `Machine: ${machine}`, `Versions: ${versions}`, `Command: ${command}`];
  const body = [
    "<h1>Strategies</h1>",
    `<ul>${facts.map((fact) => `<li>${escaped(fact)}</li>`).join("")}</ul>`,
    sectionHtml(choice!),
    sectionHtml(times!),
    sectionHtml(errors!),
    figure(
      predictedAgainstMeasured(scenarios),
      "Each plan measured once; between the dashed lines predictions are within 15 %.",
    ),
    key(Object.entries(COLOURS).map(([role, colour]) => [colour, role])),
    sectionHtml(weights!),
    sectionHtml(energy!),
    ...scenarios.map((scenario, i) => scenarioHtml(scenario, each[i]!)),
  ];
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Strategies</title><style>${STYLE}</style></head><body>${body.join("\n")}</body></html>\n`;
}

function scenarioHtml(scenario: ScenarioResult, section: Section): string {
  const { name, strategies } = scenario;
  const timelines = strategies.flatMap(({ name: strategy, measured, sameAs }) =>
    measured && sameAs === null
      ? [
          `<details><summary>${escaped(strategy)}, ${milliseconds(measured.stepMs)} a step</summary>` +
            `${timelinePicture(strategy, measured)}${deviceTable(measured)}</details>`,
        ]
      : [],
  );
  return [
    sectionHtml(section),
    figure(
      stepPicture(scenario),
      "A step as measured; the black line is its prediction. Pale bars are predictions of plans that were not run.",
    ),
    figure(
      bars(
        `${name}: joules per sample, modelled`,
        energyBars(strategies),
        (joules) => `${joules.toPrecision(3)} J`,
        "joules per sample, modelled",
      ),
      "Joules per sample, modelled from the classes' figures.",
    ),
    "<h4>A step on each device</h4>",
    key(TIMELINE_LEGEND),
    ...timelines,
  ].join("\n");
}

/** The step of every strategy in a scenario. */
export function stepPicture({ name, strategies }: ScenarioResult): string {
  return bars(
    `${name}: seconds of a step`,
    stepBars(strategies),
    (value) => `${value.toFixed(2)} s`,
    `seconds of a step, scenario ${name}`,
  );
}

function deviceTable({ devices }: NonNullable<ScenarioResult["strategies"][number]["measured"]>): string {
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(2);
  return tableHtml({
    columns: [
      ...["device", "computing, ms", "sent, MB", "received, MB", "peak memory, MB"],
      ...["planned memory, MB", "J, modelled"],
    ],
    rows: devices.map((device) => [
      ...[
        device.name,
        device.busyMs.toFixed(1),
        megabytes(device.sentBytes),
        megabytes(device.receivedBytes),
      ],
      device.peakBytes === null ? "–" : megabytes(device.peakBytes),
      ...[megabytes(device.predictedMemoryBytes), device.modelledJoules.toPrecision(3)],
    ]),
  });
}

function sectionHtml({ title, text, table }: Section): string {
  const paragraphs = text.map((paragraph) => `<p>${escaped(paragraph)}</p>`).join("");
  return `<h2>${escaped(title)}</h2>${paragraphs}${table ? tableHtml(table) : ""}`;
}

function tableHtml({ columns, rows }: Table): string {
  const classOf = (cell: string) => {
    const classes = [...(cell.length <= SHORT ? ["short"] : []), ...(isFigure(cell) ? ["right"] : [])];
    return classes.length === 0 ? "" : ` class="${classes.join(" ")}"`;
  };
  const head = columns.map((column) => `<th>${escaped(column)}</th>`).join("");
  const body = rows.map((row) => {
    const cells = row.map((cell) => `<td${classOf(`${cell}`)}>${escaped(`${cell}`)}</td>`);
    return `<tr>${cells.join("")}</tr>`;
  });
  return `<table><tr>${head}</tr>${body.join("")}</table>`;
}

function figure(picture: string, caption: string): string {
  return `<figure>${picture}<figcaption>${escaped(caption)}</figcaption></figure>`;
}

function key(entries: readonly (readonly [string, string])[]): string {
  const items = entries.map(([colour, what]) => `<span style="background:${colour}"></span>${escaped(what)}`);
  return `<p class="key">${items.join("")}</p>`;
}
