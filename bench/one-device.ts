/**
 * Training on one device with nothing around it: the whole model as a single stage in this process, its kernels in
 * the engine's worker, run in the order the stage actor runs them. What the actor runtime costs is the difference.
 */

import { fillBatch } from "../actors/data/batch.ts";
import type { Split } from "../actors/data/corpus.ts";
import { microBatchStarts } from "../actors/data/order.ts";
import { createEngine } from "../nn/engine/create.ts";
import type { Engine } from "../nn/engine/engine.ts";
import { StageExecutor } from "../nn/executor.ts";
import { gptGraph, gptParameters } from "../nn/models/gpt.ts";
import { gptInitial } from "../nn/models/init.ts";
import { DEFAULT_ADAMW } from "../nn/optim/adamw.ts";
import { trainingGraphs } from "../nn/training.ts";
import type { Workload } from "./workload.ts";

const SEED = 1;
/** Only the learning rate depends on it. */
const STEPS = 300;

export class OneDevice {
  private readonly engine: Engine;
  private readonly executor: StageExecutor;
  private readonly workload: Workload;
  private readonly split: Split;
  private done = 0;

  private constructor(engine: Engine, executor: StageExecutor, workload: Workload, split: Split) {
    this.engine = engine;
    this.executor = executor;
    this.workload = workload;
    this.split = split;
  }

  /** @param profile collects times of operators, which costs speed. */
  static async open(workload: Workload, split: Split, profile = false): Promise<OneDevice> {
    const { model, batch, microBatches } = workload;
    const parameters = gptParameters(model);
    const names = new Set(parameters.map(({ name }) => name));
    const forward = gptGraph(model, batch / microBatches, model.context, "loss");
    const options = { input: null, output: null, microBatches, recompute: false };
    const graphs = trainingGraphs(forward, (name) => names.has(name), options);
    const engine = await createEngine();
    const executor = await StageExecutor.create(engine, graphs, {
      slots: 1,
      optimizer: { ...DEFAULT_ADAMW, steps: STEPS },
      totalParameters: parameters.length,
      profile,
    });
    const initial = parameters.map(
      ({ name, shape }) => [name, gptInitial(SEED, name, shape, model.layers)] as const,
    );
    await executor.load(new Map(initial));
    return new OneDevice(engine, executor, workload, split);
  }

  /** Trains one step; resolves with its milliseconds. */
  async step(): Promise<number> {
    const { executor, split, done } = this;
    const { model, batch, microBatches } = this.workload;
    const rows = batch / microBatches;
    const began = performance.now();
    for (let microBatch = 0; microBatch < microBatches; microBatch++) {
      const starts = microBatchStarts(SEED, done, microBatch, rows, split.train.length, model.context);
      const [ids, targets] = [executor.value(0, "ids"), executor.value(0, "targets")];
      fillBatch(split.train, starts, model.context, ids.i64(), targets.i64());
      await executor.joint(0);
    }
    await executor.update(done, await executor.squareSums());
    this.done++;
    return performance.now() - began;
  }

  /** Kernel milliseconds of all steps so far, by operator. Only when opened with `profile`. */
  operatorTimes(): Promise<Map<string, number>> {
    return this.executor.profile();
  }

  async close(): Promise<void> {
    this.executor.release();
    await this.engine.close();
  }
}
