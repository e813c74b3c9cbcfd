import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { differentiate } from "../../../nn/autodiff/gradient.ts";
import { availableEngines, createEngine } from "../../../nn/engine/create.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { COUNTERS } from "../../../nn/model.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { extract } from "../../../nn/onnx/extract.ts";
import { type Graph, GraphError } from "../../../nn/onnx/graph.ts";
import { writeDropout } from "../../../nn/passes/dropout.ts";
import { trainingGraphs } from "../../../nn/training.ts";
import { type Shape, Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";
import { runGraph } from "../run.ts";

const YES = new Tensor("bool", [], Uint8Array.of(1));
const NO = new Tensor("bool", [], Uint8Array.of(0));

/** y = Dropout(x), and its mask where asked for. */
function dropoutGraph(shape: Shape, ratio: number, { mask = false, training = YES, name = "y" } = {}): Graph {
  const b = new GraphBuilder("dropout");
  const inputs = [b.input("x", "f32", shape), b.scalar(ratio), b.constant("training", training)];
  const outputs = mask ? [name, "mask"] : [name];
  for (const output of b.node("Dropout", inputs, { outputs })) b.output(output);
  return b.build();
}

const counters = (seed: number | bigint, step = 0, microBatch = 0) =>
  Object.fromEntries(
    [seed, step, microBatch].map((value, i) => [
      COUNTERS[i]!,
      Tensor.i64([], BigInt64Array.of(BigInt(value))),
    ]),
  );

const ones = (shape: Shape) => Tensor.f32(shape, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1));

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});
afterAll(() => engine.close());

/** Which elements of a [ROWS, COLUMNS] input are kept, as +1, the others as −1. */
const [ROWS, COLUMNS] = [512, 1024];
const COUNT = ROWS * COLUMNS;
async function signs(
  ratio: number,
  seed: number,
  step = 0,
  microBatch = 0,
  name = "y",
): Promise<Float32Array> {
  const shape = [ROWS, COLUMNS];
  const graph = writeDropout(dropoutGraph(shape, ratio, { name }));
  const results = await runGraph(engine, graph, { x: ones(shape), ...counters(seed, step, microBatch) });
  return results[name]!.f32().map((y) => (y > 0 ? 1 : -1));
}

describe("a Dropout node written out", () => {
  test("has the same mask on every engine, for any counters", async () => {
    const shape = [7, 5, 48];
    const graph = writeDropout(dropoutGraph(shape, 0.3, { mask: true }));
    const x = new Chance(3).f32(shape);
    const places = [counters(1), counters(2 ** 40 + 3, 17, 5), counters(2 ** 53 - 1, 2 ** 31, 2 ** 20)];
    const on = (own: Engine) => Promise.all(places.map((place) => runGraph(own, graph, { x, ...place })));
    const expected = await on(createReferenceEngine());
    for (const { name } of await availableEngines()) {
      const other = await createEngine({ engine: name });
      try {
        for (const [i, got] of (await on(other)).entries()) {
          expect(got.mask!.bytes, name).toEqual(expected[i]!.mask!.bytes);
          expect(got.y!.f32(), name).toEqual(expected[i]!.y!.f32());
        }
      } finally {
        await other.close();
      }
    }
  });

  test("scales what it keeps, and its mask says what that is", async () => {
    const shape = [40, 30];
    const graph = writeDropout(dropoutGraph(shape, 0.25, { mask: true }));
    const x = new Chance(4).f32(shape, 0.5, 1);
    const { y, mask } = await runGraph(engine, graph, { x, ...counters(9) });
    expect(mask!.dtype).toBe("bool");
    x.f32().forEach((value, i) => {
      expect(y!.f32()[i]).toBeCloseTo(mask!.bytes[i] ? value / 0.75 : 0, 6);
    });
  });

  test("has a gradient through what it keeps, and no other", async () => {
    const shape = [6, 70];
    const graph = writeDropout(dropoutGraph(shape, 0.5));
    const joint = differentiate(graph, { y: "dy" }, ["x"]);
    const dx = joint.gradients.get("x")!;
    const inputs = [...graph.inputs, { name: "dy", dtype: "f32" as const, shape }];
    const both = extract(joint.builder.build(), inputs, ["y", dx]);
    const results = await runGraph(engine, both, { x: ones(shape), dy: ones(shape), ...counters(5) });
    expect(results[dx]!.f32()).toEqual(results.y!.f32());
  });

  test.each([0.1, 0.5, 0.9])("drops a share of %d, everywhere alike", async (ratio) => {
    const kept = await signs(ratio, 1);
    const scores = (group: (i: number) => number, groups: number): number => {
      const sums = new Float64Array(groups);
      kept.forEach((sign, i) => {
        sums[group(i)]! += (sign + 1) / 2 - (1 - ratio);
      });
      const variance = (ratio * (1 - ratio) * COUNT) / groups;
      return sums.reduce((sum, x) => sum + x ** 2 / variance, 0);
    };
    // Chi-squared of n groups: mean n, variance 2n; five standard deviations.
    for (const [group, n] of [
      [() => 0, 1],
      [(i: number) => Math.floor(i / COLUMNS), ROWS],
      [(i: number) => i % COLUMNS, COLUMNS],
    ] as const) {
      expect(Math.abs(scores(group, n) - n)).toBeLessThan(5 * Math.sqrt(2 * n));
    }
  });

  test("draws independently of neighbours, steps, micro-batches, seeds and nodes", async () => {
    const here = await signs(0.5, 42, 7, 1);
    const others = {
      step: await signs(0.5, 42, 8, 1),
      microBatch: await signs(0.5, 42, 7, 2),
      seed: await signs(0.5, 43, 7, 1),
      upperSeed: await signs(0.5, 42 + 2 ** 32, 7, 1),
      node: await signs(0.5, 42, 7, 1, "z"),
    };
    const at = (signs: Float32Array, i: number) => signs[i % COUNT]!;
    const product: Record<string, (i: number) => number> = {};
    for (const [name, other] of Object.entries(others)) {
      product[name] = (i) => at(here, i) * at(other, i);
      product[`${name}, one column on`] = (i) => at(here, i) * at(other, i + 1);
      // Pairs of columns, here and there: what a hash that is too weak lets through first.
      product[`${name}, differences`] = (i) =>
        at(here, i) * at(here, i + 1) * at(other, i) * at(other, i + 1);
    }
    for (const distance of [1, 2, 64, COLUMNS, COLUMNS + 1, 2 * COLUMNS, 128 * COLUMNS]) {
      product[`distance ${distance}`] = (i) => at(here, i) * at(here, i + distance);
    }
    product["three in a row"] = (i) => at(here, i) * at(here, i + 1) * at(here, i + 2);
    product.rectangle = (i) =>
      at(here, i) * at(here, i + 1) * at(here, i + COLUMNS) * at(here, i + COLUMNS + 1);
    for (const [name, of] of Object.entries(product)) {
      let sum = 0;
      for (let i = 0; i < COUNT; i++) sum += of(i);
      expect(Math.abs(sum) / Math.sqrt(COUNT), name).toBeLessThan(4.5);
    }
  });

  test("has no memory of pairs of columns from step to step", async () => {
    // What a row's hash that mixes too little lets through first: pairs that differ alike in neighbouring steps.
    const STEPS = 12;
    const all: Float32Array[] = [];
    for (let step = 0; step <= STEPS; step++) all.push(await signs(0.5, 42, step));
    let scores = 0;
    for (let step = 0; step < STEPS; step++) {
      const [here, next] = [all[step]!, all[step + 1]!];
      let sum = 0;
      for (let i = 0; i + 1 < COUNT; i++) sum += here[i]! * here[i + 1]! * next[i]! * next[i + 1]!;
      scores += sum ** 2 / COUNT;
    }
    expect(Math.abs(scores - STEPS)).toBeLessThan(4 * Math.sqrt(2 * STEPS));
  });

  test("is cut from the rest by nothing: the mask depends on the name of its output alone", async () => {
    const shape = [8, 64];
    const b = new GraphBuilder("two");
    const training = b.constant("training", YES);
    const half = b.scalar(0.5);
    const first = b.op("Dropout", [b.input("x", "f32", shape), half, training], {}, "first");
    b.output(b.op("Dropout", [b.op("Abs", [first]), half, training], {}, "y"));
    const whole = writeDropout(b.build());
    expect(whole.inputs.map(({ name }) => name)).toEqual(["x", ...COUNTERS]);
    const alone = writeDropout(dropoutGraph(shape, 0.5));
    const place = counters(3, 1, 4);
    const both = extract(whole, whole.inputs, ["first", "y"]);
    const { first: kept, y } = await runGraph(engine, both, { x: ones(shape), ...place });
    const single = await runGraph(engine, alone, { x: ones(shape), ...place });
    y!.f32().forEach((value, i) => {
      expect(value).toBe(kept!.f32()[i]! * single.y!.f32()[i]!);
    });
  });
});

describe("a Dropout that drops nothing passes its input on:", () => {
  test.each([
    ["a ratio of 0", dropoutGraph([3], 0, { mask: true })],
    ["training_mode false", dropoutGraph([3], 0.5, { mask: true, training: NO })],
  ])("%s", async (_, graph) => {
    const written = writeDropout(graph);
    expect(written.inputs.map(({ name }) => name)).toEqual(["x"]);
    const { y, mask } = await runGraph(engine, written, { x: Tensor.f32([3], [1, 2, 3]) });
    expect([...y!.f32()]).toEqual([1, 2, 3]);
    expect([...mask!.bytes]).toEqual([1, 1, 1]);
  });

  test("a graph without Dropout is returned as it is", () => {
    const b = new GraphBuilder("plain");
    b.output(b.op("Neg", [b.input("x", "f32", [3])]));
    const graph = b.build();
    expect(writeDropout(graph)).toBe(graph);
  });
});

describe("refuses, naming the node,", () => {
  test("ratios outside of [0, 1)", () => {
    expect(() => writeDropout(dropoutGraph([3], 1))).toThrow(GraphError);
    expect(() => writeDropout(dropoutGraph([3], 1))).toThrow("-> (y): a ratio of 1; it should be at least 0");
  });

  test("to differentiate one that drops and is not written out", () => {
    const graph = dropoutGraph([3], 0.5);
    expect(() => differentiate(graph, { y: "dy" }, ["x"])).toThrow(GraphError);
    expect(() => differentiate(graph, { y: "dy" }, ["x"])).toThrow(
      "-> (y): a Dropout that drops is written out by",
    );
  });

  test("a training_mode that is computed", () => {
    const b = new GraphBuilder("computed");
    const inputs = [b.input("x", "f32", [3]), b.scalar(0.5), b.input("mode", "bool", [])];
    b.output(b.op("Dropout", inputs, {}, "y"));
    expect(() => writeDropout(b.build())).toThrow('training_mode "mode" should be a constant');
  });
});

test("a stage drops in training, draws the same again when it recomputes, and drops nothing in validation", async () => {
  const shape = [4, 32];
  const b = new GraphBuilder("stage");
  const x = b.op("Mul", [b.input("x", "f32", shape), b.input("w", "f32", shape)]);
  const dropped = b.op("Dropout", [x, b.scalar(0.5), b.constant("training", YES)], {}, "dropped");
  b.output(b.op("Exp", [dropped], {}, "y"));
  const options = { input: "x", output: "y", microBatches: 1, recompute: true };
  const { forward, backward, evaluate } = trainingGraphs(b.build(), (name) => name === "w", options);
  const values = { x: ones(shape), w: ones(shape), ...counters(6, 2, 1) };
  const { y } = await runGraph(engine, forward!, values);
  const gradients = await runGraph(engine, backward!, { ...values, "grad.y": ones(shape) });
  y!.f32().forEach((value, i) => {
    expect(value).toBeCloseTo(gradients["grad.x"]!.f32()[i] === 0 ? 1 : Math.exp(2), 5);
  });
  expect(new Set(gradients["grad.x"]!.f32()).size).toBe(2);
  const validation = await runGraph(engine, evaluate, values);
  for (const value of validation.y!.f32()) expect(value).toBeCloseTo(Math.E, 5);
});
