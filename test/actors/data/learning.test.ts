/** From files to a falling loss: what is read, fed and built by name learns, and says so on samples it has not seen. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { NO_AUGMENTATION } from "../../../actors/data/augment.ts";
import { BITMAPS } from "../../../actors/data/bitmap.ts";
import type { Feed } from "../../../actors/data/feed.ts";
import { ImageFeed } from "../../../actors/data/images.ts";
import { readData } from "../../../actors/data/read.ts";
import { TableFeed } from "../../../actors/data/table.ts";
import { createEngine } from "../../../nn/engine/create.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { StageExecutor } from "../../../nn/executor.ts";
import { heldInputs } from "../../../nn/model.ts";
import {
  inputSizeFor,
  type ModelName,
  type ModelSettings,
  modelNamed,
} from "../../../nn/models/catalogue.ts";
import { trainingGraphs } from "../../../nn/training.ts";
import type { Tensor } from "../../../protocols/tensor.ts";
import { idxFile, memoryFiles, noise } from "./memory.ts";

const COUNT = 200;
const SIDE = 8;

/** Noise with one bright quadrant, which is the label. */
function quadrants(): Uint8Array {
  const pixels = noise(COUNT * SIDE * SIDE, 8).map((byte) => byte >> 1);
  for (let i = 0; i < COUNT; i++) {
    const [left, top] = [(i % 2) * 4, ((i >> 1) % 2) * 4];
    for (let y = top; y < top + 4; y++) {
      for (let x = left; x < left + 4; x++) pixels[(i * SIDE + y) * SIDE + x]! += 100;
    }
  }
  return pixels;
}

/** Two numbers, of which the larger is the label. */
function larger(): string {
  const bytes = noise(2 * COUNT, 9);
  const lines = Array.from({ length: COUNT }, (_, i) => {
    const [a, b] = [bytes[2 * i]!, bytes[2 * i + 1]!];
    return `${a},${b},${a > b ? "first" : "second"}`;
  });
  return ["a,b,larger", ...lines].join("\n");
}

const files = memoryFiles({
  "d/train-images-idx3-ubyte": idxFile([COUNT, SIDE, SIDE], quadrants()),
  "d/train-labels-idx1-ubyte": idxFile(
    [COUNT],
    Uint8Array.from({ length: COUNT }, (_, i) => i % 4),
  ),
  "d/rows.csv": larger(),
});

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});
afterAll(() => engine.close());

/** Losses of the first and the last step, and of validation after it. */
async function train(
  name: ModelName,
  settings: ModelSettings & { classes: number },
  feed: Feed,
  steps: number,
) {
  const model = modelNamed(name, settings, feed.values);
  const graphs = trainingGraphs(model.graph, model, {
    input: null,
    output: null,
    microBatches: 1,
    recompute: false,
  });
  const optimizer = { learningRate: 1e-2, warmup: 3, floor: 0.1, steps, beta1: 0.9, beta2: 0.95 };
  const executor = await StageExecutor.create(engine, graphs, {
    slots: 1,
    optimizer: { ...optimizer, epsilon: 1e-8, weightDecay: 0.01, clip: 1 },
    totalParameters: model.parameters.length,
  });
  try {
    await executor.load(
      new Map(heldInputs(model).map((held) => [held.name, model.initial(held.name, 1) as Tensor])),
    );
    const losses: number[] = [];
    for (let step = 0; step < steps; step++) {
      for (const [value, tensor] of Object.entries(feed.training(step, 0))) executor.write(0, value, tensor);
      await executor.joint(0);
      losses.push(executor.value(0, "loss").f32()[0]!);
      await executor.update(step, await executor.squareSums());
    }
    const validation = (await executor.evaluate(feed.validation(0))).f32()[0]!;
    return { first: losses[0]!, last: losses.at(-1)!, validation };
  } finally {
    executor.release();
  }
}

test.each<[ModelName, ModelSettings, number]>([
  ["mlp", { hidden: [16] }, 25],
  ["vit", { layers: 1, width: 32, heads: 2, patch: 4 }, 150],
  ["resnet18", { width: 4 }, 25],
])("%s learns which quadrant is bright", async (name, settings, steps) => {
  const data = await readData(files, "d", { wanted: ["images"], formats: BITMAPS, size: SIDE, label: null });
  if (data.kind !== "images") throw new Error(data.kind);
  const size = inputSizeFor(name, settings, data.size);
  const augment = { ...NO_AUGMENTATION, crop: 1, brightness: 0.1 };
  const feed = new ImageFeed(data, { seed: 1, rows: 20, microBatches: 1, size, augment });
  const { first, last, validation } = await train(
    name,
    { ...settings, classes: data.classes.length },
    feed,
    steps,
  );
  expect(first).toBeGreaterThan(1);
  expect(last).toBeLessThan(0.75 * first);
  expect(validation).toBeLessThan(first);
});

test("a perceptron learns from a table", async () => {
  const data = await readData(files, "d", { wanted: ["table"], formats: [], size: 0, label: "larger" });
  if (data.kind !== "table") throw new Error(data.kind);
  const feed = new TableFeed(data, { seed: 1, rows: 20, microBatches: 1 });
  const { first, last, validation } = await train("mlp", { hidden: [16], classes: 2 }, feed, 40);
  expect(last).toBeLessThan(first / 2);
  expect(validation).toBeLessThan(first / 2);
});
