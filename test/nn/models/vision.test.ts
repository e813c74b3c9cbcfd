/**
 * The vision models against plain PyTorch ones of the same names (test/fixtures/vision.py): the same state_dict, the
 * same initial weights to the bit, the same logits, and the same losses in training.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { weightsSha256 } from "../../../actors/checkpoint.ts";
import { createEngine } from "../../../nn/engine/create.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { StageExecutor } from "../../../nn/executor.ts";
import { inferenceGraph } from "../../../nn/import/export.ts";
import { heldInputs, type Model } from "../../../nn/model.ts";
import { uniform } from "../../../nn/models/init.ts";
import { mlp } from "../../../nn/models/mlp.ts";
import { resnet } from "../../../nn/models/resnet.ts";
import { streamOf } from "../../../nn/models/threefry.ts";
import { vgg } from "../../../nn/models/vgg.ts";
import { vit } from "../../../nn/models/vit.ts";
import { trainingGraphs } from "../../../nn/training.ts";
import { elements, type Shape, Tensor } from "../../../protocols/tensor.ts";
import fixture from "../../fixtures/vision.json";
import { runGraph } from "../run.ts";

interface Entry {
  readonly kind: string;
  readonly rows: number;
  readonly config: unknown;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly sha256: string;
  readonly logits: readonly number[];
  readonly losses: readonly number[];
  readonly statistics: Readonly<Record<string, readonly number[]>>;
}

const { seed, microBatches, optimizer } = fixture;

const MAKERS: Readonly<Record<string, (config: never, rows: number) => Model>> = { mlp, resnet, vgg, vit };
const made = ({ kind, config, rows }: Entry): Model => MAKERS[kind]!(config as never, rows);

/** As `batch` in the fixture's script. */
function images(stream: string, shape: Shape): Tensor {
  return Tensor.f32(shape, uniform(3, streamOf(stream), elements(shape), -1, 1));
}

/** As `other` in the fixture's script: weights in which nothing is zero or one. */
function other(name: string, shape: Shape): Tensor {
  const values = uniform(2, streamOf(name), elements(shape), -1, 1);
  const around = /(weight|running_var)$/.test(name) ? 1 : 0;
  const spread = Math.fround(Math.sqrt(3 / elements(shape.slice(1))));
  return Tensor.f32(
    shape,
    values.map((u) => (shape.length === 1 ? u * Math.fround(0.2) + around : u * spread)),
  );
}

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});
afterAll(() => engine.close());

describe.each(Object.entries(fixture.models as unknown as Record<string, Entry>))("%s", (_, entry) => {
  const model = made(entry);
  const held = heldInputs(model);
  const input = model.graph.inputs[0]!;

  test("has PyTorch's names and shapes, and the initial weights to the bit", () => {
    expect(Object.fromEntries(held.map(({ name, shape }) => [name, shape]))).toEqual({ ...entry.shapes });
    const weights = new Map(held.map(({ name }) => [name, model.initial(name, seed) as Tensor]));
    expect(weightsSha256(weights)).toBe(entry.sha256);
  });

  test("predicts PyTorch's logits", async () => {
    const weights = Object.fromEntries(held.map(({ name, shape }) => [name, other(name, shape)]));
    const values = { ...weights, [input.name]: images("logits", input.shape) };
    const { logits } = await runGraph(engine, inferenceGraph(model), values);
    expect(logits!.elements).toBe(entry.logits.length);
    logits!.f32().forEach((value, i) => {
      const expected = entry.logits[i]!;
      expect(Math.abs(value - expected)).toBeLessThan(1e-4 * Math.max(1, Math.abs(expected)));
    });
  });

  if (entry.losses.length === 0) return;
  test("trains with PyTorch's losses and running statistics", async () => {
    const graphs = trainingGraphs(model.graph, model, {
      input: null,
      output: null,
      microBatches,
      recompute: false,
    });
    const executor = await StageExecutor.create(engine, graphs, {
      slots: 1,
      optimizer,
      totalParameters: model.parameters.length,
    });
    try {
      await executor.load(new Map(held.map(({ name }) => [name, model.initial(name, seed) as Tensor])));
      const { rows } = entry;
      const classes = entry.logits.length / rows;
      const targets = Tensor.i64(
        [rows],
        Array.from({ length: rows }, (__, i) => i % classes),
      );
      for (const [step, expected] of entry.losses.entries()) {
        let loss = 0;
        for (let micro = 0; micro < microBatches; micro++) {
          executor.write(0, input.name, images(`images.${step}.${micro}`, input.shape));
          executor.write(0, "targets", targets);
          await executor.joint(0);
          loss += executor.value(0, "loss").f32()[0]! / microBatches;
        }
        expect(Math.abs(loss / expected - 1), `step ${step}: ${loss}, PyTorch ${expected}`).toBeLessThan(
          1e-3,
        );
        await executor.update(step, await executor.squareSums());
      }
      const state = await executor.tensors();
      for (const [name, expected] of Object.entries(entry.statistics)) {
        // A mean has the bias before it inside, which no loss depends on and rounding alone moves.
        const distance = (value: number, wanted: number) =>
          name.endsWith("var") ? Math.abs(value / wanted - 1) : Math.abs(value - wanted) / 2;
        const worst = Math.max(
          ...Array.from(state.get(name)!.f32(), (value, i) => distance(value, expected[i]!)),
        );
        expect(worst, name).toBeLessThan(1e-3);
      }
    } finally {
      executor.release();
    }
  });
});
