/**
 * The options of `troupe train` and what they come to: everything is checked here, against each other and against
 * the checkpoint a run goes on from, before anything is started.
 */

import { type Checkpoint, readCheckpoint } from "../actors/checkpoint.ts";
import { CheckpointError } from "../actors/checkpoint-state.ts";
import { SCHEDULES, type ScheduleName } from "../actors/scheduler/schedule.ts";
import type { TrainOptions } from "../actors/train.ts";
import { DEFAULT_GPT, type GptConfig, gptGraph, gptParameters } from "../nn/models/gpt.ts";
import { type AdamWConfig, DEFAULT_ADAMW } from "../nn/optim/adamw.ts";
import { findSegments } from "../nn/segments.ts";
import { elements } from "../protocols/tensor.ts";
import type { Files } from "../runtime/platform/files.ts";
import { UsageError } from "./command.ts";
import { ENGINES } from "./node.ts";
import type { Options, OptionTable } from "./options.ts";
import { ownDevices, SECURITY_OPTIONS, type Security, securityOf } from "./security.ts";
import { bytes, count } from "./terminal.ts";
import { TRANSPORT_OPTION, TRANSPORTS, type TransportChoice } from "./transports.ts";

const STRATEGIES = ["auto", "single", "pipeline"] as const;
const DEFAULTS = {
  devices: 3,
  batch: 16,
  microBatches: 4,
  steps: 1000,
  seed: 1,
  validateEvery: 100,
  checkpointEvery: 250,
  sampleBytes: 600,
  /** Something to go on from that the text has a lot of. */
  prompt: { ofDefaultText: "export ", ofOthers: "\n" },
} as const;

const [GPT, ADAMW] = [DEFAULT_GPT, DEFAULT_ADAMW];

export const TRAIN_OPTIONS: OptionTable = {
  model: { value: "name", help: "gpt, a byte-level GPT (the default, and the only one)" },
  layers: { value: "N", help: `blocks of the model (default: ${GPT.layers})` },
  width: { value: "N", help: `width of the model, a multiple of --heads (default: ${GPT.width})` },
  heads: { value: "N", help: `attention heads (default: ${GPT.heads})` },
  context: { value: "N", help: `bytes the model sees at once (default: ${GPT.context})` },
  data: { value: "file", help: "any UTF-8 text file (default: the installed TypeScript declarations)" },
  devices: { value: "N", help: `device processes to start on this machine (default: ${DEFAULTS.devices})` },
  join: { value: "address", help: "a running troupe node to train on; once for each", repeated: true },
  strategy: { value: "name", help: `${STRATEGIES.join(", ")} (default: pipeline, single for one device)` },
  schedule: { value: "name", help: `${Object.keys(SCHEDULES).join(", ")} (default: 1f1b)` },
  "micro-batches": { value: "M", help: `parts a batch is cut into (default: ${DEFAULTS.microBatches})` },
  batch: { value: "B", help: `windows of text in a step (default: ${DEFAULTS.batch})` },
  steps: { value: "N", help: `steps in all, with those before a resume (default: ${DEFAULTS.steps})` },
  seed: { value: "S", help: `decides initial weights and order of the data (default: ${DEFAULTS.seed})` },
  recompute: { help: "repeat forward passes when going backward, instead of keeping activations" },
  lr: { value: "rate", help: `peak learning rate (default: ${ADAMW.learningRate})` },
  warmup: { value: "N", help: `steps of linear warm-up (default: ${ADAMW.warmup})` },
  "lr-floor": {
    value: "share",
    help: `learning rate at the end, as a share of the peak (default: ${ADAMW.floor})`,
  },
  "weight-decay": { value: "rate", help: `AdamW's weight decay of matrices (default: ${ADAMW.weightDecay})` },
  beta1: { value: "share", help: `AdamW's decay of the first moment (default: ${ADAMW.beta1})` },
  beta2: { value: "share", help: `AdamW's decay of the second moment (default: ${ADAMW.beta2})` },
  clip: { value: "norm", help: `largest norm of the gradients, 0 for any (default: ${ADAMW.clip})` },
  "validate-every": { value: "N", help: `steps between validations (default: ${DEFAULTS.validateEvery})` },
  "checkpoint-every": {
    value: "N",
    help: `steps between checkpoints (default: ${DEFAULTS.checkpointEvery})`,
  },
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
    value: "folder",
    help: "a run or a checkpoint to go on from; its text, model and optimiser hold unless given anew",
  },
  transport: TRANSPORT_OPTION,
  engine: { value: "name", help: `what computes: ${ENGINES.join(", ")} (default: auto)` },
  ...SECURITY_OPTIONS,
  trace: { value: "file", help: "timeline of the last step, for https://ui.perfetto.dev" },
  json: { help: "one JSON object per line on standard output" },
};

export interface TrainSettings {
  readonly run: TrainOptions;
  /** The checkpoint the run goes on from. */
  readonly resumed: Checkpoint | null;
  /** Devices to start here; none when others are joined. */
  readonly devices: number;
  readonly join: readonly string[];
  readonly engine: (typeof ENGINES)[number];
  readonly security: Security;
  readonly transport: TransportChoice;
  /** The folder of this machine's certificate, where one was given. */
  readonly identity: string | undefined;
  /** Folder of the results. */
  readonly out: string;
  readonly trace: string | null;
  readonly json: boolean;
}

/**
 * @param now milliseconds since the epoch; names the folder of a run that is given none.
 * @param memoryBytes of this machine.
 * @throws UsageError, CheckpointError, FileError in one line.
 */
export async function trainSettings(
  options: Options,
  files: Files,
  now: number,
  memoryBytes: number,
): Promise<TrainSettings> {
  const join = options.all("join");
  if (join.length > 0 && options.has("devices")) {
    throw new UsageError("--devices starts devices here and --join uses running ones: give one of them");
  }
  if (join.length > 0 && options.has("engine")) {
    throw new UsageError("--engine is for devices started here; give it to each troupe node instead");
  }
  const twice = join.find((address, i) => join.indexOf(address) !== i);
  if (twice !== undefined) throw new UsageError(`--join ${twice} was given twice`);
  const security =
    join.length > 0
      ? await securityOf(options, { addresses: join, role: "coordinator" })
      : ownDevices(options);
  options.choice("model", ["gpt"]);
  const transport = options.choice("transport", TRANSPORTS) ?? "auto";
  const wanted = options.choice("strategy", STRATEGIES);
  const asked = options.whole("devices", { from: 1, to: 64 }) ?? (wanted === "single" ? 1 : DEFAULTS.devices);
  const devices = join.length > 0 ? 0 : asked;
  const strategy = wanted ?? ((join.length || asked) === 1 ? "single" : "pipeline");
  const schedule = options.choice("schedule", Object.keys(SCHEDULES) as ScheduleName[]) ?? "1f1b";
  const engine = options.choice("engine", ENGINES) ?? "auto";

  const resumeFrom = options.text("resume");
  const resume = resumeFrom === undefined ? null : await checkpointFolder(files, resumeFrom);
  const before = resume === null ? null : await readCheckpoint(files, resume);
  const model = modelOf(options, before);
  const { batch, microBatches } = batchOf(options, before);
  const steps = options.whole("steps", { from: 1 }) ?? setting(before, "steps") ?? DEFAULTS.steps;
  if (before && before.step >= steps) {
    throw new UsageError(
      `${resume} has ${before.step} steps done: give --steps above ${before.step} to go on training`,
    );
  }
  const textBefore = before?.training.data;
  const data = options.text("data") ?? (typeof textBefore === "string" ? textBefore : null);
  if (devices > 0) requireMemory(model, memoryBytes);
  requireActivations(model, batch / microBatches, memoryBytes);
  requireSegments(model, devices + join.length);
  const run = resume === null ? undefined : runFolder(resume);
  const out = withoutSlash(options.text("out") ?? run ?? `runs/${dateAndTime(now)}`);
  if (out !== run && (await files.exists(`${out}/checkpoint`))) {
    throw new UsageError(`${out} holds a run already: choose another folder, or go on with --resume ${out}`);
  }
  return {
    run: {
      ...{ data, model: { kind: "gpt" as const, ...model }, batch, microBatches, steps, strategy, schedule },
      seed: options.whole("seed", { from: 0 }) ?? before?.seed ?? DEFAULTS.seed,
      recompute: options.has("recompute"),
      optimizer: optimizerOf(options, before, steps),
      checkpoint: `${out}/checkpoint`,
      resume,
      validateEvery: options.whole("validate-every", { from: 1 }) ?? DEFAULTS.validateEvery,
      checkpointEvery: options.whole("checkpoint-every", { from: 1 }) ?? DEFAULTS.checkpointEvery,
      sampleBytes: options.whole("sample", { from: 0, to: 1_000_000 }) ?? DEFAULTS.sampleBytes,
      prompt:
        options.text("prompt") ?? (data === null ? DEFAULTS.prompt.ofDefaultText : DEFAULTS.prompt.ofOthers),
    },
    resumed: before,
    ...{ devices, join, engine, out },
    ...{ security, transport, identity: options.text("identity") },
    trace: options.text("trace") ?? null,
    json: options.has("json"),
  };
}

function modelOf(options: Options, before: Checkpoint | null): GptConfig {
  const size = (name: "layers" | "width" | "heads" | "context", to: number) =>
    options.whole(name, { from: 1, to }) ?? (before?.model[name] as number | undefined) ?? DEFAULT_GPT[name];
  const model: GptConfig = {
    layers: size("layers", 1000),
    width: size("width", 2 ** 16),
    heads: size("heads", 2 ** 12),
    // The mask of attention is a constant of context² elements in every block's graph.
    context: size("context", 2 ** 12),
    vocabulary: DEFAULT_GPT.vocabulary,
  };
  const { width, heads } = model;
  if (width % heads !== 0) {
    throw new UsageError(
      `a width of ${width} does not divide among ${heads} heads: use a width of ${neighbours(width, heads)}`,
    );
  }
  return model;
}

/** Each parameter is there four times: itself, its gradient and AdamW's two moments. All are f32. */
const BYTES_PER_PARAMETER = 16;

function requireMemory(model: GptConfig, memoryBytes: number): void {
  const parameters = gptParameters(model).reduce((sum, { shape }) => sum + elements(shape), 0);
  const needed = parameters * BYTES_PER_PARAMETER;
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

function requireSegments(model: GptConfig, devices: number): void {
  const parameters = gptParameters(model).map(({ name }) => name);
  const segments = findSegments(gptGraph(model, 1, model.context, "loss"), new Set(parameters)).length;
  if (devices > segments) {
    throw new UsageError(
      `${devices} devices are more than the model's ${segments} segments: use at most ${segments} devices`,
    );
  }
}

function batchOf(options: Options, before: Checkpoint | null): { batch: number; microBatches: number } {
  const size = (option: string, name: "batch" | "microBatches") =>
    options.whole(option, { from: 1, to: 2 ** 20 }) ?? setting(before, name) ?? DEFAULTS[name];
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

function optimizerOf(options: Options, before: Checkpoint | null, steps: number): AdamWConfig {
  const share = { from: 0, to: 1 };
  const rate = (option: string, name: keyof typeof DEFAULT_ADAMW, range: { from: number; to?: number }) =>
    options.number(option, range) ?? setting(before, name) ?? DEFAULT_ADAMW[name];
  return {
    learningRate: rate("lr", "learningRate", { from: 0 }),
    warmup: options.whole("warmup", { from: 0 }) ?? setting(before, "warmup") ?? DEFAULT_ADAMW.warmup,
    floor: rate("lr-floor", "floor", share),
    beta1: rate("beta1", "beta1", { from: 0, to: 0.9999999 }),
    beta2: rate("beta2", "beta2", { from: 0, to: 0.9999999 }),
    epsilon: setting(before, "epsilon") ?? DEFAULT_ADAMW.epsilon,
    weightDecay: rate("weight-decay", "weightDecay", { from: 0 }),
    clip: rate("clip", "clip", { from: 0 }),
    steps,
  };
}

/** A number among the settings a checkpoint was trained with. */
function setting(before: Checkpoint | null, name: string): number | undefined {
  const value = before?.training[name];
  return typeof value === "number" ? value : undefined;
}

/** The checkpoint of a run's folder, or the folder itself. @throws CheckpointError when it is not there. */
async function checkpointFolder(files: Files, folder: string): Promise<string> {
  const place = withoutSlash(folder);
  const inside = `${place}/checkpoint`;
  for (const name of [inside, `${inside}.previous`]) if (await files.exists(name)) return inside;
  if ((await files.isFolder(place)) && !(await files.exists(`${place}/state.json`))) {
    throw new CheckpointError(
      "missing",
      `${place} is neither a run nor a checkpoint: it has no checkpoint folder`,
    );
  }
  return place;
}

/** The run a checkpoint belongs to by its place; undefined for one that stands alone. */
function runFolder(checkpoint: string): string | undefined {
  return /^(.+)\/checkpoint$/.exec(checkpoint)?.[1];
}

const withoutSlash = (path: string) => path.replace(/(?<=.)\/+$/, "");

/** The nearest numbers that `divisor` divides, for people. */
function neighbours(value: number, divisor: number): string {
  const below = Math.floor(value / divisor) * divisor;
  return below === 0 ? `${divisor}` : `${below} or ${below + divisor}`;
}

/** Local time would be friendlier and ambiguous twice a year: this is UTC. */
function dateAndTime(now: number): string {
  return new Date(now).toISOString().slice(0, 19).replace("T", "-").replaceAll(":", "-");
}
