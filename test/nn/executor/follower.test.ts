/** Whoever follows a stage by its gradients comes to the stage's own bits, whatever the optimiser, on the same engine. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createEngine } from "../../../nn/engine/create.ts";
import type { Engine, EngineTensor } from "../../../nn/engine/engine.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { Follower } from "../../../nn/executor/follower.ts";
import { StageExecutor } from "../../../nn/executor.ts";
import { lora } from "../../../nn/finetune/lora.ts";
import { rolesOf, type Trainable } from "../../../nn/model.ts";
import { gptModel } from "../../../nn/models/gpt.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { DEFAULT_ADAMW } from "../../../nn/optim/adamw.ts";
import type { OptimizerConfig } from "../../../nn/optim/optimizer.ts";
import { trainingGraphs } from "../../../nn/training.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { seededRandom } from "../../../runtime/random.ts";
import { motley } from "../motley.ts";

const GPT = gptModel({ layers: 1, width: 8, heads: 2, context: 4, vocabulary: 16 }, 2);
const NOTHING = { tensors: 0, tensorBytes: 0, executables: 0, bindings: 0 };
const adamw = { ...DEFAULT_ADAMW, warmup: 2, steps: 100 };
const common = { learningRate: 0.01, warmup: 2, steps: 100, floor: 0.1, weightDecay: 0.1, clip: 0.5 };
const OPTIMIZERS: Readonly<Record<string, OptimizerConfig>> = {
  "AdamW with clipping": adamw,
  "AdamW without": { ...adamw, clip: 0 },
  momentum: { ...common, kind: "sgd", momentum: 0.9, nesterov: false },
  "Nesterov's momentum": { ...common, kind: "sgd", momentum: 0.9, nesterov: true },
  Lion: { ...common, kind: "lion", beta1: 0.9, beta2: 0.98 },
  Muon: { ...common, kind: "muon", momentum: 0.95, beta1: 0.9, beta2: 0.95, epsilon: 1e-8 },
  "a static loss scale": { ...adamw, lossScale: 128 },
};

const engines: Engine[] = [];
beforeAll(async () => {
  engines.push(await createEngine({ engine: "native" }), createReferenceEngine());
});
afterAll(() => Promise.all(engines.map((engine) => engine.close())));

const numbers = (shape: readonly number[], seed: number) => {
  const random = seededRandom(seed);
  const count = shape.reduce((product, size) => product * size, 1);
  return Tensor.f32(
    shape,
    Array.from({ length: count }, () => random.next() - 0.5),
  );
};

/** A stage with values of its own, its gradients drawn and not computed. */
async function staged(engine: Engine, model: Trainable, optimizer: OptimizerConfig): Promise<StageExecutor> {
  const graphs = trainingGraphs(model.graph, model, {
    ...{ input: null, output: null, microBatches: 1, recompute: false },
    scaledLoss: "lossScale" in optimizer,
  });
  const executor = await StageExecutor.create(engine, graphs, {
    ...{ slots: 1, optimizer, totalParameters: graphs.parameters.length },
  });
  const held = [...graphs.parameters, ...graphs.frozen, ...graphs.statistics];
  await executor.load(new Map(held.map(({ name, shape }, i) => [name, numbers(shape, i)])));
  return executor;
}

/** The stage's gradients of a step. */
async function accumulate(executor: StageExecutor, step: number, factor = 1): Promise<void> {
  for (const [i, { name, shape }] of executor.graphs.parameters.entries()) {
    const gradient = numbers(shape, 1000 * step + i);
    for (const [at, value] of gradient.f32().entries()) gradient.f32()[at] = value * factor;
    await executor.putGradient(name, gradient);
  }
}

/** What a stage has, in memory of an engine. */
async function copied(engine: Engine, executor: StageExecutor): Promise<Map<string, EngineTensor>> {
  const all = [...(await executor.tensors())].map(([name, tensor]): [string, EngineTensor] => {
    const memory = engine.allocate(tensor.dtype, tensor.shape);
    memory.tensor.bytes.set(tensor.bytes);
    return [name, memory];
  });
  return new Map(all);
}

/**
 * A stage and whoever follows it go through steps; behind each they are compared.
 * @param factors of the gradients of each step. @returns what has become of the steps.
 */
async function followed(
  engine: Engine,
  model: Trainable,
  optimizer: OptimizerConfig,
  from: number,
  factors: readonly number[],
): Promise<boolean[]> {
  const executor = await staged(engine, model, optimizer);
  const follower = await Follower.create(engine, executor.followed()!);
  let [before, after] = [await copied(engine, executor), await copied(engine, executor)];
  for (const memory of after.values()) memory.tensor.bytes.fill(1);
  const skipped: boolean[] = [];
  for (const [i, factor] of factors.entries()) {
    const step = from + i;
    await accumulate(executor, step, factor);
    const squareSums = await executor.squareSums();
    const gradients = await executor.summed();
    expect([...gradients.keys()]).toEqual([...follower.gradients.keys()]);
    for (const [name, { bytes }] of gradients) follower.gradients.get(name)!.tensor.bytes.set(bytes);
    const begun = [...before.values()].map(({ tensor }) => tensor.bytes.slice());
    skipped.push((await executor.update(step, squareSums)).skipped);
    // Every other step in the place of what it began with.
    const isInPlace = i % 2 === 1;
    await follower.update(step, squareSums, before, isInPlace ? before : after);
    if (!isInPlace) {
      expect([...before.values()].map(({ tensor }) => tensor.bytes)).toEqual(begun);
      [before, after] = [after, before];
    }
    for (const [name, tensor] of await executor.tensors()) {
      expect(before.get(name)!.tensor.bytes, `${name} after step ${step}`).toEqual(tensor.bytes);
    }
  }
  for (const memory of [...before.values(), ...after.values()]) memory.release();
  follower.release();
  executor.release();
  expect(engine.usage()).toEqual(NOTHING);
  return skipped;
}

describe.each(["native", "reference"])("on the %s engine", (name) => {
  const engine = () => engines.find((each) => each.name === name)!;

  test.each(Object.keys(OPTIMIZERS))("%s", async (optimizer) => {
    await followed(engine(), GPT, OPTIMIZERS[optimizer]!, 0, [1, 3, 0.1, 1, 1]);
  });

  test("through a step in which what is too small to matter becomes zero", async () => {
    await followed(engine(), GPT, adamw, 62, [1e-29, 1e-29, 1]);
  });

  test("through steps that are left out because the scaled loss overflowed", async () => {
    const scaled = { ...adamw, lossScale: 1024, lossScaleGrowth: 2 };
    const factors = [1, 1e30, 1, 1, 1e30, 1];
    const skipped = await followed(engine(), GPT, scaled, 0, factors);
    expect(skipped).toEqual([false, true, false, false, true, false]);
  });

  test("where adapters alone are trained", async () => {
    const adapted = lora(GPT, { targets: ["*"], rank: 2, alpha: 4 });
    await followed(engine(), adapted, adamw, 0, [1, 1, 1]);
  });

  test("where parameters are tied", async () => {
    await followed(engine(), tied(), adamw, 0, [1, 1, 1, 1]);
  });
});

/** Two products with the same square matrix, and one of its own between them. */
function tied(): Trainable {
  const b = new GraphBuilder("tied");
  const w = ["first", "between", "second"].map((name) => b.input(name, "f32", [3, 3]));
  let x = b.input("x", "f32", [2, 3]);
  for (const each of w) x = b.op("MatMul", [x, each]);
  b.output(b.op("ReduceSum", [x], { keepdims: 0 }, "loss"));
  return { ...rolesOf(["first", "between", "second"]), ties: { second: "first" }, graph: b.build() };
}

test("a stage whose passes change more than gradients cannot be followed", async () => {
  const executor = await staged(engines[1]!, motley(), adamw);
  expect(executor.followed()).toBeNull();
  executor.release();
});
