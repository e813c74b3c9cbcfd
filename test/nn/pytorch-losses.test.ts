/**
 * Troupe's arithmetic against PyTorch's: the same initial weights, the same batches, 50 steps of forward, backward,
 * clipping and AdamW through the derived graphs; the loss and the gradient norm of every step have to agree.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { fillBatch } from "../../actors/data/batch.ts";
import { readText, splitText } from "../../actors/data/corpus.ts";
import { microBatchStarts, validationStarts } from "../../actors/data/order.ts";
import { createEngine } from "../../nn/engine/create.ts";
import type { Engine } from "../../nn/engine/engine.ts";
import { StageExecutor } from "../../nn/executor.ts";
import { gptGraph, gptParameters } from "../../nn/models/gpt.ts";
import { gptInitial } from "../../nn/models/init.ts";
import { trainingGraphs } from "../../nn/training.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { files } from "../../runtime/platform/files.ts";
import fixture from "../fixtures/gpt-pytorch.json";

/** Relative. Rounding alone, measured against a run in 64-bit floats, accounts for 1e-7. */
const TOLERANCE = 1e-4;

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});
afterAll(() => engine.close());

const relative = (value: number, expected: number) => Math.abs(value / expected - 1);

describe.each([
  ["small", fixture.small, fixture.small.config.steps],
  // Its steps take long; these go through the warm-up's rising learning rates and the clipping.
  ["full", fixture.full, 8],
] as const)("the %s GPT", (_, { config, losses, gradNorms, validationLoss }, steps) => {
  test("has the losses and gradient norms of PyTorch", async () => {
    const split = splitText(
      await readText(files, join(import.meta.dir, "../fixtures", fixture.text)),
      config.context,
    );
    const rows = config.batch / config.microBatches;
    const parameters = gptParameters(config);
    const names = new Set(parameters.map(({ name }) => name));
    const graphs = trainingGraphs(gptGraph(config, rows, config.context, "loss"), (name) => names.has(name), {
      input: null,
      output: null,
      microBatches: config.microBatches,
      recompute: false,
    });
    const executor = await StageExecutor.create(engine, graphs, {
      slots: 1,
      totalParameters: parameters.length,
      optimizer: {
        learningRate: config.lr,
        warmup: config.warmup,
        floor: config.minLr,
        steps: config.steps,
        beta1: config.beta1,
        beta2: config.beta2,
        epsilon: config.eps,
        weightDecay: config.weightDecay,
        clip: config.clip,
      },
    });
    await executor.load(
      new Map(
        parameters.map(({ name, shape }) => [name, gptInitial(config.seed, name, shape, config.layers)]),
      ),
    );

    const worst = { loss: 0, norm: 0 };
    for (let step = 0; step < steps; step++) {
      let loss = 0;
      for (let m = 0; m < config.microBatches; m++) {
        const starts = microBatchStarts(config.seed, step, m, rows, split.train.length, config.context);
        const [ids, targets] = [executor.value(0, "ids"), executor.value(0, "targets")];
        fillBatch(split.train, starts, config.context, ids.i64(), targets.i64());
        await executor.joint(0);
        loss += executor.value(0, "loss").f32()[0]! / config.microBatches;
      }
      const { gradNorm } = await executor.update(step, await executor.squareSums());
      worst.loss = Math.max(worst.loss, relative(loss, losses[step]!));
      worst.norm = Math.max(worst.norm, relative(gradNorm, gradNorms[step]!));
    }
    expect(worst.loss).toBeLessThan(TOLERANCE);
    expect(worst.norm).toBeLessThan(TOLERANCE);

    if (steps === config.steps) {
      const starts = validationStarts(split, config.context, config.validationWindows);
      let total = 0;
      for (let at = 0; at < starts.length; at += rows) {
        const ids = Tensor.zeros("i64", [config.context, rows]);
        const targets = Tensor.zeros("i64", [config.context * rows]);
        fillBatch(split.validation, starts.slice(at, at + rows), config.context, ids.i64(), targets.i64());
        total += (await executor.evaluate({ ids, targets })).f32()[0]!;
      }
      expect(relative(total / (starts.length / rows), validationLoss)).toBeLessThan(TOLERANCE);
    }
    executor.release();
  }, 180_000);
});
