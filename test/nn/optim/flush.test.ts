/** Moments that nothing adds to any more become zero, at the same steps however the model is cut. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createEngine } from "../../../nn/engine/create.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { StageExecutor } from "../../../nn/executor.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { flushGraph, isFlushed } from "../../../nn/optim/flush.ts";
import { type OptimizerConfig, stateNames } from "../../../nn/optim/optimizer.ts";
import { cutGraph, findSegments } from "../../../nn/segments.ts";
import { gradientName, trainingGraphs } from "../../../nn/training.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";
import { runGraph } from "../run.ts";

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});
afterAll(() => engine.close());

test("what is negligible becomes zero, and nothing else changes", async () => {
  const values = [1e-31, -1e-31, 1e-45, 0, 1.01e-30, -2e-30, 1, Number.NaN];
  const x = Tensor.f32([8], values);
  const { "new.x": flushed } = await runGraph(engine, flushGraph([{ name: "x", shape: [8] }]), { x });
  expect([...flushed!.f32()]).toEqual([0, 0, 0, 0, ...[...x.f32()].slice(4)]);
});

test("once in 64 steps, from their number alone", () => {
  const flushed = Array.from({ length: 200 }, (_, step) => step).filter(isFlushed);
  expect(flushed).toEqual([63, 127, 191]);
});

/** Three products; the second column of x is zero, so the second row of w0 gets no gradient. */
const b = new GraphBuilder("line");
let y = b.input("x", "f32", [3, 2]);
const shapes = { w0: [2, 3], w1: [3, 3], w2: [3, 2] };
for (const [name, shape] of Object.entries(shapes)) {
  y = b.op("Tanh", [b.op("Gemm", [y, b.input(name, "f32", shape), b.input(`b${name}`, "f32", [shape[1]!])])]);
}
b.output(b.op("ReduceMean", [y], { keepdims: 0 }, "loss"));
const graph = b.build();
const parameters = graph.inputs.filter(({ name }) => name !== "x");
const segments = findSegments(graph, new Set(parameters.map(({ name }) => name)));
const x = Tensor.f32([3, 2], [1, 0, 2, 0, -1, 0]);

const common = { learningRate: 0.01, warmup: 0, steps: 100, floor: 0.1, weightDecay: 0, clip: 1 };
const moments = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8 };
const OPTIMIZERS: Readonly<Record<string, OptimizerConfig>> = {
  sgd: { ...common, kind: "sgd", momentum: 0.9, nesterov: false },
  adamw: { ...common, ...moments },
  lion: { ...common, kind: "lion", beta1: 0.9, beta2: 0.98 },
  muon: { ...common, ...moments, kind: "muon", momentum: 0.95 },
};

/** Trains from step 62 to 64, from moments of 1e-33; the whole state after each. */
async function train(optimizer: OptimizerConfig, bounds: readonly number[]) {
  const chance = new Chance(3);
  const values = new Map<string, Tensor>();
  for (const info of parameters) {
    values.set(info.name, chance.f32(info.shape));
    for (const name of stateNames(optimizer, info)) {
      const decayed = Tensor.zeros("f32", info.shape);
      decayed.f32().fill(1e-33);
      values.set(name, decayed);
    }
  }
  const stages: StageExecutor[] = [];
  for (const [i, from] of bounds.entries()) {
    const to = bounds[i + 1] ?? segments.length;
    const graphs = trainingGraphs(
      cutGraph(graph, segments, from, to),
      (name) => name !== "x" && values.has(name),
      {
        ...{ input: segments[from]!.input, output: segments[to - 1]!.output },
        ...{ microBatches: 1, recompute: false },
      },
    );
    const options = { slots: 1, optimizer, totalParameters: parameters.length };
    stages.push(await StageExecutor.create(engine, graphs, options));
    await stages[i]!.load(values);
  }
  const states: Record<string, readonly number[]>[] = [];
  for (const step of [62, 63, 64]) {
    stages[0]!.write(0, "x", x);
    for (const [i, stage] of stages.entries()) {
      const { input, output } = stage.graphs;
      if (input !== null) stage.write(0, input, stages[i - 1]!.value(0, input));
      await (output === null ? stage.joint(0) : stage.forward(0));
    }
    for (let i = stages.length - 2; i >= 0; i--) {
      const gradient = gradientName(stages[i]!.graphs.output!);
      stages[i]!.write(0, gradient, stages[i + 1]!.value(0, gradient));
      await stages[i]!.backward(0);
    }
    const sums: number[] = [];
    for (const stage of stages) sums.push(...(await stage.squareSums()));
    const state: Record<string, readonly number[]> = {};
    for (const stage of stages) {
      await stage.update(step, Float32Array.from(sums));
      for (const [name, tensor] of await stage.tensors()) state[name] = [...tensor.f32()];
    }
    states.push(state);
  }
  for (const stage of stages) stage.release();
  expect(Object.values(engine.usage())).toEqual([0, 0, 0, 0]);
  return states;
}

describe.each(Object.entries(OPTIMIZERS))("%s", (_, optimizer) => {
  test("forgets long decayed moments at step 63, with the same bits on one stage and three", async () => {
    const states = await train(optimizer, [0]);
    expect(await train(optimizer, [0, 1, 2])).toEqual(states);
    for (const name of stateNames(optimizer, { name: "w0", shape: shapes.w0 })) {
      const [before, at, after] = states.map((state) => state[name]!);
      const unseen = (values: readonly number[]) => values.slice(3);
      expect(unseen(before!).every((value) => value > 0 && value < 1e-33)).toBe(true);
      expect(unseen(at!)).toEqual([0, 0, 0]);
      expect(unseen(after!)).toEqual([0, 0, 0]);
      expect(at!.slice(0, 3).every((value) => value !== 0)).toBe(true);
    }
  });
});
