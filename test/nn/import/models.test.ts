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
import { importModel } from "../../../nn/import/import.ts";
import { dataInputs, heldInputs } from "../../../nn/model.ts";
import { trainingGraphs } from "../../../nn/training.ts";
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

describe("a model exported by PyTorch has PyTorch's losses:", () => {
  test.each(entries)("%s", async (name, entry) => {
    const rows = Object.values(entry.inputs)[0]![1][0]!;
    const model = await importModel(new Uint8Array(readFileSync(join(FOLDER, `${name}.onnx`))), {
      rows,
      loss: entry.loss,
      external: (location) => parameterData(location, entry.parameters),
    });
    const { lr, beta1, beta2, eps, weightDecay, clip } = entry.optimizer;
    const graphs = trainingGraphs(model.graph, model, {
      input: null,
      output: null,
      microBatches: 1,
      recompute: false,
    });
    const executor = await StageExecutor.create(engine, graphs, {
      slots: 1,
      totalParameters: model.parameters.length,
      optimizer: {
        ...{ learningRate: lr!, warmup: 0, floor: 1, steps: entry.losses.length },
        ...{ beta1: beta1!, beta2: beta2!, epsilon: eps!, weightDecay: weightDecay!, clip: clip! },
      },
    });
    try {
      const values = heldInputs(model).map(
        async ({ name }): Promise<[string, Tensor]> => [name, await model.initial(name, 0)],
      );
      executor.load(new Map(await Promise.all(values)));
      const [shape, classes] = entry.targets as [readonly number[], number?];
      const batches = { ...entry.inputs, targets: [classes ? "i64" : "f32", shape, classes] as const };
      expect(
        dataInputs(model)
          .map((input) => input.name)
          .sort(),
      ).toEqual(Object.keys(batches).sort());

      const losses: number[] = [];
      for (let step = 0; step < entry.losses.length; step++) {
        for (const [input, [dtype, size, below]] of Object.entries(batches)) {
          const tensor =
            dtype === "f32" ? floats(input, step % 2, size) : integers(input, step % 2, size, below!);
          executor.write(0, input, tensor);
        }
        await executor.joint(0);
        losses.push(executor.value(0, model.graph.outputs[0]!.name).f32()[0]!);
        await executor.update(step, await executor.squareSums());
      }
      const worst = Math.max(...losses.map((loss, step) => Math.abs(loss / entry.losses[step]! - 1)));
      expect(worst, losses.join()).toBeLessThan(TOLERANCE);
      expect(losses.at(-2)! / losses[0]!).toBeLessThan(0.9);
    } finally {
      executor.release();
    }
  });
});
