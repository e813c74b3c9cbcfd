/**
 * The options of `troupe train` and what they come to: everything is checked here, against each other and against
 * the checkpoint a run goes on from, before anything is started.
 */

import { type Checkpoint, type Damage, readCheckpoint } from "../actors/checkpoint.ts";
import { type Plan, STRATEGIES } from "../actors/scheduler/plan.ts";
import { readPlan } from "../actors/scheduler/plan-json.ts";
import { OBJECTIVES } from "../actors/scheduler/planner/objective.ts";
import { SCHEDULES, type ScheduleName } from "../actors/scheduler/schedule.ts";
import type { ModelSpec } from "../actors/tasks/open.ts";
import type { TrainOptions } from "../actors/train.ts";
import { type GptConfig, gptParameters } from "../nn/models/gpt.ts";
import type { ValueInfo } from "../nn/onnx/graph.ts";
import { type OptimizerConfig, stateNames } from "../nn/optim/optimizer.ts";
import { byteLength, elements } from "../protocols/tensor.ts";
import type { Heartbeat } from "../runtime/index.ts";
import type { Files } from "../runtime/platform/files.ts";
import { CHAOS_OPTION, type ChaosSettings, readChaos, requireDevices } from "./chaos.ts";
import { CHECKPOINT_OPTIONS, checkpointPlace, checkpointsOf, runFolder } from "./checkpoint-options.ts";
import { UsageError } from "./command.ts";
import { MODEL_OPTIONS, modelSpec, neighbours, withoutSlash } from "./model-options.ts";
import { ENGINES } from "./node.ts";
import { OPTIMIZER_OPTIONS, optimizerOf } from "./optimizer-options.ts";
import type { Options, OptionTable } from "./options.ts";
import { PRINTABLE, type Printable } from "./print.ts";
import { FRESH_PROFILE } from "./profiles.ts";
import { ownDevices, SECURITY_OPTIONS, type Security, securityOf } from "./security.ts";
import { bytes, count } from "./terminal.ts";
import {
  heartbeatFrom,
  PATIENCE_OPTION,
  requireAddress,
  TRANSPORT_OPTION,
  TRANSPORTS,
  type TransportChoice,
} from "./transports.ts";

export const NAMED_STRATEGIES = ["auto", ...STRATEGIES] as const;
const NAMED_SCHEDULES = ["auto", ...(Object.keys(SCHEDULES) as ScheduleName[])] as const;
const DEFAULTS = {
  devices: 3,
  batch: 16,
  microBatches: 4,
  steps: 1000,
  seed: 1,
  copies: 1,
  validateEvery: 100,
  sampleBytes: 600,
  /** Something to go on from that the text has a lot of. */
  prompt: { ofDefaultText: "export ", ofOthers: "\n" },
} as const;

/** Batch normalisation wants more than a few samples in each micro-batch. */
const CLASSIFIER = { batch: 128, microBatches: 4 } as const;

export const TRAIN_OPTIONS: OptionTable = {
  ...MODEL_OPTIONS,
  data: {
    value: "path",
    help: "a UTF-8 text file (default: the installed TypeScript declarations), IDX or CIFAR files, a folder of pictures for each class, or a .csv",
  },
  devices: {
    value: "N",
    help: `device processes to start on this machine (default: ${DEFAULTS.devices}, or what the model can be cut into)`,
  },
  join: { value: "address", help: "a running troupe node to train on; once for each", repeated: true },
  listen: {
    value: "tcp://host:port",
    help: "take in nodes that come here by themselves (troupe node --join), also while the run goes on; without --devices and --join it waits for the first",
  },
  strategy: {
    value: "name",
    help: `${NAMED_STRATEGIES.join(", ")} (default: pipeline, single for one device)`,
  },
  schedule: { value: "name", help: `${NAMED_SCHEDULES.join(", ")} (default: 1f1b)` },
  objective: { value: "name", help: `what the plan is chosen for: ${OBJECTIVES.join(", ")} (default: time)` },
  deadline: { value: "ms", help: "with --objective energy: the longest a step may take" },
  "local-steps": { value: "N", help: "with --strategy local: steps between two meetings (default: 1)" },
  plan: {
    value: "file",
    help: "a plan to carry out, as troupe plan --out writes it; nothing is measured then",
  },
  "fresh-profile": FRESH_PROFILE,
  "micro-batches": { value: "M", help: `parts a batch is cut into (default: ${DEFAULTS.microBatches})` },
  batch: {
    value: "B",
    help: `samples in a step: windows of text, pictures, rows (default: ${DEFAULTS.batch})`,
  },
  steps: { value: "N", help: `steps in all, with those before a resume (default: ${DEFAULTS.steps})` },
  seed: { value: "S", help: `decides initial weights and order of the data (default: ${DEFAULTS.seed})` },
  recompute: { help: "repeat forward passes when going backward, instead of keeping activations" },
  stash: {
    value: "MB",
    help: "with --recompute: activations that each device keeps of a micro-batch all the same (default: 0)",
  },
  ...OPTIMIZER_OPTIONS,
  "validate-every": { value: "N", help: `steps between validations (default: ${DEFAULTS.validateEvery})` },
  ...CHECKPOINT_OPTIONS,
  sample: {
    value: "bytes",
    help: `length of the sample at the end, 0 for none (default: ${DEFAULTS.sampleBytes})`,
  },
  prompt: {
    value: "text",
    help: `what the sample goes on from (default: a line feed; "${DEFAULTS.prompt.ofDefaultText}" for the default text)`,
  },
  out: { value: "folder", help: "where results go (default: runs/<date and time>, or the resumed run's)" },
  resume: {
    value: "place",
    help: "a run or a checkpoint to go on from, a folder, s3://… or nats://…; its text, model and optimiser hold unless given anew",
  },
  copies: {
    value: "N",
    help: `devices that may be lost at once without going back to a checkpoint; 0: the first loss ends the run (default: ${DEFAULTS.copies})`,
  },
  patience: PATIENCE_OPTION,
  chaos: CHAOS_OPTION,
  transport: TRANSPORT_OPTION,
  engine: { value: "name", help: `what computes: ${ENGINES.join(", ")} (default: auto)` },
  ...SECURITY_OPTIONS,
  trace: { value: "file", help: "timeline of the last step, for https://ui.perfetto.dev" },
  print: { value: "graph", help: `print ${PRINTABLE.join(", ")} as text, and train nothing` },
  "print-to": { value: "file", help: "with --print: write it as .onnx instead" },
  json: { help: "one JSON object per line on standard output" },
};

export interface TrainSettings {
  readonly run: TrainOptions;
  /** The checkpoint the run goes on from. */
  readonly resumed: Checkpoint | null;
  /** Newer checkpoints than that, which are damaged. */
  readonly damaged: readonly Damage[];
  /** Devices to start here; none when others are joined. */
  readonly devices: number;
  /** Whether they were asked for: else there may be fewer, as many as the model can be cut into. */
  readonly devicesAsked: boolean;
  readonly join: readonly string[];
  /** Where nodes may come to; undefined for nowhere. */
  readonly listen: string | undefined;
  readonly engine: (typeof ENGINES)[number];
  readonly security: Security;
  readonly transport: TransportChoice;
  /** When devices that are silent are given up. */
  readonly heartbeat: Heartbeat;
  /** What is done to devices. */
  readonly chaos: ChaosSettings;
  /** The folder of this machine's certificate, where one was given. */
  readonly identity: string | undefined;
  /** Folder of the results. */
  readonly out: string;
  readonly trace: string | null;
  /** Measure the devices, whatever is known of them. */
  readonly freshProfile: boolean;
  /** A graph to be shown instead of a run, and the file it goes to; null as text. */
  readonly print: { readonly what: Printable; readonly to: string | null } | null;
  readonly json: boolean;
}

/**
 * @param now milliseconds since the epoch; names the folder of a run that is given none.
 * @param memoryBytes of this machine. @param goesOn with a run that nobody has ended: it may have all its steps.
 * @throws UsageError, CheckpointError, FileError in one line.
 */
export async function trainSettings(
  options: Options,
  files: Files,
  now: number,
  memoryBytes: number,
  goesOn = false,
): Promise<TrainSettings> {
  const join = options.all("join");
  if (join.length > 0 && options.has("devices")) {
    throw new UsageError("--devices starts devices here and --join uses running ones: give one of them");
  }
  const twice = join.find((address, i) => join.indexOf(address) !== i);
  if (twice !== undefined) throw new UsageError(`--join ${twice} was given twice`);
  const listen = options.text("listen");
  const copies = options.whole("copies", { from: 0, to: 63 }) ?? DEFAULTS.copies;
  if (listen !== undefined && copies === 0) {
    throw new UsageError(
      "--listen takes devices in while the run goes on, for which copies are needed: leave --copies 0 out",
    );
  }
  for (const address of join) requireAddress("join", address);
  if (listen !== undefined) requireAddress("listen", listen);
  const reached = [...join, ...(listen === undefined ? [] : [listen])];
  const security =
    reached.length > 0
      ? await securityOf(options, { addresses: reached, role: "coordinator" })
      : ownDevices(options);
  const what = options.choice("print", PRINTABLE);
  if (what === undefined && options.has("print-to")) {
    throw new UsageError(`--print-to is for --print, which says what: ${PRINTABLE.join(", ")}`);
  }
  const transport = options.choice("transport", TRANSPORTS) ?? "auto";
  const plan = await planOf(options, files);
  const wanted = plan?.strategy ?? options.choice("strategy", NAMED_STRATEGIES);
  const asked = options.whole("devices", { from: 1, to: 64 });
  const devices = asked ?? (reached.length > 0 ? 0 : wanted === "single" ? 1 : DEFAULTS.devices);
  const isOne = listen === undefined && join.length + devices === 1;
  const strategy = wanted ?? (isOne ? "single" : "pipeline");
  const choice = choiceOf(options, strategy);
  const schedule = plan?.schedule ?? options.choice("schedule", NAMED_SCHEDULES) ?? "1f1b";
  if (devices === 0 && options.has("engine")) {
    throw new UsageError("--engine is for devices started here; give it to each troupe node instead");
  }
  const engine = options.choice("engine", ENGINES) ?? "auto";

  const resumeFrom = options.text("resume");
  const resume = resumeFrom === undefined ? null : await checkpointPlace(files, resumeFrom);
  const damaged: Damage[] = [];
  const before =
    resume === null ? null : await readCheckpoint(files, resume, (damage) => damaged.push(damage));
  const model = await modelSpec(options, files, before);
  const { batch, microBatches } = batchOf(options, before, model.kind);
  const steps = options.whole("steps", { from: 1 }) ?? setting(before, "steps") ?? DEFAULTS.steps;
  if (before && before.step >= steps && !goesOn) {
    throw new UsageError(
      `${resume} has ${before.step} steps done: give --steps above ${before.step} to go on training`,
    );
  }
  const textBefore = before?.training.data;
  const chaos = readChaos(options.all("chaos"), { steps, microBatches });
  if (reached.length === 0)
    requireDevices(
      chaos.faults,
      Array.from({ length: devices }, (_, i) => deviceName(i)),
    );
  const data = options.text("data") ?? (typeof textBefore === "string" ? textBefore : null);
  const optimizer = optimizerOf(options, before, model, steps);
  if (model.kind === "gpt") {
    if (devices > 0) requireMemory(model, optimizer, memoryBytes);
    requireActivations(model, batch / microBatches, memoryBytes);
  }
  const run = resume === null ? undefined : runFolder(resume);
  const out = withoutSlash(options.text("out") ?? run ?? `runs/${dateAndTime(now)}`);
  if (out !== run && (await files.exists(`${out}/checkpoint`))) {
    throw new UsageError(
      `${out} holds a run already: choose another folder, or go on from its checkpoint with --resume ${out}`,
    );
  }
  const checkpoints = await checkpointsOf(
    options,
    out,
    { resume, kept: setting(before, "keepCheckpoints") },
    files,
  );
  return {
    run: {
      ...{ data, model, batch, microBatches, steps, strategy, schedule },
      seed: options.whole("seed", { from: 0 }) ?? before?.seed ?? DEFAULTS.seed,
      recompute: options.has("recompute"),
      stashBytes: stashOf(options),
      ...choice,
      ...(plan === null ? {} : { plan }),
      optimizer,
      copies,
      ...checkpoints,
      exportTo: `${out}/model`,
      resume,
      validateEvery: options.whole("validate-every", { from: 1 }) ?? DEFAULTS.validateEvery,
      sampleBytes: options.whole("sample", { from: 0, to: 1_000_000 }) ?? DEFAULTS.sampleBytes,
      prompt:
        options.text("prompt") ?? (data === null ? DEFAULTS.prompt.ofDefaultText : DEFAULTS.prompt.ofOthers),
    },
    ...{ resumed: before, damaged },
    ...{ devices, devicesAsked: asked !== undefined, join, listen, engine, out },
    ...{ heartbeat: heartbeatFrom(options), chaos },
    ...{ security, transport, identity: options.text("identity") },
    trace: options.text("trace") ?? null,
    freshProfile: options.has("fresh-profile"),
    print: what === undefined ? null : { what, to: options.text("print-to") ?? null },
    json: options.has("json"),
  };
}

/** Of one that is started here, by its place. */
export function deviceName(index: number): string {
  return `device-${index + 1}`;
}

/** Each parameter is there with its gradient and what the optimiser keeps of it. All are f32. */
function requireMemory(model: GptConfig, optimizer: OptimizerConfig, memoryBytes: number): void {
  const copies = (info: ValueInfo) => 2 + stateNames(optimizer, info).length;
  const all = gptParameters(model);
  const parameters = all.reduce((sum, { shape }) => sum + elements(shape), 0);
  const needed = all.reduce((sum, info) => sum + byteLength(info.dtype, info.shape) * copies(info), 0);
  if (needed > memoryBytes) {
    throw new UsageError(
      `a model of ${count(parameters)} parameters needs ${bytes(needed)} to train, this machine has ` +
        `${bytes(memoryBytes)}: use a smaller --width or fewer --layers, or --join other machines`,
    );
  }
}

/** Values of the residual width that a layer keeps of a token for its backward pass, some of them four times as wide. */
const WIDTHS_KEPT = 20;

/** Refuses what cannot be: one micro-batch through one layer has to fit on a device at the least. */
function requireActivations(model: GptConfig, rows: number, memoryBytes: number): void {
  const { width, heads, context } = model;
  const needed = 4 * rows * context * (WIDTHS_KEPT * width + 2 * heads * context);
  if (needed > memoryBytes / 4) {
    throw new UsageError(
      `a micro-batch of ${rows} windows of ${context} bytes takes ${bytes(needed)} in every layer, too much for ` +
        `${bytes(memoryBytes)} of memory: use a smaller --batch or --context, or more --micro-batches`,
    );
  }
}

function batchOf(
  options: Options,
  before: Checkpoint | null,
  kind: ModelSpec["kind"],
): { batch: number; microBatches: number } {
  const size = (option: string, name: "batch" | "microBatches") =>
    options.whole(option, { from: 1, to: 2 ** 20 }) ??
    setting(before, name) ??
    (kind === "classifier" ? CLASSIFIER : DEFAULTS)[name];
  const batch = size("batch", "batch");
  const microBatches = size("micro-batches", "microBatches");
  if (batch % microBatches !== 0) {
    throw new UsageError(
      `a batch of ${batch} does not divide into ${microBatches} micro-batches: use a batch of ` +
        neighbours(batch, microBatches),
    );
  }
  return { batch, microBatches };
}

/** What of the plan is not to be chosen: with --plan it is all decided. */
const DECIDED = [
  ...["strategy", "schedule", "objective", "deadline", "local-steps"],
  ...["recompute", "fresh-profile"],
] as const;

async function planOf(options: Options, files: Files): Promise<Plan | null> {
  const path = options.text("plan");
  if (path === undefined) return null;
  const other = DECIDED.find((name) => options.has(name));
  if (other) throw new UsageError(`--plan decides on --${other}: give one of them`);
  return readPlan(new TextDecoder().decode(await files.read(path)));
}

/** What a plan is chosen for. */
function choiceOf(
  options: Options,
  strategy: string,
): Pick<TrainOptions, "objective" | "deadlineMs" | "localSteps"> {
  const objective = options.choice("objective", OBJECTIVES);
  const deadlineMs = options.number("deadline", { from: 0 });
  const localSteps = options.whole("local-steps", { from: 1 });
  if (deadlineMs !== undefined && objective !== "energy") {
    throw new UsageError(
      "--deadline is for --objective energy: a plan made for time has the shortest steps anyway",
    );
  }
  if (localSteps !== undefined && strategy !== "local") {
    throw new UsageError(`--local-steps is for --strategy local, it is ${strategy}`);
  }
  return {
    ...(objective === undefined ? {} : { objective }),
    ...(deadlineMs === undefined ? {} : { deadlineMs }),
    ...(localSteps === undefined ? {} : { localSteps }),
  };
}

/** Bytes that are kept where the rest is recomputed. */
function stashOf(options: Options): number {
  const megabytes = options.number("stash", { from: 0 });
  if (megabytes !== undefined && !options.has("recompute")) {
    throw new UsageError("--stash says what --recompute keeps all the same; without it everything is kept");
  }
  return Math.round((megabytes ?? 0) * 1e6);
}

/** A number among the settings a checkpoint was trained with. */
function setting(before: Checkpoint | null, name: string): number | undefined {
  const value = before?.training[name];
  return typeof value === "number" ? value : undefined;
}

/** Local time would be friendlier and ambiguous twice a year: this is UTC. */
function dateAndTime(now: number): string {
  return new Date(now).toISOString().slice(0, 19).replace("T", "-").replaceAll(":", "-");
}
