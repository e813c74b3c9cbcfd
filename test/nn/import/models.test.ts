/**
 * What PyTorch exports trains here as it does there: models of both exporters and several operator versions, read
 * from their files, 20 steps of AdamW on the same batches, the same losses. `fixtures/models/export.py` writes files
 * and losses; parameters and batches follow from names by a rule that both sides compute.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createEngine } from "../../../nn/engine/create.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { StageExecutor } from "../../../nn/executor.ts";
import { type ImportedModel, importModel } from "../../../nn/import/import.ts";
import { dataInputs, heldInputs } from "../../../nn/model.ts";
import { cutGraph, findSegments } from "../../../nn/segments.ts";
import { gradientName, trainingGraphs } from "../../../nn/training.ts";
import type { Tensor } from "../../../protocols/tensor.ts";
import fixture from "../../fixtures/models/losses.json";
import { floats, integers, parameterData } from "./values.ts";

const FOLDER = join(import.meta.dir, "../../fixtures/models");

/** Relative, of every loss. */
const TOLERANCE = 1e-4;

type Entry = {
  readonly inputs: Readonly<Record<string, readonly [string, readonly number[], number?]>>;
  readonly loss: string;
  readonly targets: readonly (number | readonly number[])[];
  readonly optimizer: Readonly<Record<string, number>>;
  readonly parameters: Readonly<Record<string, readonly number[]>>;
  readonly losses: readonly number[];
};

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});
afterAll(() => engine.close());

const entries = Object.entries(fixture) as unknown as [string, Entry][];

const imported = (name: string, entry: Entry): Promise<ImportedModel> =>
  importModel(new Uint8Array(readFileSync(join(FOLDER, `${name}.onnx`))), {
    rows: Object.values(entry.inputs)[0]![1][0]!,
    loss: entry.loss,
    external: (location) => parameterData(location, entry.parameters),
  });

/** Stages of the model, each a range of segments from one of `cuts` to the next. */
async function stagesOf(
  model: ImportedModel,
  entry: Entry,
  cuts: readonly number[],
): Promise<StageExecutor[]> {
  const segments = findSegments(model);
  const { lr, beta1, beta2, eps, weightDecay, clip } = entry.optimizer;
  const values = heldInputs(model).map(
    async ({ name }): Promise<[string, Tensor]> => [name, await model.initial(name, 0)],
  );
  const initial = new Map(await Promise.all(values));
  const bounds = [0, ...cuts, segments.length];
  const stages: StageExecutor[] = [];
  for (const [i, from] of bounds.slice(0, -1).entries()) {
    const to = bounds[i + 1]!;
    const graphs = trainingGraphs(cutGraph(model.graph, segments, from, to), model, {
      input: segments[from]!.input,
      output: segments[to - 1]!.output,
      microBatches: 1,
      recompute: false,
    });
    const stage = await StageExecutor.create(engine, graphs, {
      slots: 1,
      totalParameters: model.parameters.length,
      optimizer: {
        ...{ learningRate: lr!, warmup: 0, floor: 1, steps: entry.losses.length },
        ...{ beta1: beta1!, beta2: beta2!, epsilon: eps!, weightDecay: weightDecay!, clip: clip! },
      },
    });
    await stage.load(initial);
    stages.push(stage);
  }
  return stages;
}

/** The losses of so many steps; one micro-batch goes down the stages and its gradient up again. */
async function lossesOf(
  model: ImportedModel,
  entry: Entry,
  steps: number,
  cuts: readonly number[] = [],
): Promise<number[]> {
  const stages = await stagesOf(model, entry, cuts);
  const last = stages.at(-1)!;
  const [shape, classes] = entry.targets as [readonly number[], number?];
  const batches = { ...entry.inputs, targets: [classes ? "i64" : "f32", shape, classes] as const };
  const names = dataInputs(model).map(({ name }) => name);
  expect(names.sort()).toEqual(Object.keys(batches).sort());
  try {
    const losses: number[] = [];
    for (let step = 0; step < steps; step++) {
      for (const [name, [dtype, size, below]] of Object.entries(batches)) {
        const tensor =
          dtype === "f32" ? floats(name, step % 2, size) : integers(name, step % 2, size, below!);
        for (const stage of stages) if (stage.has(name)) stage.write(0, name, tensor);
      }
      for (const [i, stage] of stages.slice(0, -1).entries()) {
        await stage.forward(0);
        const { output } = stage.graphs;
        stages[i + 1]!.write(0, output!, stage.value(0, output!));
      }
      await last.joint(0);
      losses.push(last.value(0, last.graphs.result).f32()[0]!);
      for (const [i, stage] of [...stages.slice(0, -1).entries()].reverse()) {
        const gradient = gradientName(stage.graphs.output!);
        stage.write(0, gradient, stages[i + 1]!.value(0, gradient));
        await stage.backward(0);
      }
      await exchangeTied(stages);
      await update(model, stages, step);
    }
    return losses;
  } finally {
    for (const stage of stages) stage.release();
  }
}

const holds = (stage: StageExecutor, name: string) =>
  stage.graphs.parameters.some((own) => own.name === name);

async function exchangeTied(stages: readonly StageExecutor[]): Promise<void> {
  for (const stage of stages) {
    for (const name of stage.graphs.ties.flat()) {
      const holder = stages.find((other) => other !== stage && holds(other, name));
      if (holder && !holds(stage, name)) await stage.putTied(name, await holder.gradient(name));
    }
  }
}

async function update(model: ImportedModel, stages: readonly StageExecutor[], step: number): Promise<void> {
  const sums = new Map<string, number>();
  for (const stage of stages) {
    const own = await stage.squareSums();
    for (const [i, { name }] of stage.graphs.parameters.entries()) sums.set(name, own[i]!);
  }
  const all = Float32Array.from(model.parameters, (name) => sums.get(name)!);
  for (const stage of stages) await stage.update(step, all);
}

describe("a model exported by PyTorch", () => {
  test.each(entries)("has PyTorch's losses: %s", async (name, entry) => {
    const losses = await lossesOf(await imported(name, entry), entry, entry.losses.length);
    const worst = Math.max(...losses.map((loss, step) => Math.abs(loss / entry.losses[step]! - 1)));
    expect(worst, losses.join()).toBeLessThan(TOLERANCE);
    expect(losses.at(-2)! / losses[0]!).toBeLessThan(0.9);
  });

  test.each(entries)("has the same losses, bit for bit, cut into two stages: %s", async (name, entry) => {
    const model = await imported(name, entry);
    const segments = findSegments(model);
    expect(segments.length).toBeGreaterThan(1);
    const whole = await lossesOf(model, entry, 3);
    expect(await lossesOf(model, entry, 3, [Math.ceil(segments.length / 2)])).toEqual(whole);
  });
});
