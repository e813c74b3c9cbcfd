/**
 * A training run from beginning to end: the composition root, to be read from top to bottom.
 *
 *   text → data source → first stage → … → last stage → gradients back → commit gate → optimiser → checkpoint
 *
 * The caller brings the node, the devices and the platform, and hears of everything as events.
 */

import { heldInputs, type Model } from "../nn/model.ts";
import { diverged } from "../nn/optim/finite.ts";
import type { OptimizerConfig } from "../nn/optim/optimizer.ts";
import { byteLength, elements, type Tensor } from "../protocols/tensor.ts";
import type { Clock, NodeRuntime, Ref } from "../runtime/index.ts";
import type { Files } from "../runtime/platform/files.ts";
import { changing, checkpointValues, contentsOf } from "./checkpoint/contents.ts";
import { Saver } from "./checkpoint/saver.ts";
import { openStore } from "./checkpoint/store.ts";
import { CheckpointWriter } from "./checkpoint/writer.ts";
import {
  type Checkpoint,
  type Damage,
  prepareCheckpoint,
  readCheckpoint,
  requireModel,
  requireTensors,
} from "./checkpoint.ts";
import { DataSource } from "./data/source.ts";
import type { Device } from "./device.ts";
import { DriftNews } from "./drift-news.ts";
import { RunMeter } from "./energy/run-meter.ts";
import type { RunJournal } from "./journal/run-journal.ts";
import type { ProfileCache } from "./profile-cache.ts";
import type { KeepingCost } from "./recovery/keeper.ts";
import type { Called } from "./recovery/roster.ts";
import { RunStopped } from "./run-stopped.ts";
import type { Plan } from "./scheduler/plan.ts";
import { type Behind, type Replanning, type RunRecovery, Scheduler } from "./scheduler/scheduler.ts";
import { type ModelSpec, openTask } from "./tasks/open.ts";
import type { Task } from "./tasks/task.ts";
import { copiesOf, endedOn, recoveredBy, resumedBehind, takeIn } from "./train-devices.ts";
import type { TrainEvent } from "./train-events.ts";

export { DivergedError } from "../nn/optim/finite.ts";
export type { TrainEvent } from "./train-events.ts";

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
  /** Folder for checkpoints, `s3://bucket/prefix`, or `nats://host:port/name`. */
  readonly checkpoint: string;
  /** Checkpoints that are kept, with the newest; 1 when left out. */
  readonly keepCheckpoints?: number;
  /** Folder for the trained model in the form of its kind, where it has one; null for none. */
  readonly exportTo: string | null;
  /** A checkpoint to go on from: a folder, or an address as of `checkpoint`. */
  readonly resume: string | null;
  /** Steps between validation passes, and between checkpoints; both also come at the end. */
  readonly validateEvery: number;
  readonly checkpointEvery: number;
  /** Bytes of text to write at the end, after the prompt; 0 for none. */
  readonly sampleBytes: number;
  /** What the sample goes on from; at least one character. */
  readonly prompt: string;
}

/** What a run needs from the world around it. */
export interface World {
  readonly node: NodeRuntime;
  readonly devices: readonly Ref<Device>[];
  readonly files: Files;
  readonly clock: Clock;
  /** A promise it returns for a checkpoint is waited for, and for the end: what belongs to it can be stored along with it. */
  readonly emit: (event: TrainEvent) => unknown;
  /** Numbers in [0, 1), for the sample at the end. */
  readonly random: () => number;
  /** Where profiles of earlier runs are; devices are measured every time when left out. */
  readonly profiles?: ProfileCache;
  /** What devices are called that are lost before they have said so: by their numbers when left out. */
  readonly called?: Called;
  /**
   * Where devices come from while the run goes on: it is given what takes each of them in, and returns what ends that. Without
   * it, a run that has too few devices fails. For runs that keep copies.
   */
  readonly onDevice?: (join: (device: Ref<Device>) => Promise<void>) => () => void;
  /** Where the run is written down, and what is to be gone on with; it ends with this process when left out. */
  readonly journal?: RunJournal;
  /** Where it is aborted the run ends behind the step under way, with a checkpoint, and rejects with RunStopped. */
  readonly ending?: AbortSignal;
}

/** All of a run that can be known, and can be wrong, without a device. */
export interface PreparedRun {
  readonly task: Task;
  readonly resumed: Checkpoint | null;
  /** Newer checkpoints than that, which are damaged. */
  readonly damaged: readonly Damage[];
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
  const damaged: Damage[] = [];
  const tell = (damage: Damage) => damaged.push(damage);
  const resumed =
    read ?? (options.resume === null ? null : await readCheckpoint(files, options.resume, tell));
  if (resumed) {
    requireModel(resumed, task.description, options.resume!);
    requireTensors(resumed, changing(task.model, options.optimizer), options.resume!);
  }
  await prepareCheckpoint(files, options.checkpoint);
  return { task, resumed, damaged };
}

/** Trains, and resolves with the last event. Rejects with the first real error, in one line for people. */
export async function train(
  options: TrainOptions,
  world: World,
  prepared?: PreparedRun,
): Promise<TrainEvent & { event: "done" }> {
  const { node, devices, files, clock, emit, journal } = world;
  const { microBatches, steps, seed } = options;
  const { task, resumed, damaged } = prepared ?? (await prepare(options, files));
  const { model, source, unit } = task;
  const { graph, parameters } = model;
  const { copies = 1 } = options;
  const tellDamage = (damage: Damage) => void emit({ event: "checkpoint_damaged", ...damage });
  for (const damage of damaged) tellDamage(damage);
  const writer = new CheckpointWriter(openStore(files, options.checkpoint, journal?.epoch), {
    ...{ keep: options.keepCheckpoints ?? 1, from: resumed?.step ?? 0, pause: () => clock.sleep(0) },
    ...(journal && { held: () => journal.held() }),
  });
  const valuesOf = (from: Checkpoint | null) =>
    from ? checkpointValues(from, model, options.optimizer) : {};
  const drifts = new DriftNews();
  /** The step of the last checkpoint. */
  let saved = resumed?.step ?? 0;
  const recovery = {
    copies,
    ...(journal && { continuity: journal }),
    fixed: (names: readonly string[]) => initialValues(model, seed, names),
    restart: async () => {
      await saver.idle();
      const last =
        saver.weights === "" ? resumed : await readCheckpoint(files, options.checkpoint, tellDamage);
      saved = last?.step ?? 0;
      writer.goBackTo(saved);
      return { step: saved - 1, values: await initialState(model, seed, valuesOf(last)) };
    },
    tell: (each: RunRecovery) => {
      drifts.clear();
      emit({ event: "recovered", ...recoveredBy(each) });
    },
    copying: (cost: KeepingCost) => void emit({ event: "copies", ...copiesOf(cost) }),
    leftOut: (name: string, reason: string) => void emit({ event: "device_left", name, reason }),
    considered: (each: Replanning) => {
      const { cause, why } = each;
      const figures = { old_step_ms: each.oldStepMs, new_step_ms: each.newStepMs, plan_ms: each.planMs };
      if (each.moved) {
        drifts.clear();
        const cost = { prepared_ms: each.preparedMs, moved_bytes: each.movedBytes, move_ms: each.moveMs };
        emit({ event: "replanned", cause, why, ...figures, ...cost, plan: each.plan });
      } else if (cause !== "drifted" || drifts.considered())
        emit({ event: "plan_kept", cause, why, ...figures });
    },
    ...(world.onDevice && {
      paused: (reason: string) => void emit({ event: "paused", reason }),
      resumed: (behind: Behind) => void emit({ event: "resumed", ...resumedBehind(behind) }),
    }),
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
      copies,
      ...(world.profiles && { profiles: world.profiles }),
      ...(world.called && { called: world.called }),
      ...(options.objective === undefined ? {} : { objective: options.objective }),
      ...(options.deadlineMs === undefined ? {} : { deadlineMs: options.deadlineMs }),
      ...(options.localSteps === undefined ? {} : { localSteps: options.localSteps }),
      ...(options.plan === undefined ? {} : { plan: options.plan }),
      ...(copies > 0 && { recovery }),
    },
  ]);
  const saver: Saver = new Saver({
    ...{ scheduler, writer, ...contentsOf(options, task) },
    tell: async (step, weights) => {
      saved = step;
      await emit({ event: "checkpoint", step, path: options.checkpoint });
      await journal?.saved(step, options.checkpoint, weights);
    },
  });
  let meter: RunMeter | undefined;
  let stopJoining: (() => void) | undefined;
  try {
    const history = journal?.before ?? null;
    const before = copies > 0 ? (journal?.planBefore() ?? null) : null;
    const taken = before && (await scheduler.ask.takeOver(before));
    const plan = taken?.plan ?? (await scheduler.ask.plan());
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
    meter = await RunMeter.open(devices, await scheduler.ask.descriptions());
    // One that cannot be taken in is told of by whoever brought it.
    if (copies > 0) stopJoining = world.onDevice?.((device) => takeIn(scheduler, meter!, device));
    const first = taken ? taken.step + 1 : (resumed?.step ?? 0);
    if (taken) {
      writer.goBackTo(first);
      const stepsLost = (history?.step ?? -1) - taken.step;
      emit({ event: "resumed", ...resumedBehind({ ...taken, stepsLost }) });
    } else await scheduler.ask.deploy(await initialState(model, seed, valuesOf(resumed)), first - 1);

    let validation = Number.NaN;
    let loss = history?.losses.get(first - 1) ?? Number.NaN;
    const validate = async (step: number) => {
      validation = await scheduler.ask.evaluate(step);
      if (!Number.isFinite(validation)) throw diverged("validation loss", step, validation);
      emit({ event: "validation", step, loss: validation });
      await journal?.validated(step, validation);
    };
    const isDue = (done: number, every: number) => done > 0 && done < steps && done % every === 0;
    if (taken) {
      // What was to come behind the last step, and did not.
      if (isDue(first, options.validateEvery) && !history?.validations.has(first)) await validate(first);
      if (isDue(first, options.checkpointEvery) && history?.checkpoint?.step !== first)
        await saver.save(first);
    }

    await meter.resume();
    const tokens = unit.perMicroBatch * microBatches;
    let training = 0;
    let skipped = 0;
    for (let step = first; step < steps; step++) {
      if (world.ending?.aborted) {
        await saver.settled();
        if (step > saved) await saver.save(step);
        throw new RunStopped(step);
      }
      const done = step + 1;
      const [validates, saves] = [options.validateEvery, options.checkpointEvery].map((every) =>
        isDue(done, every),
      );
      // Where stages keep copies, a checkpoint is written from those while the run goes on.
      const holds = saves && copies > 0;
      const waits = validates || (saves && !holds);
      if (saves) await saver.settled();
      const began = clock.now();
      const result = await scheduler.ask.step(step, steps - 1, !waits, holds);
      const ms = clock.now() - began;
      training += ms;
      if (result.skipped) skipped++;
      loss = result.loss;
      emit({
        event: "step",
        step: step + 1,
        loss,
        grad_norm: result.gradNorm,
        learning_rate: result.learningRate,
        ...(result.skipped && { skipped: true as const }),
        step_ms: ms,
        tokens_per_s: (tokens / ms) * 1000,
        stages: result.reports.map(({ squareSums: _, losses: __, ...rest }) => rest),
      });
      for (const drifted of drifts.of(result.drifted)) emit({ event: "device_drifted", ...drifted });
      meter.took(
        ms,
        result.reports.map(({ kernelMs }, i) => [Number(result.devices[i]!), kernelMs]),
      );
      saver.check();
      const owed = saver.owes && done < steps;
      if (done === steps || waits || owed) await meter.pause();
      // Weights that have diverged are no checkpoint.
      if (validates) await validate(done);
      if (holds && !owed) saver.begin(done);
      if (owed || (saves && !holds)) await saver.save(done);
      if (done < steps && (waits || owed)) await meter.resume();
    }

    const last = Math.max(first, steps);
    await validate(last);
    const values = await saver.save(last);
    if (options.exportTo !== null && task.exported) {
      for await (const { name, chunks } of task.exported(values)) {
        const path = `${options.exportTo}/${name}`;
        await files.makeFolder(path.slice(0, path.lastIndexOf("/")));
        await files.write(path, chunks);
      }
      emit({ event: "exported", path: options.exportTo });
    }
    if (options.sampleBytes > 0 && task.sample) {
      const request = { prompt: options.prompt, count: options.sampleBytes, random: world.random };
      emit({ event: "sample", text: await task.sample(values, request) });
    }
    // In this order: whoever comes between two of these questions is not lost.
    const unknown = await scheduler.ask.unknown();
    const everyone = await scheduler.ask.descriptions();
    const usage = await scheduler.ask.usage();
    // There may have been one in the beginning, and others later.
    const kept = copies > 0 && everyone.length > 1 ? copiesOf(await scheduler.ask.keepingCost()) : null;
    const done = {
      event: "done" as const,
      steps: last,
      final_loss: loss,
      validation_loss: validation,
      loss_unit: task.lossUnit,
      tokens_per_s: training > 0 ? ((tokens * (last - first)) / training) * 1000 : 0,
      weights_sha256: saver.weights,
      checkpoint: options.checkpoint,
      energy: meter.energy(),
      ...(skipped > 0 && { steps_skipped: skipped }),
      ...(kept && { copies: kept }),
      ...endedOn(everyone, usage, unknown, history),
    };
    await journal?.done(last);
    await emit(done);
    return done;
  } finally {
    stopJoining?.();
    await meter?.close();
    await node.stop(scheduler);
    await saver.idle();
    await node.stop(data);
  }
}

/** Values of all that stages hold, by name: those that a run is resumed with, and else initial ones. */
export async function initialState(
  model: Model,
  seed: number,
  resumed: Readonly<Record<string, Tensor>> = {},
): Promise<Record<string, Tensor>> {
  const state = { ...resumed };
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
