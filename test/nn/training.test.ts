/**
 * Cutting, stashing, recomputing and adding up in place change when and where things are computed, and not one bit
 * of what comes out.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { availableEngines, createEngine } from "../../nn/engine/create.ts";
import type { Engine } from "../../nn/engine/engine.ts";
import { StageExecutor } from "../../nn/executor.ts";
import { gptGraph, gptParameters } from "../../nn/models/gpt.ts";
import { gptInitial } from "../../nn/models/init.ts";
import { GraphBuilder } from "../../nn/onnx/builder.ts";
import type { Graph } from "../../nn/onnx/graph.ts";
import { decodeModel, encodeModel } from "../../nn/onnx/proto.ts";
import { DEFAULT_ADAMW } from "../../nn/optim/adamw.ts";
import { accumulatorName, sumName } from "../../nn/passes/accumulate.ts";
import { cutGraph, findSegments } from "../../nn/segments.ts";
import { gradientName, type StageGraphs, trainingGraphs } from "../../nn/training.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { Chance } from "./engine/operator-cases.ts";
import { chain, deadNodes, randomValues, runGraph } from "./run.ts";

const config = { layers: 2, width: 32, heads: 4, context: 8, vocabulary: 32 };
const [BATCH, MICRO_BATCHES, STEPS] = [2, 4, 3];
const parameters = gptParameters(config);
const names = parameters.map(({ name }) => name);
const initial = new Map(
  parameters.map(({ name, shape }) => [name, gptInitial(7, name, shape, config.layers)] as const),
);
const graph = gptGraph(config, BATCH, config.context, "loss");
const segments = findSegments(graph, new Set(names));
const optimizer = { ...DEFAULT_ADAMW, steps: STEPS, warmup: 1, clip: 0.5 };

/** ids and targets of each micro-batch of each step. */
const chance = new Chance(11);
const data = Array.from({ length: STEPS * MICRO_BATCHES }, () => ({
  ids: chance.i64([config.context, BATCH], 0, 31),
  targets: chance.i64([config.context * BATCH], 0, 31),
}));

function stagesOf(
  bounds: readonly number[],
  recompute: boolean,
  microBatches = MICRO_BATCHES,
): StageGraphs[] {
  return bounds.map((from, i) => {
    const to = bounds[i + 1] ?? segments.length;
    return trainingGraphs(cutGraph(graph, segments, from, to), (name) => initial.has(name), {
      input: segments[from]!.input,
      output: segments[to - 1]!.output,
      microBatches,
      recompute,
    });
  });
}

/** Losses of all micro-batches, and a digest of the state after each step; the first moments hold the gradients. */
async function train(engine: Engine, stages: readonly StageGraphs[]) {
  const executors: StageExecutor[] = [];
  for (const stage of stages) {
    const options = { slots: 1, optimizer, totalParameters: names.length };
    const executor = await StageExecutor.create(engine, stage, options);
    await executor.load(initial);
    executors.push(executor);
  }
  const losses: number[] = [];
  const states: string[] = [];
  for (let step = 0; step < STEPS; step++) {
    for (let m = 0; m < MICRO_BATCHES; m++) {
      losses.push(await microBatch(executors, data[step * MICRO_BATCHES + m]!));
    }
    const sums: number[] = [];
    for (const executor of executors) sums.push(...(await executor.squareSums()));
    for (const executor of executors) await executor.update(step, Float32Array.from(sums));
    const digest = new Bun.CryptoHasher("sha256");
    for (const executor of executors) {
      for (const [name, tensor] of await executor.tensors())
        digest.update(name).update(Uint8Array.from(tensor.bytes));
    }
    states.push(digest.digest("hex"));
  }
  for (const executor of executors) executor.release();
  expect(engine.usage()).toEqual({ tensors: 0, tensorBytes: 0, executables: 0, bindings: 0 });
  return { losses, states };
}

/** One micro-batch down the pipeline and back; its loss. */
async function microBatch(executors: readonly StageExecutor[], batch: Readonly<Record<string, Tensor>>) {
  const put = (executor: StageExecutor, name: string, { bytes }: Tensor) =>
    executor.value(0, name).bytes.set(bytes);
  for (const [i, executor] of executors.entries()) {
    const { input, output, evaluate } = executor.graphs;
    if (input !== null) put(executor, input, executors[i - 1]!.value(0, input));
    for (const { name } of evaluate.inputs) if (batch[name]) put(executor, name, batch[name]);
    await (output === null ? executor.joint(0) : executor.forward(0));
  }
  for (let i = executors.length - 2; i >= 0; i--) {
    const gradient = gradientName(executors[i]!.graphs.output!);
    put(executors[i]!, gradient, executors[i + 1]!.value(0, gradient));
    await executors[i]!.backward(0);
  }
  return executors.at(-1)!.value(0, "loss").f32()[0]!;
}

/** Every way to cut into at most three stages, by the first segments of the stages. */
const cuts = [[0]];
for (let i = 1; i < segments.length; i++) {
  cuts.push([0, i]);
  for (let j = i + 1; j < segments.length; j++) cuts.push([0, i, j]);
}

const available = new Set((await availableEngines()).map(({ name }) => name));
if (!available.has("native"))
  console.warn("training on the native engine: skipped, it does not work on this machine");

describe.skipIf(!available.has("native"))("on the native engine", () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await createEngine({ engine: "native" });
  });
  afterAll(() => engine.close());

  test(`all ${cuts.length} cuts into one, two and three stages, stashed or recomputed, give the same bits`, async () => {
    const whole = await train(engine, stagesOf([0], false));
    expect(new Set(whole.losses).size).toBe(STEPS * MICRO_BATCHES);
    expect(new Set(whole.states).size).toBe(STEPS);
    for (const bounds of cuts.slice(1)) {
      for (const recompute of [false, true]) {
        expect(await train(engine, stagesOf(bounds, recompute)), `${bounds} ${recompute}`).toEqual(whole);
      }
    }
  }, 180_000);

  test("a cut graph that went through a file is the same", async () => {
    const through = stagesOf([0, 3], false).map((_, i) => {
      const [from, to] = i === 0 ? [0, 3] : [3, segments.length];
      const part = decodeModel(encodeModel(cutGraph(graph, segments, from!, to!)));
      return trainingGraphs(part, (name) => initial.has(name), {
        input: segments[from!]!.input,
        output: segments[to! - 1]!.output,
        microBatches: MICRO_BATCHES,
        recompute: false,
      });
    });
    expect(await train(engine, through)).toEqual(await train(engine, stagesOf([0], false)));
  });

  test("adding up in place is the same as adding into another tensor", async () => {
    const { joint } = stagesOf([0], false)[0]!;
    const values: Record<string, Tensor> = { ...Object.fromEntries(initial), ...data[0]! };
    for (const { name, shape } of parameters) values[accumulatorName(name)] = chance.f32(shape, -0.1, 0.1);
    const apart = await runGraph(engine, joint!, values);
    const executable = await engine.compile(joint!);
    const tensors = Object.fromEntries(
      joint!.inputs.map(({ name, dtype, shape }) => [name, engine.allocate(dtype, shape)]),
    );
    for (const { name } of joint!.inputs) tensors[name]!.tensor.bytes.set(values[name]!.bytes);
    const loss = engine.allocate("f32", []);
    const sums = Object.fromEntries(names.map((name) => [sumName(name), tensors[accumulatorName(name)]!]));
    await executable.bind(tensors, { ...sums, loss }).run();
    for (const name of names) {
      expect(apart[sumName(name)]!.bytes, name).toEqual(sums[sumName(name)]!.tensor.bytes);
    }
    for (const held of [executable, loss, ...Object.values(tensors)]) held.release();
  });

  test("the gradient of the mean over micro-batches is that of the whole batch", async () => {
    const columns = (name: "ids" | "targets") =>
      Tensor.i64(
        name === "ids" ? [config.context, BATCH * MICRO_BATCHES] : [config.context * BATCH * MICRO_BATCHES],
        Array.from({ length: config.context }, (_, t) =>
          data
            .slice(0, MICRO_BATCHES)
            .flatMap((batch) => [...batch[name].i64().slice(t * BATCH, (t + 1) * BATCH)]),
        )
          .flat()
          .map(Number),
      );
    const whole = gptGraph(config, BATCH * MICRO_BATCHES, config.context, "loss");
    const options = { input: null, output: null, recompute: false };
    const once = trainingGraphs(whole, (name) => initial.has(name), { ...options, microBatches: 1 }).joint!;
    const expected = await runGraph(engine, once, {
      ...Object.fromEntries(initial),
      ids: columns("ids"),
      targets: columns("targets"),
    });
    const { joint } = stagesOf([0], false)[0]!;
    let sums: Record<string, Tensor> = {};
    for (const batch of data.slice(0, MICRO_BATCHES)) {
      const accumulated = names.flatMap((name) => {
        const sum = sums[sumName(name)];
        return sum ? [[accumulatorName(name), sum] as const] : [];
      });
      sums = await runGraph(engine, joint!, {
        ...Object.fromEntries([...initial, ...accumulated]),
        ...batch,
      });
    }
    // Beside the largest of all: some are zero in exact arithmetic (a key's bias moves all scores of a row alike).
    const largest = Math.max(
      ...names.map((name) => expected[sumName(name)]!.f32().reduce((a, b) => Math.max(a, Math.abs(b)), 0)),
    );
    for (const name of names) {
      const [got, want] = [sums[sumName(name)]!.f32(), expected[sumName(name)]!.f32()];
      const error = want.reduce((a, b, i) => Math.max(a, Math.abs(b - got[i]!)), 0);
      expect(error / largest, name).toBeLessThan(1e-5);
    }
  });
});

test("a chain of products and Gelu, cut between the pairs that are rewritten together, has the bits of the whole", async () => {
  const engine = await createEngine();
  const mlp = chain([6, 8, 7, 9, 5, 4], "Gelu");
  const pieces = findSegments(mlp.graph, mlp.parameters);
  expect(pieces.length).toBe(3);
  const forward = (from: number, to: number) => {
    const [input, output] = [pieces[from]!.input, pieces[to - 1]!.output ?? mlp.graph.outputs[0]!.name];
    const options = { input, output, microBatches: 1, recompute: false };
    return trainingGraphs(cutGraph(mlp.graph, pieces, from, to), (name) => mlp.parameters.has(name), options)
      .evaluate;
  };
  const values = randomValues(mlp.graph, new Chance(2), 1);
  const whole = await runGraph(engine, forward(0, 3), values);
  const known = { ...values };
  for (const i of [0, 1, 2]) Object.assign(known, await runGraph(engine, forward(i, i + 1), known));
  expect(known).toMatchObject(whole);
  await engine.close();
});

test("on the reference engine, three stages give the bits of one", async () => {
  const engine = await createEngine({ engine: "reference" });
  const whole = await train(engine, stagesOf([0], false));
  expect(await train(engine, stagesOf([0, 2, 4], false))).toEqual(whole);
  await engine.close();
}, 120_000);

describe("the graphs of a stage", () => {
  const [first, last] = stagesOf([0, 3], false) as [StageGraphs, StageGraphs];
  const [frugal] = stagesOf([0, 3], true) as [StageGraphs];
  const all = (graphs: StageGraphs) =>
    [graphs.forward, graphs.backward, graphs.joint, graphs.evaluate].filter((graph) => graph !== null);
  const inputs = (graph: Graph) => graph.inputs.map(({ name }) => name);
  const outputs = (graph: Graph) => graph.outputs.map(({ name }) => name);

  test("compute nothing in vain", () => {
    for (const graphs of [first, last, frugal])
      for (const graph of all(graphs)) expect(deadNodes(graph)).toEqual([]);
  });

  test("take and give what the pipeline passes on", () => {
    const cut = segments[3]!.input!;
    expect([first.input, first.output, last.input, last.output]).toEqual([null, cut, cut, null]);
    expect(outputs(first.forward!)[0]).toBe(cut);
    expect(inputs(first.backward!)).toContain(gradientName(cut));
    expect(outputs(last.joint!)).toEqual([
      "loss",
      ...last.parameters.map(({ name }) => sumName(name)),
      gradientName(cut),
    ]);
    expect([last.forward, last.backward, first.joint]).toEqual([null, null, null]);
  });

  test("hand the stash from forward to backward, or redo it", () => {
    expect(first.stash.length).toBeGreaterThan(0);
    for (const { name } of first.stash) {
      expect(outputs(first.forward!)).toContain(name);
      expect(inputs(first.backward!)).toContain(name);
    }
    expect(frugal.stash).toEqual([]);
    expect(outputs(frugal.forward!)).toEqual([segments[3]!.input!]);
    expect(inputs(frugal.backward!)).toContain("ids");
    expect(frugal.backward!.nodes.length).toBeGreaterThan(first.backward!.nodes.length);
  });

  test("of a stage that only adds still have a gradient of their own to pass on", async () => {
    const b = new GraphBuilder("add");
    b.output(b.op("Add", [b.input("h", "f32", [2]), b.input("p", "f32", [2])], {}, "y"));
    const options = { input: "h", output: "y", microBatches: 1, recompute: false };
    const { backward } = trainingGraphs(b.build(), (name) => name === "p", options);
    expect(outputs(backward!)).toEqual([sumName("p"), gradientName("h")]);
    const engine = await createEngine({ engine: "reference" });
    const values = {
      [gradientName("y")]: Tensor.f32([2], [1, 2]),
      [accumulatorName("p")]: Tensor.f32([2], [10, 10]),
    };
    const results = await runGraph(engine, backward!, values);
    expect([...results[sumName("p")]!.f32()]).toEqual([11, 12]);
    expect([...results[gradientName("h")]!.f32()]).toEqual([1, 2]);
  });
});
