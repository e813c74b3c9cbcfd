/** Every optimiser against PyTorch's (or its paper's formula in PyTorch), the schedules, and scaled losses. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createEngine } from "../../../nn/engine/create.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { StageExecutor } from "../../../nn/executor.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import type { ValueInfo } from "../../../nn/onnx/graph.ts";
import { LOSS_SCALE } from "../../../nn/optim/loss-scale.ts";
import {
  type OptimizerConfig,
  optimizerGraph,
  stateNames,
  updatedName,
} from "../../../nn/optim/optimizer.ts";
import { type Decay, learningRate } from "../../../nn/optim/schedule.ts";
import { squareSumsGraph } from "../../../nn/optim/square-sums.ts";
import { sumName } from "../../../nn/passes/accumulate.ts";
import { trainingGraphs } from "../../../nn/training.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import fixture from "../../fixtures/optimizers.json";
import { failure } from "../../runtime/world.ts";
import { runGraph } from "../run.ts";

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});
afterAll(() => engine.close());

const decay: Decay = "constant";
const common = {
  learningRate: fixture.rate,
  ...{ warmup: 0, steps: 10, floor: 0, decay, clip: 0 },
  weightDecay: fixture.decay,
};
const moments = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8 };
const CONFIGS: Readonly<Record<keyof typeof fixture.after, OptimizerConfig>> = {
  sgd: { ...common, kind: "sgd", momentum: 0, nesterov: false },
  momentum: { ...common, kind: "sgd", momentum: 0.9, nesterov: false },
  nesterov: { ...common, kind: "sgd", momentum: 0.9, nesterov: true },
  adamw: { ...common, ...moments },
  lion: { ...common, kind: "lion", beta1: 0.9, beta2: 0.98 },
  muon: { ...common, ...moments, kind: "muon", momentum: 0.95 },
};
const parameters = Object.entries(fixture.shapes).map(
  ([name, shape]): ValueInfo => ({ name, dtype: "f32", shape }),
);
type Name = keyof typeof fixture.shapes;
const given = (values: Readonly<Record<Name, number[]>>, rename = (name: string) => name, factor = 1) =>
  Object.fromEntries(
    parameters.map(({ name, shape }) => [
      rename(name),
      Tensor.f32(
        shape,
        values[name as Name].map((value) => value * factor),
      ),
    ]),
  );

/** All of the fixture's steps, with gradients times `factor`. */
async function train(config: OptimizerConfig, factor = 1): Promise<Record<string, Tensor>> {
  let state: Record<string, Tensor> = given(fixture.start);
  const graph = optimizerGraph(parameters, parameters.length, config);
  for (const [step, gradients] of fixture.gradients.entries()) {
    const sums = given(gradients, sumName, factor);
    const { square_sums } = await runGraph(engine, squareSumsGraph(parameters), sums);
    const scalars = { step: Tensor.i64([], [step]), loss_scale: Tensor.f32([], [factor]) };
    const values = { ...state, ...sums, ...scalars, square_sums: square_sums! };
    const results = await runGraph(engine, graph, values);
    const names = parameters.flatMap((info) => [info.name, ...stateNames(config, info)]);
    state = Object.fromEntries(names.map((name) => [name, results[updatedName(name)]!]));
  }
  return state;
}

function expectClose(state: Readonly<Record<string, Tensor>>, want: Readonly<Record<string, number[]>>) {
  for (const [name, values] of Object.entries(want)) {
    state[name]!.f32().forEach((value, i) => {
      expect(Math.abs(value - values[i]!), `${name}[${i}]`).toBeLessThan(1e-5 * (1 + Math.abs(values[i]!)));
    });
  }
}

describe.each(Object.entries(CONFIGS))("%s", (name, config) => {
  const want = fixture.after[name as keyof typeof fixture.after];
  test("has PyTorch's parameters after six steps", async () => expectClose(await train(config), want));
  test("has them too when the loss was scaled", async () =>
    expectClose(await train({ ...config, lossScale: 1024 }, 1024), want));
});

test.each(Object.entries(CONFIGS))(
  "%s updates the weights of one tap as it does a matrix of them",
  async (name, config) => {
    const after = async (shape: readonly number[]) => {
      const graph = optimizerGraph([{ name: "p", dtype: "f32", shape }], 1, config);
      const spread = (factor: number) =>
        Tensor.f32(
          shape,
          Array.from({ length: 6 }, (_, i) => factor * (i - 2.3)),
        );
      const values = { p: spread(1), [sumName("p")]: spread(-0.7), square_sums: Tensor.f32([1], [4]) };
      return (await runGraph(engine, graph, values))[updatedName("p")]!.f32();
    };
    // Muon takes matrices by their shape, and tensors of more axes as AdamW does.
    const same = name === "muon" ? [3, 2, 1] : [3, 2];
    expect(await after([3, 2, 1, 1])).toEqual(await after(same));
  },
);

test.each([
  ["cosine", [0.5, 1, 1, 0.775, 0.325, 0.1, 0.1]],
  ["linear", [0.5, 1, 1, 0.7, 0.4, 0.1, 0.1]],
  ["constant", [0.5, 1, 1, 1, 1, 1, 1]],
] as const)("a %s learning rate", async (decay, rates) => {
  const b = new GraphBuilder("rate");
  const config = { learningRate: 1, warmup: 2, steps: 5, floor: 0.1, decay };
  b.output(learningRate(b, b.op("Cast", [b.input("step", "i64", [])], { to: 11 }), config));
  const graph = b.build();
  for (const [step, rate] of rates.entries()) {
    const values = await runGraph(engine, graph, { step: Tensor.i64([], [step]) });
    const { bytes } = Object.values(values)[0]!;
    expect(new Float64Array(bytes.slice().buffer)[0]).toBeCloseTo(rate, 12);
  }
});

describe("a dynamic loss scale", () => {
  /** loss = Σ x·p, whose gradient is x times the scale. */
  async function executor(lossScale: number, lossScaleGrowth: number): Promise<StageExecutor> {
    const b = new GraphBuilder("line");
    const product = b.op("Mul", [b.input("x", "f32", [2]), b.input("p", "f32", [2])]);
    b.output(b.op("ReduceSum", [product], { keepdims: 0 }, "loss"));
    const options = { input: null, output: null, microBatches: 2, recompute: false, scaledLoss: true };
    const graphs = trainingGraphs(b.build(), (name) => name === "p", options);
    const optimizer = { ...CONFIGS.sgd, lossScale, lossScaleGrowth };
    const made = await StageExecutor.create(engine, graphs, {
      ...{ slots: 1, optimizer, totalParameters: 1, microBatches: 2 },
    });
    await made.load(new Map([["p", Tensor.f32([2], [0, 0])]]));
    return made;
  }
  async function step(stage: StageExecutor, at: number, x: number) {
    for (let m = 0; m < 2; m++) {
      stage.value(0, "x").f32().fill(x);
      await stage.joint(0);
    }
    return stage.update(at, await stage.squareSums());
  }

  test("leaves out a step that overflows and halves, and doubles after steps that do not", async () => {
    const stage = await executor(8, 2);
    const scale = async () => (await stage.tensors()).get(LOSS_SCALE)!.f32()[0];
    expect(await step(stage, 0, 3)).toMatchObject({ skipped: false });
    expect((await stage.tensors()).get("p")!.f32()[0]).toBeCloseTo(-3 * fixture.rate, 6);
    expect(await step(stage, 1, 1e38)).toEqual({ gradNorm: 0, learningRate: 0, skipped: true });
    expect(await scale()).toBe(4);
    expect((await stage.tensors()).get("p")!.f32()[0]).toBeCloseTo(-3 * fixture.rate, 6);
    await step(stage, 2, 1);
    await step(stage, 3, 1);
    expect(await scale()).toBe(8);
    expect((await stage.tensors()).get("p")!.f32()[0]).toBeCloseTo(-5 * fixture.rate, 6);
    stage.release();
  });

  test("that is static cannot answer an overflow: the parameter is named, and nothing has changed", async () => {
    const stage = await executor(8, 0);
    const { code, message } = await failure(step(stage, 4, Number.NaN));
    expect([code, message]).toEqual([
      ...["DIVERGED", "the gradient of p of step 5 is NaN: lower the learning rate"],
    ]);
    expect([...(await stage.tensors()).get("p")!.f32()]).toEqual([0, 0]);
    stage.release();
  });
});
