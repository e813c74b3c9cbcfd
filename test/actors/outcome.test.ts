/** What a run leaves, and what it does not: a model that other runtimes compute alike, and no diverged weights. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Device, readCheckpoint, type TrainOptions, train } from "../../actors/index.ts";
import { createEngine, DEFAULT_ADAMW, decodeModel, type Graph, gptGraph } from "../../nn/index.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { NodeRuntime, seededRandom, systemClock } from "../../runtime/index.ts";
import { files } from "../../runtime/platform/files.ts";
import { runGraph, type Values } from "../nn/run.ts";
import { failure } from "../runtime/world.ts";

const CONFIG = { layers: 1, width: 16, heads: 2, context: 12, vocabulary: 256 };

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "troupe-outcome-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function run(options: Partial<TrainOptions> & { checkpoint: string }) {
  const node = new NodeRuntime({ name: "alone" });
  const random = seededRandom(1);
  try {
    const device = await node.spawn(Device, ["device", "native"]);
    const settings: TrainOptions = {
      data: join(import.meta.dir, "../fixtures/text.txt"),
      model: { kind: "gpt", ...CONFIG },
      ...{ batch: 4, microBatches: 2, steps: 2, seed: 1 },
      ...{ strategy: "single", schedule: "1f1b", recompute: false },
      optimizer: { ...DEFAULT_ADAMW, warmup: 1, steps: 2 },
      resume: null,
      exportTo: null,
      ...{ validateEvery: 100, checkpointEvery: 100, sampleBytes: 0, prompt: "\n" },
      ...options,
    };
    const world = { node, devices: [device], files, clock: systemClock };
    return await train(settings, { ...world, emit: () => {}, random: () => random.next() });
  } finally {
    await node.close();
  }
}

async function logits(name: "native" | "web", graph: Graph, values: Values): Promise<Float32Array> {
  const engine = await createEngine({ engine: name });
  try {
    return (await runGraph(engine, graph, values)).logits!.f32();
  } finally {
    await engine.close();
  }
}

test("a checkpoint's model.onnx has the logits of the trained model, in the web engine as well", async () => {
  const checkpoint = join(folder, "trained");
  await run({ checkpoint });
  const { parameters } = await readCheckpoint(files, checkpoint);
  const model = decodeModel(await files.read(join(checkpoint, "model.onnx")));
  expect(model.inputs).toEqual([{ name: "ids", dtype: "i64", shape: [12, 1] }]);
  expect(model.outputs).toEqual([{ name: "logits", dtype: "f32", shape: [12, 256] }]);

  const ids = Tensor.i64([12, 1], [...new TextEncoder().encode("interface X ")]);
  const trained = await logits("native", gptGraph(CONFIG, 1, 12, "logits"), {
    ...Object.fromEntries(parameters),
    ids,
  });
  expect(Math.max(...trained.map(Math.abs))).toBeGreaterThan(0.1);
  for (const engine of ["native", "web"] as const) {
    const inferred = await logits(engine, model, { ids });
    const furthest = Math.max(...trained.map((value, i) => Math.abs(value - inferred[i]!)));
    expect(furthest).toBeLessThan(1e-4);
  }
});

test("weights that have diverged are no checkpoint", async () => {
  const checkpoint = join(folder, "diverged");
  const optimizer = { ...DEFAULT_ADAMW, warmup: 0, steps: 2, learningRate: 1e30 };
  const error = await failure(run({ checkpoint, optimizer, validateEvery: 1, checkpointEvery: 1 }));
  expect(error.code).toBe("DIVERGED");
  expect(error.message).toBe("the validation loss of step 1 is NaN: lower the learning rate");
  expect(await files.exists(checkpoint)).toBe(false);
});

test("a batch that does not divide into micro-batches is refused before anything is read", async () => {
  const error = await failure(run({ checkpoint: join(folder, "none"), batch: 10, microBatches: 4 }));
  expect(error.message).toBe("a batch of 10 does not divide into 4 micro-batches");
});
