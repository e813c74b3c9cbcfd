import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Engine, EngineError } from "../../nn/engine/engine.ts";
import { createReferenceEngine } from "../../nn/engine/reference/reference.ts";
import { type ExecutorOptions, StageExecutor } from "../../nn/executor.ts";
import { rolesOf } from "../../nn/model.ts";
import { gptGraph, gptParameters } from "../../nn/models/gpt.ts";
import { GraphBuilder } from "../../nn/onnx/builder.ts";
import { DEFAULT_ADAMW } from "../../nn/optim/adamw.ts";
import { profileModel } from "../../nn/profile.ts";
import { gradientName, type StageGraphs, trainingGraphs } from "../../nn/training.ts";
import { Tensor, TensorError } from "../../protocols/tensor.ts";
import { LocalRanks } from "../actors/collectives/local.ts";
import { failure } from "../runtime/world.ts";
import { motley } from "./motley.ts";

const optimizer = { ...DEFAULT_ADAMW, steps: 10 };
const options: ExecutorOptions = { slots: 2, optimizer, totalParameters: 2 };
const NOTHING = { tensors: 0, tensorBytes: 0, executables: 0, bindings: 0 };

/** loss = Σ (x·w + b), over x f32 [2, 2]; or, without the loss, the product alone. */
function stage(withLoss: boolean): StageGraphs {
  const b = new GraphBuilder("line");
  const [x, w, c] = [b.input("x", "f32", [2, 2]), b.input("w", "f32", [2, 3]), b.input("b", "f32", [3])];
  const y = b.op("Gemm", [x, w, c], {}, "y");
  b.output(withLoss ? b.op("ReduceSum", [y], { keepdims: 0 }, "loss") : y);
  return trainingGraphs(b.build(), (name) => name === "w" || name === "b", {
    input: null,
    output: withLoss ? null : "y",
    microBatches: 1,
    recompute: false,
  });
}

const weights = new Map([
  ["w", Tensor.f32([2, 3], [1, 2, 3, 4, 5, 6])],
  ["b", Tensor.f32([3], [0, 0, 0])],
]);

let engine: Engine;
beforeAll(() => {
  engine = createReferenceEngine();
});
afterAll(() => engine.close());

/** An executor with its weights loaded, released after `use`. */
async function using(graphs: StageGraphs, use: (executor: StageExecutor) => Promise<void>): Promise<void> {
  const executor = await StageExecutor.create(engine, graphs, options);
  try {
    await executor.load(weights);
    await use(executor);
  } finally {
    executor.release();
  }
  expect(engine.usage()).toEqual(NOTHING);
}

describe("StageExecutor", () => {
  test("adds up gradients over slots, updates and clears; then nothing is left in the engine", () =>
    using(stage(true), async (executor) => {
      for (const slot of [0, 1]) {
        executor.value(slot, "x").f32().set([1, 2, 3, 4]);
        await executor.joint(slot);
        expect(executor.value(slot, "loss").f32()[0]).toBe(9 + 12 + 15 + 19 + 26 + 33);
      }
      // d loss/dw is the column sums of x, 4 and 6; d loss/db is 2; each twice.
      expect([...(await executor.squareSums())]).toEqual([3 * (8 ** 2 + 12 ** 2), 3 * 4 ** 2]);
      const { gradNorm, learningRate } = await executor.update(0, await executor.squareSums());
      expect(gradNorm).toBeCloseTo(Math.sqrt(3 * (64 + 144 + 16)), 4);
      expect(learningRate).toBeCloseTo(optimizer.learningRate / optimizer.warmup, 9);
      expect((await executor.tensors()).get("b")!.f32()[0]).toBeCloseTo(
        -optimizer.learningRate / optimizer.warmup,
        8,
      );
      expect([...(await executor.squareSums())]).toEqual([0, 0]);
    }));

  test("members to whom micro-batches are dealt have the gradients of all when they are reduced", async () => {
    const { collectives } = new LocalRanks(2);
    const executors = await Promise.all(
      collectives.map(() => StageExecutor.create(engine, stage(true), options)),
    );
    try {
      for (const [rank, executor] of executors.entries()) {
        await executor.load(weights);
        executor
          .value(0, "x")
          .f32()
          .set([1, 2, 3, 4].map((x) => x * 10 ** rank));
        await executor.joint(0);
      }
      await Promise.all(executors.map((executor, rank) => executor.reduce("step 0", collectives[rank]!)));
      for (const executor of executors) {
        expect([...(await executor.gradient("w")).f32()]).toEqual([44, 44, 44, 66, 66, 66]);
        expect([...(await executor.squareSums())]).toEqual([3 * (44 ** 2 + 66 ** 2), 3 * 4 ** 2]);
        expect(executor.evaluates("x")).toBe(true);
        expect(executor.evaluates("y")).toBe(false);
      }
    } finally {
      for (const executor of executors) executor.release();
    }
  });

  test("updates every parameter of a stage that has more than one graph holds", async () => {
    const names = Array.from({ length: 300 }, (_, i) => `b${i}`);
    const b = new GraphBuilder("many");
    let sum = b.input("x", "f32", [2]);
    for (const name of names) sum = b.op("Add", [sum, b.input(name, "f32", [2])]);
    b.output(b.op("ReduceSum", [sum], { keepdims: 0 }, "loss"));
    const stageOptions = { input: null, output: null, microBatches: 1, recompute: false };
    const graphs = trainingGraphs(b.build(), (name) => name !== "x", stageOptions);
    const executor = await StageExecutor.create(engine, graphs, { ...options, totalParameters: 300 });
    await executor.joint(0);
    const { gradNorm } = await executor.update(0, await executor.squareSums());
    expect(gradNorm).toBeCloseTo(Math.sqrt(600), 4);
    // Each has the same gradient, and AdamW's first step is the learning rate.
    const tensors = await executor.tensors();
    const values = names.flatMap((name) => [...tensors.get(name)!.f32()]);
    const first = values[0]!;
    expect(first).toBeCloseTo(-optimizer.learningRate / optimizer.warmup, 8);
    expect(values).toEqual(new Array(600).fill(first));
    executor.release();
    expect(engine.usage()).toEqual(NOTHING);
  });

  test("takes inputs of the right type only", () =>
    using(stage(true), async (executor) => {
      const wrong = new TensorError("x: expected f32[2,2], got f32[4]");
      const flat = Tensor.f32([4], [1, 2, 3, 4]);
      expect(() => executor.write(0, "x", flat)).toThrow(wrong);
      await expect(executor.evaluate({ x: flat })).rejects.toThrow(wrong);
      await expect(executor.evaluate({ y: flat })).rejects.toThrow('stage line has no input "y"');
      executor.write(0, "x", Tensor.f32([2, 2], [1, 2, 3, 4]));
      expect([...executor.value(0, "x").f32()]).toEqual([1, 2, 3, 4]);
    }));

  test("forgets the gradients of a step that failed", () =>
    using(stage(true), async (executor) => {
      executor.value(0, "x").f32().fill(1);
      await executor.joint(0);
      expect((await executor.squareSums())[0]).toBeGreaterThan(0);
      await executor.clearGradients();
      expect([...(await executor.squareSums())]).toEqual([0, 0]);
    }));

  test("keeps slots apart between forward and backward", () =>
    using(stage(false), async (executor) => {
      for (const slot of [0, 1]) {
        executor
          .value(slot, "x")
          .f32()
          .fill(slot + 1);
        await executor.forward(slot);
      }
      expect([...executor.value(0, "y").f32()]).toEqual([5, 7, 9, 5, 7, 9]);
      expect([...executor.value(1, "y").f32()]).toEqual([10, 14, 18, 10, 14, 18]);
      executor.value(0, gradientName("y")).f32().fill(1);
      await executor.backward(0);
      expect([...(await executor.squareSums())]).toEqual([6 * 2 ** 2, 3 * 2 ** 2]);
    }));

  test("evaluates beside training, without touching a slot", () =>
    using(stage(true), async (executor) => {
      executor.value(0, "x").f32().fill(7);
      const loss = await executor.evaluate({ x: Tensor.f32([2, 2], [1, 2, 3, 4]) });
      expect(loss.f32()[0]).toBe(114);
      expect([...executor.value(0, "x").f32()]).toEqual([7, 7, 7, 7]);
      expect([...(await executor.squareSums())]).toEqual([0, 0]);
    }));

  test("loads moments where they are given, and views show the state", () =>
    using(stage(true), async (executor) => {
      await executor.load(
        new Map([
          ...weights,
          ["m.w", Tensor.f32([2, 3], [9, 9, 9, 9, 9, 9])],
          ["other", Tensor.f32([], [1])],
        ]),
      );
      expect([...(await executor.tensors()).keys()]).toEqual(["w", "m.w", "v.w", "b", "m.b", "v.b"]);
      expect((await executor.tensors()).get("m.w")!.f32()[0]).toBe(9);
      expect((await executor.tensors()).get("v.w")!.f32()[0]).toBe(0);
    }));

  test("refuses weights that are missing or of another type by name, and then loads none", () =>
    using(stage(true), async (executor) => {
      const wrong = async (entries: [string, Tensor][]) =>
        (await failure(executor.load(new Map(entries)))).message;
      const zeros = Tensor.zeros("f32", [2, 3]);
      expect(await wrong([["w", zeros]])).toBe("parameter b is missing");
      const [long, whole] = [Tensor.zeros("f32", [4]), Tensor.zeros("i64", [3])];
      expect(await wrong(Object.entries({ w: zeros, b: long }))).toBe("b: expected f32[3], got f32[4]");
      expect(await wrong(Object.entries({ w: zeros, b: whole }))).toBe("b: expected f32[3], got i64[3]");
      const short = { w: zeros, b: Tensor.zeros("f32", [3]), "v.b": Tensor.zeros("f32", [1]) };
      expect(await wrong(Object.entries(short))).toBe("v.b: expected f32[3], got f32[1]");
      expect([...(await executor.tensors()).get("w")!.f32()]).toEqual([1, 2, 3, 4, 5, 6]);
    }));

  test("refuses what the stage does not have, by name", () =>
    using(stage(true), async (executor) => {
      expect(() => executor.value(0, "z")).toThrow('slot 0 of 2 of stage line has no value "z"');
      expect(() => executor.value(2, "x")).toThrow("slot 2 of 2 of stage line");
      expect(executor.forward(0)).rejects.toThrow("slot 0 of 2 of stage line has no forward run");
      expect(executor.update(0, new Float32Array(3))).rejects.toThrow(
        "one per parameter of the model, 2, got 3",
      );
    }));

  test("that cannot be created leaves nothing in the engine", async () => {
    const graphs = stage(true);
    const unknown = { op: "Unknown", domain: "", inputs: ["x"], outputs: ["loss"], attributes: {} };
    const broken = { ...graphs, joint: { ...graphs.joint!, nodes: [unknown] } };
    expect(await failure(StageExecutor.create(engine, broken, options))).toBeInstanceOf(EngineError);
    expect(engine.usage()).toEqual(NOTHING);
  });

  test("counts kernel time by operator when asked to", async () => {
    let now = 0;
    const timed = createReferenceEngine(() => now++);
    const executor = await StageExecutor.create(timed, stage(true), { ...options, profile: true });
    await executor.joint(0);
    const times = await executor.profile();
    expect(times.get("Gemm")).toBeGreaterThan(0);
    executor.release();
    await timed.close();
  });
});

test("a profile has one entry per segment, equal for equal segments, and leaves nothing", async () => {
  let now = 0;
  const clock = () => now++;
  const timed = createReferenceEngine(clock);
  const config = { layers: 3, width: 8, heads: 2, context: 4, vocabulary: 16 };
  const parameters = new Set(gptParameters(config).map(({ name }) => name));
  const model = gptGraph(config, 2, 4, "loss");
  const { segments: profiles } = await profileModel(
    timed,
    { graph: model, ...rolesOf(parameters) },
    {
      ...{ optimizer, microBatches: 2, budgetMs: 1000, memoryBytes: 2 ** 28 },
      ...{ split: false, sharings: [] },
    },
    clock,
  );
  expect(profiles).toHaveLength(8);
  for (const { forwardMs, backwardMs, stepMs } of profiles) {
    for (const ms of [forwardMs, backwardMs, stepMs]) expect(ms).toBeGreaterThanOrEqual(0);
  }
  expect([profiles[3], profiles[4]]).toEqual([profiles[1]!, profiles[2]!]);
  // Attention keeps at least its input, q, k, v and the weights of two heads over 4 × 4 positions.
  expect(profiles[1]!.stashBytes).toBeGreaterThan(4 * (4 * 8 * 8 + 2 * 2 * 16));
  expect(profiles[0]!.stashBytes).toBe(0);
  expect(timed.usage()).toEqual(NOTHING);
  await timed.close();
});

describe("running statistics", () => {
  const model = motley();
  const graphs = trainingGraphs(model.graph, model, {
    ...{ input: null, output: null, microBatches: 2, recompute: false },
  });
  async function opened(): Promise<StageExecutor> {
    const executor = await StageExecutor.create(engine, graphs, {
      ...{ slots: 1, optimizer, totalParameters: model.parameters.length, seed: 3 },
    });
    const held = [...graphs.parameters, ...graphs.frozen, ...graphs.statistics];
    const values = await Promise.all(
      held.map(async ({ name }): Promise<[string, Tensor]> => [name, await model.initial(name, 1)]),
    );
    await executor.load(new Map(values));
    return executor;
  }
  const ids = Tensor.i64(
    [8, 2],
    Array.from({ length: 16 }, (_, i) => i * 11),
  );
  async function step(executor: StageExecutor, at: number): Promise<Float32Array> {
    await executor.clearGradients();
    for (const microBatch of [0, 1]) {
      executor.place(0, at, microBatch);
      executor.write(0, "ids", ids);
      await executor.joint(0);
    }
    return executor.squareSums();
  }
  const mean = async (executor: StageExecutor) => [...(await executor.tensors()).get("mean")!.f32()];

  test("move with every micro-batch, stay with the step that is committed, and are what validation uses", async () => {
    const executor = await opened();
    const targets = Tensor.zeros("i64", [16]);
    const before = (await executor.evaluate({ ids, targets })).f32()[0]!;
    const first = [...(await step(executor, 0))];
    expect(await mean(executor)).toEqual([0, 0, 0, 0, 0, 0]);
    // Again, from the same statistics and with the same dropout.
    expect([...(await step(executor, 0))]).toEqual(first);
    await executor.update(0, Float32Array.from(first));
    const committed = await mean(executor);
    expect(committed.some((value) => value !== 0)).toBe(true);
    expect((await executor.evaluate({ ids, targets })).f32()[0]!).not.toBe(before);
    await step(executor, 1);
    expect(await mean(executor)).toEqual(committed);
    executor.release();
    expect(engine.usage()).toEqual(NOTHING);
  });

  test("another step drops other elements", async () => {
    const executor = await opened();
    expect([...(await step(executor, 0))]).not.toEqual([...(await step(executor, 1))]);
    executor.release();
  });
});

test("what is held has to be loaded, the frozen too, and a tied parameter may come under its owner's name", async () => {
  const model = motley();
  const graphs = trainingGraphs(model.graph, model, {
    ...{ input: null, output: null, microBatches: 1, recompute: false },
  });
  const executor = await StageExecutor.create(engine, graphs, {
    ...{ slots: 1, optimizer, totalParameters: model.parameters.length },
  });
  const values = new Map<string, Tensor>();
  for (const { name } of [...graphs.parameters, ...graphs.frozen, ...graphs.statistics]) {
    if (name !== "head" && name !== "basis") values.set(name, await model.initial(name, 1));
  }
  expect((await failure(executor.load(values))).message).toBe("frozen value basis is missing");
  await executor.put(values);
  expect(() => executor.requireLoaded()).toThrow("frozen value basis is missing");
  await executor.put(new Map([["basis", await model.initial("basis", 1)]]));
  executor.requireLoaded();
  const { head, embedding, basis } = Object.fromEntries(await executor.tensors());
  expect(head!.bytes).toEqual(embedding!.bytes);
  expect(basis).toBeUndefined();
  executor.release();
});
