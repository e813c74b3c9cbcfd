/** A plan for a person: who holds what, what it takes, why, and the predicted timeline of a step. */

import type { Planned } from "../actors/plan.ts";
import { type Plan, workersOf } from "../actors/scheduler/plan.ts";
import { GANTT_LEGEND, gantt } from "../actors/scheduler/timeline.ts";
import type { Output } from "../runtime/platform/process.ts";
import { caveats, copyNote, otherStrategy, planTable, planTitle } from "./plan-words.ts";
import { painter, percent, table } from "./terminal.ts";

/** Columns of the timeline where nobody says how wide it may be. */
const WIDTH = 100;
/** Of larger clusters the rest is counted, and a timeline of so many is for Perfetto. */
const MOST_ROWS = 40;

export function workerNames(plan: Plan): string[] {
  return workersOf(plan).map(({ member, stage }) => `${member.deviceName} (stage ${stage.stage + 1})`);
}

/** Lines of text. @param asked the strategy that was asked for; undefined where none was. */
export function planReport(planned: Planned, out: Output, asked?: string): string[] {
  const { plan, simulation, request, stepMs } = planned;
  const paint = painter(out);
  const limits = new Map(request.devices.map(({ id, memoryBytes }) => [id, memoryBytes]));
  const { columns, rows, more } = planTable(plan, { limits, most: MOST_ROWS });
  const { predictedJoules: joules } = plan;
  const energy = joules === null ? "" : `, ${joules.toFixed(2)} J (modelled)`;
  return [
    paint("bold", `${planTitle(plan)}, ${plan.microBatches} micro-batches`),
    "",
    ...table(columns, rows, paint),
    ...(more > 0 ? [`  and ${more} devices more`] : []),
    "",
    `  predicted: ${stepMs.toFixed(1)} ms a step, ${percent(simulation.bubbleFraction)} of it idle${energy}`,
    ...[otherStrategy(plan, asked) ?? [], copyNote(plan) ?? [], ...caveats(plan)]
      .flat()
      .map((line) => `  ${line}`),
    "",
    ...(workersOf(plan).length > MOST_ROWS ? [] : timeline(planned, out)),
  ];
}

function timeline({ plan, simulation }: Planned, out: Output): string[] {
  const names = workerNames(plan);
  const indent = Math.max(...names.map((name) => name.length));
  const width = Math.max(20, (out.terminal ? out.columns() : WIDTH) - indent - 3);
  const spans = [...simulation.spans, ...simulation.collectives];
  const chart = gantt(spans, names, width).split("\n");
  return [...chart.map((row) => `  ${row}`), "", `  ${GANTT_LEGEND}`];
}
