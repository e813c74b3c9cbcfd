/**
 * What a run leaves in its folder beside the checkpoint: `loss.jsonl`, `loss.svg`, `plan.json`, `sample.txt`, and
 * the timeline of its last step where one is asked for.
 */

import type { RunHistory } from "../actors/journal/history.ts";
import { measuredSpans } from "../actors/scheduler/measured.ts";
import { workersOf } from "../actors/scheduler/plan.ts";
import { chromeTrace } from "../actors/scheduler/timeline.ts";
import type { TrainEvent } from "../actors/train.ts";
import type { Files } from "../runtime/platform/files.ts";
import { lossChart } from "./chart.ts";
import type { RunEvent } from "./events.ts";

interface LossLine {
  readonly step: number;
  /** In nats per byte; absent where a validation came before the first step. */
  loss?: number;
  validation?: number;
}

type StepEvent = Extract<TrainEvent, { event: "step" }>;

export class Results {
  private readonly files: Files;
  private readonly folder: string;
  private readonly lines = new Map<number, LossLine>();
  private names: readonly string[] = [];
  private title = "";
  private last: StepEvent | undefined;
  /** Writes happen one after the other. */
  private writing: Promise<void> = Promise.resolve();

  constructor(files: Files, folder: string) {
    this.files = files;
    this.folder = folder;
  }

  /** Takes over the losses of a run that is gone on with, up to its checkpoint's step. */
  async takeOver(step: number): Promise<void> {
    const path = `${this.folder}/loss.jsonl`;
    if (!(await this.files.exists(path))) return;
    const text = new TextDecoder().decode(await this.files.read(path));
    for (const line of text.split("\n").filter((entry) => entry !== "")) {
      const entry = lossLine(line);
      if (entry && entry.step <= step) this.lines.set(entry.step, entry);
    }
  }

  /** Takes over what a journal has of a run that is gone on with. */
  restore({ losses, validations }: Pick<RunHistory, "losses" | "validations">): void {
    for (const [step, loss] of losses) this.line(step + 1).loss = loss;
    for (const [done, loss] of validations) this.line(done).validation = loss;
  }

  /** Notes an event. The losses are written with each checkpoint, so that both tell of the same steps. */
  take(event: RunEvent): void {
    switch (event.event) {
      case "plan":
        this.names = workersOf(event.plan).map(({ member }) => member.deviceName);
        this.title = event.data;
        this.write("plan.json", `${JSON.stringify(event.plan, null, 2)}\n`);
        return;
      case "recovered":
      case "replanned":
        this.names = workersOf(event.plan).map(({ member }) => member.deviceName);
        return;
      case "step":
        this.line(event.step).loss = event.loss;
        this.last = event;
        return;
      case "validation":
        this.line(event.step).validation = event.loss;
        return;
      case "checkpoint":
      case "device_left":
        this.writeLosses();
        return;
      case "sample":
        this.write("sample.txt", event.text);
    }
  }

  /** Resolves when all is written. @throws FileError. */
  async settle(): Promise<void> {
    await this.writing;
  }

  /** The measured timeline of the last step as a Chrome trace. @throws FileError. */
  async writeTrace(path: string): Promise<void> {
    const spans = measuredSpans(this.last?.stages ?? []);
    await this.files.write(path, [encoded(JSON.stringify(chromeTrace(spans, this.names)))]);
  }

  private line(step: number): LossLine {
    const known = this.lines.get(step);
    if (known) return known;
    const line: LossLine = { step };
    this.lines.set(step, line);
    return line;
  }

  private writeLosses(): void {
    const lines = [...this.lines.values()].sort((a, b) => a.step - b.step);
    this.write("loss.jsonl", lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
    const points = (of: "loss" | "validation") =>
      lines.flatMap((line) => (line[of] === undefined ? [] : [{ step: line.step, loss: line[of] }]));
    const curve = { title: this.title, train: points("loss"), validation: points("validation") };
    this.write("loss.svg", lossChart(curve));
  }

  private write(name: string, text: string): void {
    this.writing = this.writing.then(() => this.files.write(`${this.folder}/${name}`, [encoded(text)]));
    // Heard of by whoever settles.
    this.writing.catch(() => {});
  }
}

/** Undefined for a line that is none: losses are for the eye, and a run goes on without some. */
function lossLine(text: string): LossLine | undefined {
  try {
    const line = JSON.parse(text);
    return Number.isSafeInteger(line?.step) ? line : undefined;
  } catch {
    return undefined;
  }
}

const encoded = (text: string) => new TextEncoder().encode(text);
