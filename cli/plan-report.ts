/** A plan for a person: who holds what, what it takes, why, and the predicted timeline of a step. */

import type { Planned } from "../actors/plan.ts";
import { isSharded, type Plan, type Worker, workersOf } from "../actors/scheduler/plan.ts";
import { GANTT_LEGEND, gantt } from "../actors/scheduler/timeline.ts";
import type { Output } from "../runtime/platform/process.ts";
import { bytes, painter, percent, table } from "./terminal.ts";

/** Columns of the timeline where nobody says how wide it may be. */
const WIDTH = 100;
/** Of larger clusters the rest is counted, and a timeline of so many is for Perfetto. */
const MOST_ROWS = 40;

export function workerNames(plan: Plan): string[] {
  return workersOf(plan).map(({ member, stage }) => `${member.deviceName} (stage ${stage.stage + 1})`);
}

/** Lines of text. */
export function planReport(planned: Planned, out: Output): string[] {
  const { plan, simulation, request, stepMs } = planned;
  const paint = painter(out);
  const { strategy, schedule, microBatches, stages } = plan;
  const workers = workersOf(plan);
  const ofDevice = new Map(workers.map((worker) => [worker.member.device, worker]));
  const limits = new Map(request.devices.map(({ id, memoryBytes }) => [id, memoryBytes]));
  const how = stages.length === 1 ? strategy : `${strategy} of ${stages.length} stages, ${schedule}`;
  const rows = [...plan.devices]
    .sort((a, b) => (ofDevice.get(a.id)?.worker ?? Infinity) - (ofDevice.get(b.id)?.worker ?? Infinity))
    .slice(0, MOST_ROWS)
    .map(({ id, name, reason }) => {
      const worker = ofDevice.get(id);
      return worker
        ? [name, ...usedRow(worker, limits.get(id)), reason]
        : [name, "-", "-", "-", "-", "-", reason];
    });
  const columns = ["device", "stage", "segments", "share", "micro-batch", "memory", "reason"].map(
    (title, i) => ({
      title,
      align: i === 0 || i === 6 ? ("left" as const) : ("right" as const),
    }),
  );
  const more = plan.devices.length - rows.length;
  const joules = plan.predictedJoules === null ? "" : `, ${plan.predictedJoules.toFixed(2)} J (modelled)`;
  return [
    paint("bold", `${how}, ${microBatches} micro-batches`),
    "",
    ...table(columns, rows, paint),
    ...(more > 0 ? [`  and ${more} devices more`] : []),
    "",
    `  predicted: ${stepMs.toFixed(1)} ms a step, ${percent(simulation.bubbleFraction)} of it idle${joules}`,
    ...codecLines(plan),
    "",
    ...(workers.length > MOST_ROWS ? [] : timeline(planned, out)),
  ];
}

function usedRow({ member, stage }: Worker, limit: number | undefined): string[] {
  const { share, microBatches, forwardMs, backwardMs, memoryBytes } = member;
  const total = stage.members.reduce((sum, each) => sum + each.share, 0);
  const part =
    stage.members.length === 1
      ? "all"
      : isSharded(stage.sharing)
        ? `${stage.sharing} ${percent(share / total)}`
        : `${stage.sharing} ${microBatches.length}`;
  return [
    `${stage.stage + 1}`,
    stage.ranges.map(({ from, to }) => (to - from === 1 ? `${from}` : `${from}-${to - 1}`)).join(" "),
    part,
    `${(forwardMs + backwardMs).toFixed(1)} ms`,
    limit === undefined ? bytes(memoryBytes) : `${bytes(memoryBytes)} of ${bytes(limit)}`,
  ];
}

function codecLines({ codecs }: Plan): string[] {
  const used = [
    ...(codecs.activations ? [`activations as ${codecs.activations}`] : []),
    ...(codecs.gradients ? [`gradients as ${codecs.gradients}`] : []),
  ];
  return used.length > 0 ? [`  on the wire: ${used.join(", ")}, which changes the result`] : [];
}

function timeline({ plan, simulation }: Planned, out: Output): string[] {
  const names = workerNames(plan);
  const indent = Math.max(...names.map((name) => name.length));
  const width = Math.max(20, (out.terminal ? out.columns() : WIDTH) - indent - 3);
  const spans = [...simulation.spans, ...simulation.collectives];
  const chart = gantt(spans, names, width).split("\n");
  return [...chart.map((row) => `  ${row}`), "", `  ${GANTT_LEGEND}`];
}
