/**
 * Any model trained on one engine with nothing around it: the whole of it as a single stage in this process, its kernels
 * in the engine's worker, run in the order the stage actor runs them. Beside other libraries it is what training costs;
 * beside a deployment, the difference is what the actor runtime costs.
 */

import type { Feed } from "../actors/data/feed.ts";
import { createEngine } from "../nn/engine/create.ts";
import type { Engine } from "../nn/engine/engine.ts";
import { StageExecutor } from "../nn/executor.ts";
import { dataInputs, heldInputs, type Model } from "../nn/model.ts";
import { DEFAULT_ADAMW } from "../nn/optim/adamw.ts";
import type { OptimizerConfig } from "../nn/optim/optimizer.ts";
import { findSegments } from "../nn/segments.ts";
import { trainingGraphs } from "../nn/training.ts";
import { Tensor } from "../protocols/tensor.ts";

export interface LocalOptions {
  readonly microBatches: number;
  readonly engine?: Engine["name"];
  /** Of the engine; 1 when left out. */
  readonly threads?: number;
  /** AdamW with clipping when left out. */
  readonly optimizer?: OptimizerConfig;
  /** What is learned from; without one, samples are made up once and used again in every step: time does not tell. */
  readonly feed?: Feed;
  /** Instead of the model's initial values and made-up samples. */
  readonly values?: ReadonlyMap<string, Tensor>;
  /** Collects times of operators, which costs speed. */
  readonly profile?: boolean;
}

const SEED = 1;

export class LocalTraining {
  /** Floating-point operations of a step: those of the forward graph's products, three times. */
  readonly flops: number;
  readonly parameters: number;
  loss = Number.NaN;
  private readonly engine: Engine;
  private readonly executor: StageExecutor;
  private readonly model: Model;
  private readonly microBatches: number;
  private readonly feed: Feed | undefined;
  private done = 0;

  private constructor(
    engine: Engine,
    executor: StageExecutor,
    model: Model,
    { microBatches, feed }: LocalOptions,
  ) {
    this.feed = feed;
    this.engine = engine;
    this.executor = executor;
    this.model = model;
    this.microBatches = microBatches;
    this.flops = 3 * microBatches * findSegments(model).reduce((sum, { flops }) => sum + flops, 0);
    this.parameters = executor.graphs.parameters.reduce(
      (sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1),
      0,
    );
  }

  static async open(model: Model, options: LocalOptions): Promise<LocalTraining> {
    const { microBatches, optimizer, values } = options;
    const stage = { input: null, output: null, microBatches, recompute: false };
    const graphs = trainingGraphs(model.graph, model, stage);
    const engine = await createEngine({ engine: options.engine ?? "native", threads: options.threads ?? 1 });
    try {
      const executor = await StageExecutor.create(engine, graphs, {
        slots: 1,
        optimizer: optimizer ?? { ...DEFAULT_ADAMW, learningRate: 1e-4, steps: 1_000_000 },
        totalParameters: graphs.parameters.length,
        profile: options.profile ?? false,
      });
      const initial = new Map<string, Tensor>();
      for (const { name } of heldInputs(model)) {
        initial.set(name, values?.get(name) ?? (await model.initial(name, SEED)));
      }
      await executor.load(initial);
      for (const info of dataInputs(model)) {
        executor.write(0, info.name, values?.get(info.name) ?? madeUp(model, info.name));
      }
      return new LocalTraining(engine, executor, model, options);
    } catch (error) {
      await engine.close();
      throw error;
    }
  }

  /** Trains one step; resolves with its milliseconds. */
  async step(): Promise<number> {
    const { executor, done } = this;
    const began = performance.now();
    for (let microBatch = 0; microBatch < this.microBatches; microBatch++) {
      executor.place(0, done, microBatch);
      const samples = this.feed?.training(done, microBatch) ?? {};
      for (const [name, tensor] of Object.entries(samples)) executor.write(0, name, tensor);
      await executor.joint(0);
    }
    this.loss = executor.value(0, this.model.graph.outputs[0]!.name).f32()[0]!;
    await executor.update(done, await executor.squareSums());
    this.done++;
    return performance.now() - began;
  }

  /** The milliseconds of so many steps. */
  async steps(count: number): Promise<number[]> {
    const taken: number[] = [];
    for (let i = 0; i < count; i++) taken.push(await this.step());
    return taken;
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

/** Numbers around zero, and classes below 10 or bytes: what is below every model's number of classes here. */
function madeUp({ graph }: Model, name: string): Tensor {
  const { dtype, shape } = graph.inputs.find((input) => input.name === name)!;
  const count = shape.reduce((a, b) => a * b, 1);
  const noise = (at: number) => ((Math.imul(at + 1, 0x9e3779b1) >>> 8) % 1000) / 500 - 1;
  if (dtype === "i64")
    return Tensor.i64(
      shape,
      Array.from({ length: count }, (_, at) => (at * 7) % 10),
    );
  return Tensor.f32(
    shape,
    Float32Array.from({ length: count }, (_, at) => noise(at)),
  );
}
