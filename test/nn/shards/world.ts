/** Trains a model in one process: on one device, and on the ranks of chunks whose work is shared, as stages will. */

import type { ChunkExecutor } from "../../../nn/chunk-executor.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { StageExecutor } from "../../../nn/executor.ts";
import { heldInputs, type Trainable } from "../../../nn/model.ts";
import { DEFAULT_ADAMW } from "../../../nn/optim/adamw.ts";
import type { OptimizerConfig } from "../../../nn/optim/optimizer.ts";
import { cutGraph, findSegments } from "../../../nn/segments.ts";
import { type ShardChunkOptions, shardChunk } from "../../../nn/shards/chunk.ts";
import { ShardExecutor } from "../../../nn/shards/executor.ts";
import type { ShardPlan } from "../../../nn/shards/plan.ts";
import { joinTensors } from "../../../nn/shards/slices.ts";
import { gradientName, trainingGraphs } from "../../../nn/training.ts";
import type { Tensor } from "../../../protocols/tensor.ts";
import { LocalRanks } from "../../actors/collectives/local.ts";
import { Chance } from "../engine/operator-cases.ts";
import { randomValues } from "../run.ts";

export const MICRO_BATCHES = 2;

export const ADAMW: OptimizerConfig = {
  ...DEFAULT_ADAMW,
  warmup: 1,
  steps: 10,
  learningRate: 1e-2,
  epsilon: 1e-5,
};

export interface Setup {
  readonly model: Trainable;
  readonly steps: number;
  readonly optimizer?: OptimizerConfig;
  readonly recompute?: boolean;
  /** All forward passes of a step go before its backward passes. */
  readonly inFlight?: boolean;
}

export type Sharing = Pick<ShardChunkOptions, "kind" | "ranks" | "shares" | "vocabulary">;

export interface Trained {
  readonly losses: readonly number[];
  /** By name, whole: parameters and the optimiser's state. */
  readonly tensors: ReadonlyMap<string, Tensor>;
  /** The loss of a validation after training. */
  readonly validation: number;
}

export interface ShardedTraining extends Trained {
  /** Of each chunk. */
  readonly plans: readonly ShardPlan[];
  /** What each rank sent in a step's forward and backward passes, by chunk. */
  readonly sentBytes: readonly (readonly number[])[];
}

const held = (model: Trainable) => {
  const values = randomValues(model.graph, new Chance(7), 5);
  for (const [use, owner] of Object.entries(model.ties)) values[use] = values[owner]!;
  return new Map(heldInputs(model).map(({ name }) => [name, values[name]!]));
};

const dataOf = (model: Trainable, step: number, microBatch: number) =>
  randomValues(model.graph, new Chance(1 + step * MICRO_BATCHES + microBatch), 5);

const optionsOf = ({ model, optimizer = ADAMW }: Setup) => ({
  ...{ slots: 2, optimizer, totalParameters: model.parameters.length, microBatches: MICRO_BATCHES, seed: 3 },
});

export async function trainWhole(engine: Engine, setup: Setup): Promise<Trained> {
  const { model, steps } = setup;
  const ends = { input: null, output: null, microBatches: MICRO_BATCHES, recompute: false };
  const executor = await StageExecutor.create(
    engine,
    trainingGraphs(model.graph, model, ends),
    optionsOf(setup),
  );
  try {
    await executor.load(held(model));
    const losses: number[] = [];
    for (let step = 0; step < steps; step++) {
      for (let microBatch = 0; microBatch < MICRO_BATCHES; microBatch++) {
        executor.place(0, step, microBatch);
        for (const { name } of executor.graphs.data) {
          executor.write(0, name, dataOf(model, step, microBatch)[name]!);
        }
        await executor.joint(0);
        losses.push(executor.value(0, executor.graphs.result).f32()[0]!);
      }
      await executor.update(step, await executor.squareSums());
    }
    const inputs = executor.graphs.data.filter(({ name }) => executor.evaluates(name));
    const values = dataOf(model, steps, 0);
    const loss = await executor.evaluate(Object.fromEntries(inputs.map(({ name }) => [name, values[name]!])));
    const validation = loss.f32()[0]!;
    return { losses, tensors: copies(await executor.tensors()), validation };
  } finally {
    executor.release();
  }
}

const copies = (tensors: ReadonlyMap<string, Tensor>) =>
  new Map([...tensors].map(([name, tensor]) => [name, structuredCopy(tensor)]));

const structuredCopy = (tensor: Tensor): Tensor =>
  Object.assign(Object.create(Object.getPrototypeOf(tensor)), tensor, { bytes: tensor.bytes.slice() });

/** @param cuts segments at which chunks begin, besides the first. */
export async function trainSharded(
  engine: Engine,
  setup: Setup,
  sharing: Sharing,
  cuts: readonly number[] = [],
): Promise<ShardedTraining> {
  const { model, steps, recompute = false, inFlight = false } = setup;
  const segments = findSegments(model);
  const begins = [0, ...cuts];
  const executors: ShardExecutor[][] = [];
  const locals = begins.map(() => new LocalRanks(sharing.ranks));
  const plans: ShardPlan[] = [];
  try {
    for (const [i, from] of begins.entries()) {
      const to = begins[i + 1] ?? segments.length;
      const [first, last] = [segments[from]!, segments[to - 1]!];
      const own: ShardExecutor[] = [];
      executors.push(own);
      for (let rank = 0; rank < sharing.ranks; rank++) {
        const chunk = shardChunk(cutGraph(model.graph, segments, from, to), model, {
          ...sharing,
          ...{ rank, input: first.input, output: last.output, inputGradient: first.inputTrained, recompute },
        });
        plans[i] = chunk.plan;
        const ring = locals[i]!.collectives[rank]!;
        const executor = await ShardExecutor.create(engine, chunk, ring, optionsOf(setup));
        own.push(executor);
        await executor.load(held(model));
      }
    }
    const all = <T>(
      own: readonly ShardExecutor[],
      run: (executor: ShardExecutor, rank: number) => Promise<T>,
    ) => Promise.all(own.map(run));
    const losses: number[] = [];
    let sent: number[][] = [];
    for (let step = 0; step < steps; step++) {
      for (const { bytes } of locals) bytes.fill(0);
      const forward = async (microBatch: number) => {
        const values = dataOf(model, step, microBatch);
        const slot = microBatch % 2;
        const speaker = microBatch % sharing.ranks;
        for (const [i, own] of executors.entries()) {
          for (const executor of own) {
            executor.place(slot, step, microBatch);
            for (const { name } of executor.graphs.data) {
              if (executor.has(name)) executor.write(slot, name, values[name]!);
            }
            const { input } = executor.graphs;
            if (input !== null) executor.write(slot, input, executors[i - 1]![speaker]!.value(slot, input));
          }
          await all(own, (executor) => executor.forward(slot));
        }
        const [first] = executors.at(-1)!;
        losses.push(first!.value(slot, first!.graphs.result).f32()[0]!);
      };
      const backward = async (microBatch: number) => {
        const slot = microBatch % 2;
        const speaker = microBatch % sharing.ranks;
        for (let i = executors.length - 1; i >= 0; i--) {
          const own = executors[i]!;
          const { output, outputGradient } = own[0]!.graphs;
          // Nothing is trained up to here.
          if (output !== null && !outputGradient) break;
          for (const executor of own) {
            if (output === null) continue;
            const gradient = executors[i + 1]![speaker]!.value(slot, gradientName(output));
            executor.write(slot, gradientName(output), gradient);
          }
          await all(own, (executor) => executor.backward(slot));
        }
      };
      for (let microBatch = 0; microBatch < MICRO_BATCHES; microBatch++) {
        await forward(microBatch);
        if (!inFlight) await backward(microBatch);
      }
      for (let microBatch = 0; inFlight && microBatch < MICRO_BATCHES; microBatch++)
        await backward(microBatch);
      sent = locals.map(({ bytes }) => [...bytes]);
      await Promise.all(
        executors.map((own, i) =>
          all(own, (executor, rank) => executor.reduce(`${step}`, locals[i]!.collectives[rank]!)),
        ),
      );
      await exchangeTied(executors);
      const sums = new Float32Array(model.parameters.length);
      for (const own of executors) {
        for (const executor of own) {
          (await executor.squareSums()).forEach((sum, i) => {
            sums[model.parameters.indexOf(executor.graphs.parameters[i]!.name)]! += sum;
          });
        }
      }
      for (const executor of executors.flat()) await executor.update(step, sums);
    }
    const values = dataOf(model, steps, 0);
    let result: Tensor | undefined;
    for (const own of executors) {
      const { data, input } = own[0]!.graphs;
      const given = Object.fromEntries(
        [...data.map(({ name }) => name), ...(input === null ? [] : [input])]
          .filter((name) => own[0]!.evaluates(name))
          .map((name) => [name, name === input ? result! : values[name]!]),
      );
      [result] = await all(own, (executor) => executor.evaluate(given));
    }
    const validation = result!.f32()[0]!;
    const tensors = new Map<string, Tensor>();
    for (const own of executors) {
      const parts = await all(own, (executor) => executor.tensors());
      for (const [name, tensor] of parts[0]!) {
        const cut = own[0]!.cuts.get(name);
        const whole = cut ? joinTensors(parts.map((part) => part.get(name)!), cut) : tensor; // biome-ignore format: one line
        tensors.set(name, structuredCopy(whole));
        // What all have, all have alike.
        if (!cut) for (const part of parts) expectSame(name, part.get(name)!, tensor);
      }
    }
    for (const { left } of locals) if (left > 0) throw new Error(`${left} tensors were given and not taken`);
    return { losses, tensors, validation, plans, sentBytes: sent };
  } finally {
    for (const executor of executors.flat()) executor.release();
  }
}

async function exchangeTied(executors: readonly (readonly ChunkExecutor[])[]): Promise<void> {
  for (const own of executors) {
    for (const executor of own) {
      const here = new Set(executor.graphs.parameters.map(({ name }) => name));
      for (const name of executor.graphs.ties.flat().filter((tied) => !here.has(tied))) {
        const other = executors.find(([first]) =>
          first!.graphs.parameters.some((info) => info.name === name),
        )!;
        await executor.putTied(name, structuredCopy(await other[0]!.gradient(name)));
      }
    }
  }
}

function expectSame(name: string, actual: Tensor, expected: Tensor): void {
  if (Buffer.compare(actual.bytes, expected.bytes) !== 0) throw new Error(`ranks differ in ${name}`);
}
