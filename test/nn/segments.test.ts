import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { availableEngines, createEngine } from "../../nn/engine/create.ts";
import type { Engine } from "../../nn/engine/engine.ts";
import { gptGraph, gptParameters } from "../../nn/models/gpt.ts";
import { GraphBuilder } from "../../nn/onnx/builder.ts";
import { cutGraph, findSegments } from "../../nn/segments.ts";
import { Chance } from "./engine/operator-cases.ts";
import { motley } from "./motley.ts";
import { chain, randomValues, runGraph } from "./run.ts";

describe("a GPT", () => {
  const [D, V, T, B, F] = [8, 16, 4, 2, 4];
  const config = { layers: 2, width: D, heads: 2, context: T, vocabulary: V };
  const graph = gptGraph(config, B, T, "loss");
  const order = gptParameters(config).map(({ name }) => name);
  const segments = findSegments(graph, new Set(order));

  test("is cut after the embeddings and every residual sum", () => {
    const names = (prefix: string) => order.filter((name) => name.startsWith(prefix));
    const block = (h: string) => [
      [...names(`${h}.ln1`), ...names(`${h}.attn`)],
      [...names(`${h}.ln2`), ...names(`${h}.mlp`)],
    ];
    expect(segments.map(({ parameters }) => parameters)).toEqual([
      ["tok_emb", "pos_emb"],
      ...block("h0"),
      ...block("h1"),
      ["ln_f.weight", "ln_f.bias", "head.weight"],
    ]);
    expect(segments.flatMap(({ parameters }) => parameters)).toEqual(order);
  });

  test("passes one activation from each segment to the next", () => {
    expect(segments[0]!.input).toBeNull();
    expect(segments.at(-1)!.output).toBeNull();
    expect(segments.slice(1).map(({ input }) => input)).toEqual(
      segments.slice(0, -1).map(({ output }) => output),
    );
    expect(segments.map(({ index }) => index)).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test("has the bytes and floating-point operations of its matrices", () => {
    const rows = T * B;
    const projection = 2 * rows * D * D;
    const attention = 4 * projection + 2 * (2 * B * T * T * D);
    const feedForward = 2 * (2 * rows * D * 4 * D);
    expect(segments.map(({ flops }) => flops)).toEqual([
      0,
      attention,
      feedForward,
      attention,
      feedForward,
      2 * rows * D * V,
    ]);
    expect(segments.map(({ activationBytes }) => activationBytes)).toEqual([
      ...Array(5).fill(F * rows * D),
      0,
    ]);
    const blocks = [2 * D + 4 * (D * D + D), 2 * D + 4 * D * D + 4 * D + 4 * D * D + D];
    const counts = [V * D + T * D, ...blocks, ...blocks, 2 * D + D * V];
    expect(segments.map(({ parameterBytes }) => parameterBytes)).toEqual(counts.map((count) => F * count));
  });

  test("needs its ids in the first segment and its targets in the last only", () => {
    const data = (index: number) =>
      cutGraph(graph, segments, index, index + 1)
        .inputs.map(({ name }) => name)
        .filter((name) => ["ids", "targets"].includes(name));
    expect(segments.map(({ index }) => data(index))).toEqual([["ids"], [], [], [], [], ["targets"]]);
  });
});

describe("a chain", () => {
  test("of products is cut after each of them", () => {
    const { graph, parameters } = chain([5, 4, 3, 2], "Relu");
    const segments = findSegments(graph, parameters);
    expect(segments.map(({ output }) => output)).toEqual(["product0", "product1", null]);
    expect(segments.map(({ parameters }) => parameters)).toEqual([
      ["w0", "b0"],
      ["w1", "b1"],
      ["w2", "b2"],
    ]);
    expect(segments.map(({ flops }) => flops)).toEqual([2 * 3 * 5 * 4, 2 * 3 * 4 * 3, 2 * 3 * 3 * 2]);
  });

  test("of products and Gelu is cut between pairs, which training rewrites together", () => {
    const { graph, parameters } = chain([5, 4, 3, 2, 2], "Gelu");
    expect(findSegments(graph, parameters).map(({ output }) => output)).toEqual(["product1", null]);
  });

  test("whose end holds no matrix keeps the end in its last segment", () => {
    const b = new GraphBuilder("end");
    b.op("Gemm", [b.input("x", "f32", [2, 2]), b.input("w", "f32", [2, 2])], {}, "h");
    b.op("Gemm", ["h", b.input("v", "f32", [2, 2])], {}, "g");
    b.output(b.op("ReduceSum", ["g"], { keepdims: 0 }));
    const segments = findSegments(b.build(), new Set(["w", "v"]));
    expect(segments.map(({ output }) => output)).toEqual(["h", null]);
  });
});

describe("a graph", () => {
  test("is not cut where two activations are alive", () => {
    const b = new GraphBuilder("crossed");
    const x = b.op("Relu", [b.op("Gemm", [b.input("x", "f32", [2, 2]), b.input("u", "f32", [2, 2])])]);
    const left = b.op("Gemm", [x, b.input("v", "f32", [2, 2])]);
    const right = b.op("Gemm", [b.op("Add", [x, left]), b.input("w", "f32", [2, 2])]);
    b.output(b.op("Add", [b.op("Add", [left, right]), x]));
    const segments = findSegments(b.build(), new Set(["u", "v", "w"]));
    expect(segments).toMatchObject([
      { input: null, parameters: ["u"], activationBytes: 16 },
      { output: null, parameters: ["v", "w"], activationBytes: 0 },
    ]);
  });

  test.each([
    ["directly", (b: GraphBuilder) => b.input("w", "f32", [2, 2])],
    [
      "by way of a value computed from it alone",
      (b: GraphBuilder) => b.op("Neg", [b.input("w", "f32", [2, 2])]),
    ],
  ])("that uses a parameter in several places, %s, is not cut between them", (_, shared) => {
    const b = new GraphBuilder("shared");
    const w = shared(b);
    let x = b.input("x", "f32", [2, 2]);
    for (const name of ["t", "u", "v"]) {
      x = b.op("Gemm", [x, b.input(name, "f32", [2, 2])], {}, `from_${name}`);
      if (name !== "v") x = b.op("Gemm", [x, w], {}, `after_${name}`);
    }
    b.output(x);
    const segments = findSegments(b.build(), new Set(["t", "u", "v", "w"]));
    expect(segments.map(({ output }) => output)).toEqual(["from_t", "after_u", null]);
    expect(segments.map(({ parameters }) => [...parameters].sort())).toEqual([["t"], ["u", "w"], ["v"]]);
  });

  test("with a parameter that nothing depends on is refused", () => {
    const { graph, parameters } = chain([2, 2], "Relu");
    const run = () => findSegments(graph, new Set([...parameters, "spare"]));
    expect(run).toThrow("no output depends on parameter spare");
  });

  test("has no ranges beyond its segments", () => {
    const { graph, parameters } = chain([2, 2, 2], "Relu");
    const segments = findSegments(graph, parameters);
    for (const [from, to] of [
      [0, 3],
      [1, 1],
      [-1, 1],
    ] as const) {
      expect(() => cutGraph(graph, segments, from, to)).toThrow(`[${from}, ${to}) of mlp, which has 2`);
    }
  });
});

describe("a model of many kinds of inputs", () => {
  const model = motley();
  const segments = findSegments(model);

  test("has frozen values and statistics where they are read, and ties apart", () => {
    expect(segments.map(({ parameters }) => parameters)).toEqual([
      ["embedding"],
      ["w0"],
      ["gamma", "beta"],
      ["w1"],
      ["w2"],
      ["head"],
    ]);
    expect(segments.map(({ frozen }) => frozen)).toEqual([[], [], ["basis"], [], [], []]);
    expect(segments[2]!.statistics).toEqual({ mean: "next_mean", variance: "next_variance" });
    expect(segments[2]!.frozenBytes).toBe(4 * (6 * 6 + 6 + 6));
    const outputs = segments.map(({ index }) =>
      cutGraph(model.graph, segments, index, index + 1).outputs.map(({ name }) => name),
    );
    expect(outputs[2]).toEqual(["second", "next_mean", "next_variance"]);
    expect(outputs.at(-1)).toEqual(["loss"]);
  });

  test("sends data to every segment that reads it: what is made of it alone does not travel", () => {
    const reads = segments.map(({ index }) =>
      cutGraph(model.graph, segments, index, index + 1)
        .inputs.map(({ name }) => name)
        .filter((name) => ["ids", "targets"].includes(name)),
    );
    expect(reads).toEqual([["ids"], [], [], ["ids"], [], ["ids", "targets"]]);
  });

  test("knows which activations want a gradient", () => {
    const still = findSegments(motley({ freeze: ["embedding", "w0"] }));
    expect(segments.map(({ inputTrained }) => inputTrained)).toEqual([false, true, true, true, true, true]);
    expect(still.map(({ inputTrained }) => inputTrained)).toEqual([false, false, false, true, true, true]);
  });
});

test("a convolutional network with a residual block is cut around it, and behind its pooling", () => {
  const b = new GraphBuilder("residual");
  const convolution = (x: string, name: string, shape: number[], stride = 1) =>
    b.op("Conv", [x, b.input(name, "f32", shape)], {
      ...{ kernel_shape: shape.slice(2), pads: [1, 1, 1, 1], strides: [stride, stride] },
    });
  const stem = convolution(b.input("image", "f32", [2, 3, 8, 8]), "stem", [4, 3, 3, 3]);
  const pool = { kernel_shape: [2, 2], strides: [2, 2] };
  const x = b.op("MaxPool", [b.op("Relu", [stem])], pool, "pooled");
  const inner = convolution(b.op("Relu", [convolution(x, "a", [4, 4, 3, 3])]), "b", [4, 4, 3, 3]);
  const y = b.op("Relu", [b.op("Add", [x, inner])], {}, "block");
  b.output(b.op("ReduceMean", [convolution(y, "end", [1, 4, 3, 3], 2)], { keepdims: 0 }));
  const segments = findSegments(b.build(), new Set(["stem", "a", "b", "end"]));
  expect(segments.map(({ parameters }) => parameters)).toEqual([["stem"], ["a", "b"], ["end"]]);
  expect(segments[0]!.output).toBe("pooled");
  const products = (outputs: number, perOutput: number) => 2 * outputs * perOutput;
  expect(segments.map(({ flops }) => flops)).toEqual([
    products(2 * 4 * 64, 27),
    2 * products(2 * 4 * 16, 36),
    products(2 * 4, 36),
  ]);
});

const available = new Set((await availableEngines()).map(({ name }) => name));

describe.each(["reference", "native"] as const)("cut anywhere, on the %s engine", (name) => {
  if (!available.has(name)) {
    test.skip("the native engine does not work on this machine", () => {});
    return;
  }
  let engine: Engine;
  beforeAll(async () => {
    engine = await createEngine({ engine: name });
  });
  afterAll(() => engine.close());

  const config = { layers: 1, width: 8, heads: 2, context: 4, vocabulary: 16 };
  const gpt = {
    graph: gptGraph(config, 2, 4, "loss"),
    parameters: gptParameters(config).map(({ name }) => name),
  };
  test.each([
    ["a GPT", gpt.graph, new Set(gpt.parameters)],
    ["a chain", chain([5, 4, 3, 4, 2], "Gelu").graph, chain([5, 4, 3, 4, 2], "Gelu").parameters],
  ])("%s has the bits of the whole", async (_, graph, parameters) => {
    const segments = findSegments(graph, parameters);
    const values = randomValues(graph, new Chance(5), 16);
    const whole = await runGraph(engine, graph, values);
    for (let cuts = 0; cuts < 2 ** (segments.length - 1); cuts++) {
      const bounds = segments.map(({ index }) => index).filter((i) => i === 0 || (cuts >> (i - 1)) & 1);
      const known = { ...values };
      let results = {};
      for (const [i, from] of bounds.entries()) {
        const part = cutGraph(graph, segments, from, bounds[i + 1] ?? segments.length);
        results = await runGraph(engine, part, known);
        Object.assign(known, results);
      }
      expect(results, `cut at ${bounds}`).toEqual(whole);
    }
  });
});
