/**
 * `troupe plan`: how a model would be trained, without training it. Devices are started or joined and measured as for
 * `train`, or imagined from a cluster file; the plan is printed with its timeline, and kept where it is wanted.
 */

import { imaginedRequest, measuredRequest, type Planned, type PlanSubject, planned } from "../actors/plan.ts";
import { readCluster } from "../actors/scheduler/cluster.ts";
import type { Plan } from "../actors/scheduler/plan.ts";
import { planText } from "../actors/scheduler/plan-json.ts";
import { type ChurnOutlook, churnOutlook } from "../actors/scheduler/simulate/outlook.ts";
import { chromeTrace } from "../actors/scheduler/timeline.ts";
import { openTask } from "../actors/tasks/open.ts";
import { findSegments } from "../nn/segments.ts";
import { systemClock } from "../runtime/index.ts";
import { files } from "../runtime/platform/files.ts";
import { machine } from "../runtime/platform/machine.ts";
import { standardError, standardOutput } from "../runtime/platform/process.ts";
import { type Command, UsageError } from "./command.ts";
import { Devices } from "./devices.ts";
import { type Options, type OptionTable, parseOptions } from "./options.ts";
import { planReport, workerNames } from "./plan-report.ts";
import { churnNotes } from "./plan-words.ts";
import { profilesOf } from "./profiles.ts";
import { startable } from "./train.ts";
import { NAMED_STRATEGIES, TRAIN_OPTIONS, type TrainSettings, trainSettings } from "./train-options.ts";

/** Options of `train` that decide nothing about a plan. */
const OF_TRAINING = [
  ...["steps", "seed", "validate-every", "sample", "prompt", "resume", "print", "print-to"],
  ...["checkpoint", "checkpoint-every", "keep-checkpoints", "journal", "chaos"],
  ...["lr", "warmup", "decay", "lr-floor", "weight-decay", "beta1", "beta2", "clip"],
  ...["augment", "out", "trace", "plan", "listen"],
];

const PLAN_OPTIONS: OptionTable = {
  ...Object.fromEntries(Object.entries(TRAIN_OPTIONS).filter(([name]) => !OF_TRAINING.includes(name))),
  strategy: { value: "name", help: `${NAMED_STRATEGIES.join(", ")} (default: auto)` },
  cluster: {
    value: "file",
    help: "plan for devices that are imagined, from a cluster file; none is started",
  },
  plan: { value: "file", help: "a plan to look at, edited or not, instead of the best" },
  out: { value: "file", help: "where the plan goes as JSON, for train --plan" },
  trace: { value: "file", help: "the predicted timeline of a step, for https://ui.perfetto.dev" },
};

export const plan: Command = {
  name: "plan",
  summary: "show how a model would be trained, and what that would take",
  options: PLAN_OPTIONS,
  notes: [
    "With --strategy auto all strategies are compared; each device is listed with why it is used or left out.",
  ],
  run: async (args) => {
    const options = parseOptions("plan", PLAN_OPTIONS, args);
    const cluster = options.text("cluster");
    if (cluster !== undefined) {
      const other = ["devices", "join", "engine", "fresh-profile"].find((name) => options.has(name));
      if (other) throw new UsageError(`--cluster imagines devices and --${other} is for real ones: give one`);
    }
    // A plan leaves no results as a run does; and it is made to compare.
    const strategy = options.text("strategy") ?? (options.has("plan") ? undefined : "auto");
    const settings = await trainSettings(
      options.with({ out: undefined, trace: undefined, strategy }),
      files,
      systemClock.now(),
      // Devices that are imagined have their own.
      cluster === undefined ? machine().memoryBytes : Number.POSITIVE_INFINITY,
    );
    const result = cluster === undefined ? await onDevices(settings) : await onCluster(settings, cluster);
    await show(result, settings, options);
    return 0;
  },
};

async function subjectOf({ run }: TrainSettings): Promise<PlanSubject> {
  const { data, batch, microBatches, seed, optimizer } = run;
  const task = await openTask(run.model, { data, rows: batch / microBatches, microBatches, seed }, files);
  return { model: task.model, optimizer, options: run };
}

/** A plan, and what devices that come and go mean for it where a cluster file has any. */
interface Shown extends Planned {
  readonly churn?: ChurnOutlook | null;
}

async function onCluster(settings: TrainSettings, path: string): Promise<Shown> {
  const cluster = readCluster(new TextDecoder().decode(await files.read(path)));
  const result = planned(imaginedRequest(cluster, await subjectOf(settings)), given(settings));
  const { checkpointEvery } = settings.run;
  const { plan, stepMs } = result;
  return { ...result, churn: churnOutlook({ cluster, plan, stepMs, checkpointEvery }) };
}

async function onDevices(settings: TrainSettings): Promise<Planned> {
  const subject = await subjectOf(settings);
  const devices = new Devices(settings, {
    joined: ({ name, address }) => {
      if (!settings.json) standardError.write(`  ${name} joined at ${address}\n`);
    },
    left: () => {},
    said: (name, line) => standardError.write(`${name}: ${line}\n`),
  });
  try {
    await devices.open({ devices: startable(settings, findSegments(subject.model).length) });
    const refs = devices.present();
    const note = (line: string) => standardError.write(`${line}\n`);
    const profiles = profilesOf(settings.freshProfile, note);
    const request = await measuredRequest(refs, subject, () => systemClock.now(), profiles);
    return planned(request, given(settings));
  } finally {
    await devices.close();
  }
}

function given({ run }: TrainSettings): Plan | null {
  return run.plan ?? null;
}

async function show(result: Shown, { json }: TrainSettings, options: Options): Promise<void> {
  const [out, trace, asked] = ["out", "trace", "strategy"].map((name) => options.text(name));
  const { plan, simulation, churn } = result;
  const encoded = (text: string) => [new TextEncoder().encode(text)];
  if (out !== undefined) await files.write(out, encoded(planText(plan)));
  if (trace !== undefined) {
    const spans = [...simulation.spans, ...simulation.collectives];
    await files.write(trace, encoded(JSON.stringify(chromeTrace(spans, workerNames(plan)))));
  }
  if (json) standardOutput.write(`${JSON.stringify({ event: "plan", plan, ...(churn && { churn }) })}\n`);
  else {
    for (const line of planReport(result, standardOutput, asked)) standardOutput.write(`${line}\n`);
    for (const line of churn ? churnNotes(churn) : []) standardOutput.write(`  ${line}\n`);
  }
}
