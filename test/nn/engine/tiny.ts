/** A tiny GPT trained on one engine, for tests that compare engines: as a stage trains it, with nothing around it. */

import type { Engine } from "../../../nn/engine/engine.ts";
import { StageExecutor } from "../../../nn/executor.ts";
import { gptGraph, gptParameters } from "../../../nn/models/gpt.ts";
import { gptInitial } from "../../../nn/models/init.ts";
import { DEFAULT_ADAMW } from "../../../nn/optim/adamw.ts";
import { trainingGraphs } from "../../../nn/training.ts";
import type { Tensor } from "../../../protocols/tensor.ts";

const MODEL = { layers: 1, width: 16, heads: 2, context: 8, vocabulary: 32 };
const ROWS = 2;
const MICRO_BATCHES = 2;

/** The loss of each step. Everything is released. */
export async function trainTiny(engine: Engine, steps: number): Promise<number[]> {
  const parameters = gptParameters(MODEL);
  const names = new Set(parameters.map(({ name }) => name));
  const graphs = trainingGraphs(gptGraph(MODEL, ROWS, MODEL.context, "loss"), (name) => names.has(name), {
    input: null,
    output: null,
    microBatches: MICRO_BATCHES,
    recompute: false,
  });
  const stage = await StageExecutor.create(engine, graphs, {
    slots: 1,
    optimizer: { ...DEFAULT_ADAMW, steps },
    totalParameters: parameters.length,
  });
  try {
    const initial = ({ name, shape }: (typeof parameters)[number]): [string, Tensor] => [
      name,
      gptInitial(1, name, shape, MODEL.layers),
    ];
    await stage.load(new Map(parameters.map(initial)));
    const losses: number[] = [];
    for (let step = 0; step < steps; step++) {
      let loss = 0;
      for (let part = 0; part < MICRO_BATCHES; part++) {
        const [ids, targets] = [stage.value(0, "ids").i64(), stage.value(0, "targets").i64()];
        const token = (i: number) => BigInt((i * i + 5 * i + 3 * part + 7 * step) % MODEL.vocabulary);
        for (let i = 0; i < ids.length; i++) [ids[i], targets[i]] = [token(i), token(i + 1)];
        await stage.joint(0);
        loss += stage.value(0, "loss").f32()[0]! / MICRO_BATCHES;
      }
      losses.push(loss);
      await stage.update(step, await stage.squareSums());
    }
    return losses;
  } finally {
    stage.release();
  }
}
