/**
 * A training run from beginning to end: the composition root, to be read from top to bottom.
 *
 *   text → data source → first stage → … → last stage → gradients back → commit gate → optimiser → checkpoint
 *
 * The caller brings the node, the devices and the platform, and hears of everything as events.
 */

import { heldInputs, type Model } from "../nn/model.ts";
import type { ValueInfo } from "../nn/onnx/graph.ts";
import { diverged } from "../nn/optim/finite.ts";
import { type OptimizerConfig, stateNames } from "../nn/optim/optimizer.ts";
import { outerStateNames } from "../nn/optim/outer.ts";
import { byteLength, elements, type Tensor } from "../protocols/tensor.ts";
import type { Clock, NodeRuntime, Ref } from "../runtime/index.ts";
import type { Files } from "../runtime/platform/files.ts";
import {
  type Checkpoint,
  prepareCheckpoint,
  readCheckpoint,
  requireModel,
  requireTensors,
  writeCheckpoint,
} from "./checkpoint.ts";
import type { Config } from "./checkpoint-state.ts";
import { DataSource } from "./data/source.ts";
import type { Device } from "./device.ts";
import { type RunEnergy, RunMeter } from "./energy/run-meter.ts";
import type { ProfileCache } from "./profile-cache.ts";
import { type Plan, type Worker, workersOf } from "./scheduler/plan.ts";
import { type RunRecovery, Scheduler } from "./scheduler/scheduler.ts";
import type { StepReport } from "./stage.ts";
import { type ModelSpec, openTask } from "./tasks/open.ts";
import type { Task } from "./tasks/task.ts";

export { DivergedError } from "../nn/optim/finite.ts";

export interface TrainOptions {
  /** A file or folder to learn from; null for what the model's kind learns from by default. */
  readonly data: string | null;
  readonly model: ModelSpec;
  /** Samples in a step, all micro-batches together. */
  readonly batch: number;
  readonly microBatches: number;
  /** The step to stop before; counted from the beginning of the run, also when it is resumed. */
  readonly steps: number;
  readonly seed: number;
  readonly strategy: string;
  readonly schedule: string;
  readonly recompute: boolean;
  /** With `recompute`, bytes of each micro-batch that a stage keeps all the same; 0 when left out. */
  readonly stashBytes?: number;
  /** What the plan is chosen for, "time" or "energy", and how long a step may take then; time when left out. */
  readonly objective?: string;
  readonly deadlineMs?: number;
  /** With strategy local: steps between two meetings. */
  readonly localSteps?: number;
  /** A plan to carry out as it is; one is made when left out. */
  readonly plan?: Plan;
  readonly optimizer: OptimizerConfig;
  /** Devices that may be lost at once without going back to a checkpoint; 1 when left out, 0 for none at all. */
  readonly copies?: number;
  /** Folder for checkpoints. */
  readonly checkpoint: string;
  /** Folder for the trained model in the form of its kind, where it has one; null for none. */
  readonly exportTo: string | null;
  /** A checkpoint folder to go on from. */
  readonly resume: string | null;
  /** Steps between validation passes, and between checkpoints; both also come at the end. */
  readonly validateEvery: number;
  readonly checkpointEvery: number;
  /** Bytes of text to write at the end, after the prompt; 0 for none. */
  readonly sampleBytes: number;
  /** What the sample goes on from; at least one character. */
  readonly prompt: string;
}

export type TrainEvent =
  | {
      event: "plan";
      plan: Plan;
      /** Those that are trained. */
      parameters: number;
      /** What is held beside them and stays as it is. */
      frozen_bytes: number;
      unit: string;
      data: string;
      data_bytes: number | null;
    }
  | {
      event: "step";
      step: number;
      loss: number;
      grad_norm: number;
      learning_rate: number;
      step_ms: number;
      /** Tokens of text, or samples of anything else. */
      tokens_per_s: number;
      /** One per stage. */
      stages: readonly Omit<StepReport, "squareSums" | "losses">[];
    }
  /**
   * The run goes on without devices that are gone: how long it took to know (from the last sign of life), how long until
   * another step was committed, how many committed steps were repeated, and what had to be moved.
   */
  | {
      event: "recovered";
      lost: readonly string[];
      detect_ms: number;
      resume_ms: number;
      steps_lost: number;
      moved_bytes: number;
      from_checkpoint: boolean;
      plan: Plan;
    }
  /** A device takes so many times as long as it was measured to; the plan stays as it is. */
  | { event: "device_drifted"; device: string; factor: number }
  | { event: "validation"; step: number; loss: number }
  | { event: "checkpoint"; step: number; path: string }
  | { event: "exported"; path: string }
  | { event: "sample"; text: string }
  | {
      event: "done";
      steps: number;
      final_loss: number;
      validation_loss: number;
      /** What the losses are measured in. */
      loss_unit: string;
      tokens_per_s: number;
      weights_sha256: string;
      checkpoint: string;
      /** Null where no step was made. */
      energy: RunEnergy | null;
      /** Those that are still there. */
      devices: readonly { id: string; name: string; peak_bytes: number; tensor_bytes: number }[];
      /** Those that the run began with and ended without. */
      devices_lost: readonly string[];
    };

/** What a run needs from the world around it. */
export interface World {
  readonly node: NodeRuntime;
  readonly devices: readonly Ref<Device>[];
  readonly files: Files;
  readonly clock: Clock;
  /** A promise it returns for a checkpoint is waited for: what belongs to it can be stored along with it. */
  readonly emit: (event: TrainEvent) => unknown;
  /** Numbers in [0, 1), for the sample at the end. */
  readonly random: () => number;
  /** Where profiles of earlier runs are; devices are measured every time when left out. */
  readonly profiles?: ProfileCache;
}

/** All of a run that can be known, and can be wrong, without a device. */
export interface PreparedRun {
  readonly task: Task;
  readonly resumed: Checkpoint | null;
}

/**
 * Reads and checks what a run starts from, and makes sure that its checkpoints can be written.
 * @param read the checkpoint that `options.resume` names, where the caller has read it already.
 * @throws FileError, CorpusError, CheckpointError, WeightsError, GraphError for a model that cannot be, each in one line
 *   for people; RangeError for a batch that does not divide into micro-batches.
 */
export async function prepare(
  options: TrainOptions,
  files: Files,
  read: Checkpoint | null = null,
): Promise<PreparedRun> {
  const { model, data, batch, microBatches, seed } = options;
  if (batch % microBatches !== 0) {
    throw new RangeError(`a batch of ${batch} does not divide into ${microBatches} micro-batches`);
  }
  const task = await openTask(model, { data, rows: batch / microBatches, microBatches, seed }, files);
  const resumed = read ?? (options.resume === null ? null : await readCheckpoint(files, options.resume));
  if (resumed) {
    requireModel(resumed, task.description, options.resume!);
    requireTensors(resumed, changing(task.model, options.optimizer), options.resume!);
  }
  await prepareCheckpoint(files, options.checkpoint);
  return { task, resumed };
}

/** Trains, and resolves with the last event. Rejects with the first real error, in one line for people. */
export async function train(
  options: TrainOptions,
  world: World,
  prepared?: PreparedRun,
): Promise<TrainEvent & { event: "done" }> {
  const { node, devices, files, clock, emit } = world;
  const { microBatches, steps, seed } = options;
  const { task, resumed } = prepared ?? (await prepare(options, files));
  const { model, source, unit } = task;
  const { graph, parameters } = model;
  const { copies = 1 } = options;
  let saved = "";
  let workers: readonly Worker[] = [];
  const recovery = {
    copies,
    fixed: (names: readonly string[]) => initialValues(model, seed, names),
    restart: async () => {
      const last = saved === "" ? resumed : await readCheckpoint(files, options.checkpoint);
      return { step: (last?.step ?? 0) - 1, values: await initialState(model, seed, last) };
    },
    tell: (each: RunRecovery) => {
      workers = workersOf(each.plan);
      emit({
        ...{ event: "recovered", lost: each.lost, detect_ms: each.detectMs, resume_ms: each.resumeMs },
        ...{ steps_lost: each.stepsLost, moved_bytes: each.movedBytes },
        ...{ from_checkpoint: each.fromCheckpoint, plan: each.plan },
      });
    },
  };
  const data = await node.spawn(DataSource, [task.feed]);
  const scheduler = await node.spawn(Scheduler, [
    devices,
    data,
    {
      model,
      seed,
      microBatches,
      optimizer: options.optimizer,
      strategy: options.strategy,
      schedule: options.schedule,
      recompute: options.recompute,
      stashBytes: options.stashBytes ?? 0,
      ...(world.profiles && { profiles: world.profiles }),
      ...(options.objective === undefined ? {} : { objective: options.objective }),
      ...(options.deadlineMs === undefined ? {} : { deadlineMs: options.deadlineMs }),
      ...(options.localSteps === undefined ? {} : { localSteps: options.localSteps }),
      ...(options.plan === undefined ? {} : { plan: options.plan }),
      ...(copies > 0 && { recovery }),
    },
  ]);
  let meter: RunMeter | undefined;
  try {
    const plan = await scheduler.ask.plan();
    workers = workersOf(plan);
    const count = graph.inputs
      .filter(({ name }) => parameters.includes(name) && !Object.hasOwn(model.ties, name))
      .reduce((sum, { shape }) => sum + elements(shape), 0);
    const frozen = graph.inputs
      .filter(({ name }) => model.frozen.includes(name))
      .reduce((sum, { dtype, shape }) => sum + byteLength(dtype, shape), 0);
    emit({
      ...{ event: "plan", plan, parameters: count, frozen_bytes: frozen, unit: unit.name },
      ...{ data: source.name, data_bytes: source.bytes },
    });
    await scheduler.ask.deploy(await initialState(model, seed, resumed));

    let validation = Number.NaN;
    let loss = Number.NaN;
    const save = async (step: number) => {
      const state = await scheduler.ask.state();
      const checkpoint = checkpointOf(options, task, step, state);
      const onnx = (await task.inference?.(checkpoint.parameters)) ?? null;
      saved = await writeCheckpoint(files, options.checkpoint, checkpoint, onnx);
      await emit({ event: "checkpoint", step, path: options.checkpoint });
      return checkpoint.parameters;
    };
    const validate = async (step: number) => {
      validation = await scheduler.ask.evaluate(step);
      if (!Number.isFinite(validation)) throw diverged("validation loss", step, validation);
      emit({ event: "validation", step, loss: validation });
    };

    const names = await scheduler.ask.descriptions();
    meter = await RunMeter.open(devices, names);
    await meter.resume();
    const first = resumed?.step ?? 0;
    const tokens = unit.perMicroBatch * microBatches;
    let training = 0;
    for (let step = first; step < steps; step++) {
      const began = clock.now();
      const done = step + 1;
      const [validates, saves] = [options.validateEvery, options.checkpointEvery].map(
        (every) => done % every === 0,
      );
      const result = await scheduler.ask.step(step, steps - 1, !validates && !saves);
      const ms = clock.now() - began;
      training += ms;
      loss = result.loss;
      emit({
        event: "step",
        step: step + 1,
        loss,
        grad_norm: result.gradNorm,
        learning_rate: result.learningRate,
        step_ms: ms,
        tokens_per_s: (tokens / ms) * 1000,
        stages: result.reports.map(({ squareSums: _, losses: __, ...rest }) => rest),
      });
      for (const drifted of result.drifted) emit({ event: "device_drifted", ...drifted });
      const busyMs = devices.map(() => 0);
      for (const [i, { kernelMs }] of result.reports.entries())
        busyMs[Number(workers[i]!.member.device)]! += kernelMs;
      meter.took(ms, busyMs);
      if (done === steps || validates || saves) await meter.pause();
      if (done === steps) break;
      if (validates) await validate(done);
      if (saves) await save(done);
      if (validates || saves) await meter.resume();
    }

    const last = Math.max(first, steps);
    await validate(last);
    const values = await save(last);
    if (options.exportTo !== null && task.exported) {
      for await (const { name, chunks } of task.exported(values)) {
        const path = `${options.exportTo}/${name}`;
        await files.makeFolder(path.slice(0, path.lastIndexOf("/")));
        await files.write(path, chunks);
      }
      emit({ event: "exported", path: options.exportTo });
    }
    const usage = await scheduler.ask.usage();
    if (options.sampleBytes > 0 && task.sample) {
      const request = { prompt: options.prompt, count: options.sampleBytes, random: world.random };
      emit({ event: "sample", text: await task.sample(values, request) });
    }
    const done = {
      event: "done" as const,
      steps: last,
      final_loss: loss,
      validation_loss: validation,
      loss_unit: task.lossUnit,
      tokens_per_s: training > 0 ? ((tokens * (last - first)) / training) * 1000 : 0,
      weights_sha256: saved,
      checkpoint: options.checkpoint,
      energy: meter.energy(),
      devices: usage.flatMap((used, i) =>
        used
          ? [{ id: `${i}`, name: names[i]!.name, peak_bytes: used.peakBytes, tensor_bytes: used.tensorBytes }]
          : [],
      ),
      devices_lost: usage.flatMap((used, i) => (used ? [] : [names[i]!.name])),
    };
    emit(done);
    return done;
  } finally {
    await meter?.close();
    await node.stop(scheduler);
    await node.stop(data);
  }
}

/** What training changes, by name: parameters, each tied one once, and statistics; and the optimiser's state. */
function changing({ graph, parameters, ties, statistics }: Model, optimizer: OptimizerConfig) {
  const own = new Set([
    ...parameters.filter((name) => !Object.hasOwn(ties, name)),
    ...Object.keys(statistics),
  ]);
  const values = graph.inputs.filter(({ name }) => own.has(name));
  const trained = values.filter(({ name }) => !Object.hasOwn(statistics, name));
  const state = trained.flatMap((parameter) =>
    stateNames(optimizer, parameter).map((name): ValueInfo => ({ ...parameter, name })),
  );
  return { parameters: values, optimizer: state };
}

/** Values of all that stages hold, by name: what a checkpoint has, and else initial ones. */
export async function initialState(
  model: Model,
  seed: number,
  resumed: Checkpoint | null = null,
): Promise<Record<string, Tensor>> {
  const state = Object.fromEntries([...(resumed?.parameters ?? []), ...(resumed?.optimizer ?? [])]);
  for (const { name } of heldInputs(model)) {
    state[name] ??= state[model.ties[name] ?? name] ?? (await model.initial(name, seed));
  }
  return state;
}

/** Initial values of some of what stages hold. */
async function initialValues(
  model: Model,
  seed: number,
  names: readonly string[],
): Promise<Record<string, Tensor>> {
  const found: Record<string, Tensor> = {};
  for (const name of names) found[name] = await model.initial(model.ties[name] ?? name, seed);
  return found;
}

function checkpointOf(
  { seed, data, model: spec, batch, microBatches, steps, optimizer }: TrainOptions,
  { model, description }: Task,
  step: number,
  state: Readonly<Record<string, Tensor>>,
): Checkpoint {
  const kept = changing(model, optimizer);
  // Members that train on their own keep more, as long as they do.
  const outer = kept.parameters.flatMap((parameter) =>
    outerStateNames(parameter).map((name): ValueInfo => ({ ...parameter, name })),
  );
  const pick = (infos: readonly ValueInfo[]) => new Map(infos.map(({ name }) => [name, state[name]!]));
  return {
    step,
    seed,
    model: description,
    training: {
      ...{ ...optimizer, batch, microBatches, steps, ...(data === null ? {} : { data }) },
      ...readingSettings(spec),
    },
    parameters: pick(kept.parameters),
    optimizer: pick([...kept.optimizer, ...outer.filter(({ name }) => state[name])]),
  };
}

/** How data is read where that can be chosen, so that a run that is resumed goes on learning from the same. */
function readingSettings(model: ModelSpec): Config {
  if (model.kind !== "classifier" && model.kind !== "onnx") return {};
  const { augment, label } = model;
  const inputSize = model.kind === "classifier" ? model.inputSize : null;
  return {
    ...(augment !== "none" && { augment }),
    ...(label !== null && { label }),
    ...(inputSize !== null && { inputSize }),
  };
}
