/**
 * The events of a run for a person: the plan as a table, a progress bar where the terminal can draw one and a line
 * now and then where it cannot, where the time went, all on standard error. Standard output gets the sample.
 */

import { driftText } from "../actors/drift.ts";
import { type Plan, workersOf } from "../actors/scheduler/plan.ts";
import type { TrainEvent } from "../actors/train.ts";
import type { Output } from "../runtime/platform/process.ts";
import type { Reporter, RunEvent } from "./events.ts";
import { list } from "./options.ts";
import { caveats, copiesNote, copyNote, planTable, planTitle, whatMoves, whoDoesWhat } from "./plan-words.ts";
import { bar, bytes, count, duration, painter, percent, table } from "./terminal.ts";

type StepEvent = Extract<TrainEvent, { event: "step" }>;
type PlanEvent = Extract<TrainEvent, { event: "plan" }>;
type RecoveredEvent = Extract<TrainEvent, { event: "recovered" }>;
type ReplannedEvent = Extract<TrainEvent, { event: "replanned" }>;
type DoneEvent = Extract<TrainEvent, { event: "done" }>;

/** Where no bar can be drawn: this many lines in a run. */
const LINES = 20;
const BAR_COLUMNS = 24;
/** Weight of the newest step in the smoothed time a step takes. */
const NEWEST = 0.1;

export interface RunFacts {
  readonly steps: number;
  readonly out: string;
}

/** Milliseconds of a stage, summed over the steps. */
interface Spent {
  kernel: number;
  copy: number;
  wait: number;
  /** With those who share a stage. */
  exchange: number;
  total: number;
}

export function textReport(out: Output, err: Output, { steps, out: folder }: RunFacts): Reporter {
  const paint = painter(err);
  const every = Math.max(1, Math.round(steps / LINES));
  let drawn = false;
  let plan: PlanEvent | undefined;
  /** By worker: the device that it is on. */
  let places: readonly string[] = [];
  /** The plan that the run goes by now. */
  let present: Plan | undefined;
  let validation: number | undefined;
  let smoothMs: number | undefined;
  let sample: string | undefined;
  let exported = false;
  /** By device. */
  const spent = new Map<string, Spent>();

  const erase = () => {
    if (drawn) err.write("\r\x1b[K");
    drawn = false;
  };
  /** Shows a line that the next one takes the place of. */
  const draw = (text: string) => {
    if (!err.terminal) return;
    err.write(`\r${text}\x1b[K`);
    drawn = true;
  };
  const line = (text: string) => {
    erase();
    err.write(`${text}\n`);
  };

  const goesBy = (next: Plan) => {
    present = next;
    places = placesOf(next);
  };

  const showPlan = (event: PlanEvent) => {
    plan = event;
    goesBy(event.plan);
    const { microBatches, predictedStepMs, bubbleFraction } = event.plan;
    line("");
    const frozen = event.frozen_bytes > 0 ? ` beside ${bytes(event.frozen_bytes)} of frozen ones` : "";
    line(
      `${paint("bold", `${count(event.parameters)} parameters`)}${frozen} on ${event.data}${event.data_bytes === null ? "" : ` (${bytes(event.data_bytes)})`}: ` +
        `${planTitle(event.plan)}, ${microBatches} micro-batches`,
    );
    const { columns, rows } = planTable(event.plan);
    for (const row of table(columns, rows, paint)) line(row);
    const idle = workersOf(event.plan).length === 1 ? "" : `, ${percent(bubbleFraction)} of it idle`;
    line(`  predicted: ${predictedStepMs.toFixed(0)} ms a step${idle}`);
    const { copies } = event.plan;
    if (copies && copies.why !== null && event.plan.devices.length > 1) {
      line(paint("yellow", `  ${copyNote(event.plan)}`));
    }
    for (const caveat of caveats(event.plan)) line(paint("yellow", `  ${caveat}`));
    line("");
  };

  /** The last step that was told. */
  let reached = 0;
  const showStep = (event: StepEvent) => {
    for (const [i, { kernelMs, copyMs, waitMs, reduceMs, totalMs }] of event.stages.entries()) {
      const time = spent.get(places[i]!) ?? { kernel: 0, copy: 0, wait: 0, exchange: 0, total: 0 };
      spent.set(places[i]!, time);
      time.kernel += kernelMs;
      time.copy += copyMs;
      time.wait += waitMs;
      time.exchange += reduceMs;
      time.total += totalMs;
    }
    smoothMs = smoothMs === undefined ? event.step_ms : smoothMs + NEWEST * (event.step_ms - smoothMs);
    const { step, loss, tokens_per_s } = event;
    reached = step;
    const held = validation === undefined ? "" : `  validation ${validation.toFixed(3)}`;
    const rest = `  ${count(tokens_per_s)} ${plan?.unit}/s  ${duration((steps - step) * smoothMs)} left`;
    if (err.terminal) {
      const text = ` ${step}/${steps}  loss ${loss.toFixed(3)}${held}${rest}`;
      const width = Math.min(BAR_COLUMNS, err.columns() - text.length - 4);
      const progress = width > 4 ? paint("cyan", bar(step / steps, width)) : "";
      draw(`  ${progress}${text.slice(0, Math.max(0, err.columns() - 3))}`);
    } else if (step % every === 0 || step === steps) {
      line(`  step ${step}/${steps}  loss ${loss.toFixed(3)}${held}${rest}`);
    }
  };

  const showRecovered = (event: RecoveredEvent) => {
    goesBy(event.plan);
    const { lost, detect_ms, resume_ms, steps_lost, moved_bytes, from_checkpoint } = event;
    const again = steps_lost === 0 ? "no step" : steps_lost === 1 ? "1 step" : `${steps_lost} steps`;
    const place = steps_lost < reached ? "the last checkpoint" : "the beginning";
    const from = from_checkpoint ? ` from ${place}, for copies are lost` : "";
    const without = lost.length === 0 ? "behind that" : `without ${list(lost)}`;
    if (event.why !== undefined) line(paint("yellow", `  ${event.why}`));
    line(
      `  went on ${without}: noticed in ${brief(detect_ms)}, next step ${brief(resume_ms)} later, ` +
        `${again} done again${from}, ${bytes(moved_bytes)} moved`,
    );
    line(`  now ${planTitle(event.plan)}: ${whoDoesWhat(event.plan)}`);
  };

  const showReplanned = (event: ReplannedEvent) => {
    const moves = present === undefined ? null : whatMoves(present, event.plan);
    goesBy(event.plan);
    const what = moves === null ? "" : `${moves}: `;
    line(`  another plan: ${event.why}`);
    const prepared = event.prepared_ms > 0 ? `, made ready for ${brief(event.prepared_ms)} before` : "";
    line(`  ${what}${bytes(event.moved_bytes)} moved in ${brief(event.move_ms)}${prepared}`);
    line(`  now ${planTitle(event.plan)}: ${whoDoesWhat(event.plan)}`);
  };

  const showDone = (event: DoneEvent) => {
    const share = (ms: number, { total }: Spent) => percent(total > 0 ? ms / total : 0);
    // Only where devices share a stage is there anything to exchange.
    const exchanged = plan!.plan.stages.some(({ members }) => members.length > 1);
    const titles = ["kernels", "copies", "waiting", ...(exchanged ? ["exchange"] : []), "other"];
    const rows = event.devices.map(({ id, name, peak_bytes }) => {
      const time = spent.get(id);
      if (!time) return [name, ...titles.map(() => "-"), bytes(peak_bytes)];
      const { kernel, copy, wait, exchange, total } = time;
      const other = Math.max(0, total - kernel - copy - wait - exchange);
      const parts = [kernel, copy, wait, ...(exchanged ? [exchange] : []), other];
      const shares = parts.map((ms) => share(ms, time));
      return [name, ...shares, bytes(peak_bytes)];
    });
    const columns = ["device", ...titles, "peak memory"].map((title, i) => ({
      title,
      align: i === 0 ? ("left" as const) : ("right" as const),
    }));
    line("");
    for (const row of table(columns, rows, paint)) line(row);
    line("");
    line(
      `  ${paint("green", `${event.steps} steps`)}  loss ${event.final_loss.toFixed(3)}  ` +
        `validation ${event.validation_loss.toFixed(3)} ${event.loss_unit}  ` +
        `${count(event.tokens_per_s)} ${plan!.unit}/s`,
    );
    const { devices, devices_lost: lost } = event;
    if (lost.length > 0) {
      const all = devices.length + lost.length;
      line(paint("yellow", `  ended on ${devices.length} of ${all} devices, without ${list(lost)}`));
    }
    const { steps_skipped: skipped = 0 } = event;
    if (skipped > 0) {
      const which = skipped === 1 ? "1 step has" : `${skipped} steps have`;
      line(
        paint("yellow", `  ${which} changed nothing: gradients overflowed, and their samples do not count`),
      );
    }
    if (event.copies) line(`  copies   ${copiesNote(event.copies)}`);
    if (event.energy) {
      const { joules_per_step, from, what } = event.energy;
      line(`  energy   ${joules_per_step.toPrecision(3)} J a step, ${from} (${what.join(", ")})`);
    }
    line(`  weights  ${paint("dim", event.weights_sha256)}`);
    const model = exported ? "model, checkpoint" : "checkpoint with model.onnx";
    line(`  results  ${folder}/  (${model}, loss.svg, loss.jsonl, plan.json)`);
  };

  const show = (event: RunEvent) => {
    switch (event.event) {
      case "device_joined": {
        const how = [`${event.route} by ${event.transport}`, ...(event.protection ? [event.protection] : [])];
        line(`  ${event.name} joined at ${event.address}, ${how.join(", ")}`);
        return draw(paint("dim", plan ? `  measuring ${event.name}` : "  measuring the devices"));
      }
      case "listening":
        line(`  takes in devices at ${event.address}, ${event.protection}; on each of them:`);
        return line(`    npx bun run node --join ${event.address.replace(ANYWHERE, "//<this machine>:")}`);
      case "standby":
        return line(`  stands by: ${event.leader} leads the run at ${event.journal}`);
      case "leader":
        return line(`  leads the run at ${event.journal}${event.waited_ms > 0 ? " from now on" : ""}`);
      case "standby_ended":
        return line(`  the run at ${event.journal} is done, after ${event.steps} steps`);
      case "device_left":
        return line(paint("yellow", `  ${event.name} left: ${event.reason}`));
      case "ending":
        return line(
          paint(
            "yellow",
            "  ends behind the step under way, with a checkpoint; Ctrl-C again ends it at once",
          ),
        );
      case "fault":
        return line(paint("dim", `  chaos: ${event.fault}`));
      case "fault_missed":
        return line(paint("yellow", `  chaos: ${event.fault} has not come: ${event.why}`));
      case "strategy_replaced":
        return line(paint("yellow", `  ${event.why}`));
      case "recovered":
        return showRecovered(event);
      case "copies":
        return line(`  copies from here on: ${copiesNote(event)}`);
      case "resumed": {
        const from = event.from_checkpoint ? " from the last checkpoint" : "";
        const place = event.step > 0 ? `behind step ${event.step}${from}` : "from the beginning";
        const again = event.steps_lost > 0 ? `, ${event.steps_lost} done again` : "";
        return line(`  goes on ${place}${again}, ${bytes(event.moved_bytes)} moved`);
      }
      case "replanned":
        return showReplanned(event);
      case "paused":
        return line(paint("yellow", `  waits for a device: ${event.reason}`));
      case "device_drifted":
        return line(paint("yellow", `  ${driftText(event.device, event)}`));
      case "plan":
        return showPlan(event);
      case "step":
        return showStep(event);
      case "validation":
        validation = event.loss;
        if (!err.terminal) line(`  step ${event.step}/${steps}  validation ${event.loss.toFixed(3)}`);
        return;
      case "exported":
        exported = true;
        return line(`  the trained model is in ${event.path}`);
      case "sample":
        sample = event.text;
        return;
      case "done":
        showDone(event);
        // Last, where it is read.
        if (sample !== undefined) out.write(`${out.terminal ? harmless(sample) : sample}\n`);
        return;
      case "checkpoint_damaged":
        return line(paint("yellow", `  ${event.why}; going on from step ${event.step}, ${event.used}`));
      case "plan_kept":
        return line(paint("dim", `  the plan stays as it is: ${event.why}`));
      case "checkpoint": // Often, and always in the same place.
        return;
    }
  };

  return { show, said: (device, text) => line(paint("dim", `  ${device}: ${text}`)), close: erase };
}

/** Where a listener takes connections to any of a machine's addresses. */
const ANYWHERE = /\/\/(0\.0\.0\.0|\[::\]):/;

/** By worker, the device's id. */
function placesOf(plan: Plan): readonly string[] {
  return workersOf(plan).map(({ member }) => member.device);
}

/** Of a time that may be short. */
function brief(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** A young model writes any byte; a terminal takes some of them for commands. */
function harmless(text: string): string {
  return text.replace(/\p{Cc}/gu, (control) => (/[\n\t]/.test(control) ? control : "\ufffd"));
}
