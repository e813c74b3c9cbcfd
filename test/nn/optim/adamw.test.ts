/** The optimiser's graphs against AdamW written down plainly, in double precision. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createEngine } from "../../../nn/engine/create.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import type { ValueInfo } from "../../../nn/onnx/graph.ts";
import {
  type AdamWConfig,
  adamwGraph,
  firstMomentName,
  secondMomentName,
  squareSumsGraph,
  updatedName,
} from "../../../nn/optim/adamw.ts";
import { sumName } from "../../../nn/passes/accumulate.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";
import { runGraph } from "../run.ts";

const parameters: ValueInfo[] = [
  { name: "w", dtype: "f32", shape: [3, 4] },
  { name: "b", dtype: "f32", shape: [4] },
  { name: "u", dtype: "f32", shape: [2, 2, 2] },
];
const config: AdamWConfig = {
  learningRate: 0.01,
  warmup: 3,
  steps: 9,
  floor: 0.1,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.3,
  clip: 1,
};

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});
afterAll(() => engine.close());

type State = Record<string, Tensor>;

const start = (chance: Chance): State =>
  Object.fromEntries(
    parameters.flatMap(({ name, shape }) => [
      [name, chance.f32(shape)],
      [firstMomentName(name), Tensor.zeros("f32", shape)],
      [secondMomentName(name), Tensor.zeros("f32", shape)],
    ]),
  );

const gradients = (chance: Chance, scale: number): State =>
  Object.fromEntries(parameters.map(({ name, shape }) => [sumName(name), chance.f32(shape, -scale, scale)]));

/** One update by the graphs; `own` are the parameters of this stage. */
async function update(step: number, state: State, sums: Tensor, adamw: AdamWConfig, own = parameters) {
  const graph = adamwGraph(own, parameters.length, adamw);
  const values = { ...state, step: Tensor.i64([], [step]), square_sums: sums };
  const results = await runGraph(engine, graph, values);
  const next = own.flatMap(({ name }) => [name, firstMomentName(name), secondMomentName(name)]);
  return {
    state: Object.fromEntries(next.map((name) => [name, results[updatedName(name)]!])),
    gradNorm: results.grad_norm!.f32()[0]!,
    rate: results.learning_rate!.f32()[0]!,
  };
}

const squareSums = async (state: State, own = parameters) =>
  (await runGraph(engine, squareSumsGraph(own), state)).square_sums!;

/** The learning rate, said plainly. */
function plainRate(step: number, { learningRate, warmup, steps, floor }: AdamWConfig): number {
  if (step < warmup) return (learningRate * (step + 1)) / warmup;
  const progress = Math.min(1, (step - warmup) / (steps - warmup));
  return learningRate * (floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * progress)));
}

/** AdamW, said plainly: `values` holds p, m and v of each parameter in doubles and is updated. */
function plainUpdate(
  step: number,
  values: Map<string, Float64Array>,
  grads: State,
  adamw: AdamWConfig,
): number {
  const all = parameters.map(({ name }) => Float64Array.from(grads[sumName(name)]!.f32()));
  const norm = Math.sqrt(all.reduce((sum, g) => sum + g.reduce((a, x) => a + x * x, 0), 0));
  const scale = adamw.clip > 0 ? Math.min(1, adamw.clip / (norm + 1e-6)) : 1;
  const rate = plainRate(step, adamw);
  parameters.forEach(({ name, shape }, k) => {
    const [p, m, v] = [name, firstMomentName(name), secondMomentName(name)].map((key) => values.get(key)!);
    for (let i = 0; i < p!.length; i++) {
      const g = all[k]![i]! * scale;
      m![i] = adamw.beta1 * m![i]! + (1 - adamw.beta1) * g;
      v![i] = adamw.beta2 * v![i]! + (1 - adamw.beta2) * g * g;
      const mean = m![i]! / (1 - adamw.beta1 ** (step + 1));
      const square = v![i]! / (1 - adamw.beta2 ** (step + 1));
      if (shape.length >= 2) p![i]! *= 1 - rate * adamw.weightDecay;
      p![i]! -= (rate * mean) / (Math.sqrt(square) + adamw.epsilon);
    }
  });
  return norm;
}

describe("ten steps of warm-up, cosine and floor agree with plain AdamW", () => {
  test.each([
    ["clipped", config],
    ["not clipped, with a clip of 0", { ...config, clip: 0 }],
    ["without warm-up", { ...config, warmup: 0 }],
  ])("%s", async (_, adamw) => {
    const chance = new Chance(4);
    let state = start(chance);
    const plain = new Map(
      Object.entries(state).map(([name, tensor]) => [name, Float64Array.from(tensor.f32())]),
    );
    for (let step = 0; step < 10; step++) {
      // Small and large in turn, so that clipping comes and goes.
      const grads = gradients(chance, step % 2 ? 0.05 : 5);
      const norm = plainUpdate(step, plain, grads, adamw);
      const result = await update(step, { ...state, ...grads }, await squareSums(grads), adamw);
      state = result.state;
      expect(result.gradNorm / norm).toBeCloseTo(1, 5);
      expect(result.rate / plainRate(step, adamw)).toBeCloseTo(1, 6);
      for (const [name, want] of plain) {
        state[name]!.f32().forEach((value, i) => {
          expect(Math.abs(value - want[i]!), `${name}[${i}], step ${step}`).toBeLessThan(
            3e-6 * (1 + Math.abs(want[i]!)),
          );
        });
      }
    }
  });
});

test("vectors are not decayed", async () => {
  const state = start(new Chance(1));
  const zero = Tensor.zeros("f32", [parameters.length]);
  const { state: next } = await update(5, state, zero, config);
  const [before, after] = [state, next].map((values) => (name: string) => [...values[name]!.f32()]) as [
    (name: string) => number[],
    (name: string) => number[],
  ];
  expect(after("b")).toEqual(before("b"));
  for (const name of ["w", "u"]) {
    const keep = 1 - plainRate(5, config) * config.weightDecay;
    after(name).forEach((value, i) => {
      expect(value / before(name)[i]!).toBeCloseTo(keep, 6);
    });
  }
});

test("stages with the sums of all have the update of the whole model, to the bit", async () => {
  const chance = new Chance(9);
  const state = { ...start(chance), ...gradients(chance, 3) };
  const sums = await squareSums(state);
  const whole = await update(4, state, sums, config);
  const [left, right] = [parameters.slice(0, 1), parameters.slice(1)];
  const parts = [await squareSums(state, left), await squareSums(state, right)].flatMap((part) => [
    ...part.f32(),
  ]);
  expect(parts).toEqual([...sums.f32()]);
  const first = await update(4, state, Tensor.f32([3], parts), config, left);
  const second = await update(4, state, Tensor.f32([3], parts), config, right);
  expect({ ...first.state, ...second.state }).toEqual(whole.state);
  expect([first.gradNorm, first.rate]).toEqual([second.gradNorm, second.rate]);
});

test("in place and into other tensors are the same", async () => {
  const chance = new Chance(6);
  const state = { ...start(chance), ...gradients(chance, 3) };
  const sums = await squareSums(state);
  const apart = await update(0, state, sums, config);
  const graph = adamwGraph(parameters, parameters.length, config);
  const executable = await engine.compile(graph);
  const tensors = Object.fromEntries(
    [...graph.inputs, ...graph.outputs.filter(({ name }) => !name.startsWith("new."))].map((info) => [
      info.name,
      engine.allocate(info.dtype, info.shape),
    ]),
  );
  const values: State = { ...state, square_sums: sums, step: Tensor.i64([], [0]) };
  for (const { name } of graph.inputs) tensors[name]!.tensor.bytes.set(values[name]!.bytes);
  const pick = (infos: readonly ValueInfo[], key = (name: string) => name) =>
    Object.fromEntries(infos.map(({ name }) => [name, tensors[key(name)]!]));
  await executable
    .bind(
      pick(graph.inputs),
      pick(graph.outputs, (name) => name.replace(/^new\./, "")),
    )
    .run();
  for (const [name, { bytes }] of Object.entries(apart.state))
    expect(bytes, name).toEqual(tensors[name]!.tensor.bytes);
  for (const held of [executable, ...Object.values(tensors)]) held.release();
});
