/** Each pass, on its own: where it applies, where it must not, and that it changes no result. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { differentiate } from "../../../nn/autodiff/gradient.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { extract } from "../../../nn/onnx/extract.ts";
import { float, type Graph } from "../../../nn/onnx/graph.ts";
import { accumulate, accumulatorName, sumName } from "../../../nn/passes/accumulate.ts";
import { geluBetweenProducts, geluTriples } from "../../../nn/passes/gelu-between-products.ts";
import { sumIntoGemm } from "../../../nn/passes/sum-into-gemm.ts";
import type { Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";
import { randomValues, runGraph, type Values } from "../run.ts";

let engine: Engine;
beforeAll(() => {
  engine = createReferenceEngine();
});
afterAll(() => engine.close());

function expectClose(got: Tensor, want: Tensor, where: string): void {
  expect(got.shape, where).toEqual(want.shape);
  want.f32().forEach((value, i) => {
    expect(Math.abs(got.f32()[i]! - value), where).toBeLessThan(2e-6 * (1 + Math.abs(value)));
  });
}

describe("accumulate", () => {
  /** Gradients of Σ loss with respect to the f32 inputs, without the pass and with it. */
  async function both(graph: Graph, wrt: readonly string[]) {
    const joint = differentiate(graph, { loss: 1 }, wrt);
    const chance = new Chance(8);
    const values: Record<string, Tensor> = randomValues(graph, chance, 3);
    const names = [...new Set(joint.gradients.values())];
    const gradients = await runGraph(engine, extract(joint.builder.build(), graph.inputs, names), values);
    const { backward, accumulators } = accumulate(joint, wrt);
    for (const { name, shape } of accumulators) values[name] = chance.f32(shape);
    const source = { ...joint.builder.build(), nodes: [...joint.forward, ...backward] };
    const sums = await runGraph(
      engine,
      extract(source, [...graph.inputs, ...accumulators], wrt.map(sumName)),
      values,
    );
    for (const name of wrt) {
      const added = gradients[joint.gradients.get(name)!]!;
      const before = values[accumulatorName(name)]!.f32();
      expect(sums[sumName(name)]!.shape).toEqual(added.shape);
      sums[sumName(name)]!.f32().forEach((sum, i) => {
        expect(sum, name).toBeCloseTo(before[i]! + added.f32()[i]!, 5);
      });
    }
    return new Map(
      wrt.map((name) => [name, backward.find(({ outputs }) => outputs.includes(sumName(name)))!.op]),
    );
  }

  test("adds in the product and in the scatter that make a gradient, and by itself elsewhere", async () => {
    const b = new GraphBuilder("test");
    const [table, ids] = [b.input("table", "f32", [3, 4]), b.input("ids", "i64", [5])];
    const h = b.op("Gemm", [
      b.op("Gather", [table, ids]),
      b.input("w", "f32", [4, 2]),
      b.input("c", "f32", [2]),
    ]);
    b.output(b.op("ReduceSum", [b.op("Mul", [h, b.input("s", "f32", [2])])], { keepdims: 0 }, "loss"));
    const ops = await both(b.build(), ["table", "w", "c", "s"]);
    expect(Object.fromEntries(ops)).toEqual({ table: "ScatterND", w: "Gemm", c: "Add", s: "Add" });
  });

  test("leaves a gradient that two parameters share to both", async () => {
    const b = new GraphBuilder("shared");
    const sum = b.op("Add", [b.input("p", "f32", [2, 3]), b.input("q", "f32", [2, 3])]);
    const y = b.op("Gemm", [sum, b.input("w", "f32", [3, 2])]);
    b.output(b.op("ReduceSum", [y], { keepdims: 0 }, "loss"));
    const ops = await both(b.build(), ["p", "q", "w"]);
    expect(Object.fromEntries(ops)).toEqual({ p: "Add", q: "Add", w: "Gemm" });
  });

  test("leaves a gradient that other gradients are made of", async () => {
    const b = new GraphBuilder("inner");
    const [p, x] = [b.input("p", "f32", [2, 3]), b.input("x", "f32", [2, 3])];
    const y = b.op("Gemm", [b.op("Add", [p, b.op("Mul", [x, x])]), b.input("w", "f32", [3, 2])]);
    b.output(b.op("ReduceSum", [y], { keepdims: 0 }, "loss"));
    expect((await both(b.build(), ["p", "x"])).get("p")).toBe("Add");
  });
});

describe("sumIntoGemm", () => {
  /** y = x + a·w, then what `more` adds to it. */
  function sums(more: (b: GraphBuilder, y: string, product: string) => string): Graph {
    const b = new GraphBuilder("sums");
    const [x, a, w] = (["x", "a", "w"] as const).map((name) => b.input(name, "f32", [2, 2])) as [
      string,
      string,
      string,
    ];
    const product = b.op("Gemm", [a, w], { transA: 1, alpha: float(0.5), beta: float(0) });
    b.output(more(b, b.op("Add", [x, product]), product));
    return b.build();
  }

  async function rewritten(graph: Graph): Promise<string[]> {
    const isOutput = (name: string) => graph.outputs.some((output) => output.name === name);
    const nodes = sumIntoGemm(graph.nodes, isOutput);
    const values = randomValues(graph, new Chance(1), 1);
    const [want, got] = [
      await runGraph(engine, graph, values),
      await runGraph(engine, { ...graph, nodes }, values),
    ];
    for (const [name, value] of Object.entries(want)) expectClose(got[name]!, value, name);
    return nodes.map(({ op }) => op);
  }

  test("takes a sum into its product", async () => {
    expect(await rewritten(sums((_, y) => y))).toEqual(["Gemm"]);
  });

  test("makes a chain of sums a chain of products", async () => {
    const chained = sums((b, y) => b.op("Add", [y, b.op("Gemm", ["w", "a"])]));
    expect(await rewritten(chained)).toEqual(["Gemm", "Gemm"]);
  });

  test("takes the later of two products", async () => {
    const b = new GraphBuilder("two");
    const [a, w] = [b.input("a", "f32", [2, 2]), b.input("w", "f32", [2, 2])];
    b.output(b.op("Add", [b.op("Gemm", [a, w]), b.op("Gemm", [w, a])]));
    expect(await rewritten(b.build())).toEqual(["Gemm", "Gemm"]);
  });

  test("leaves a product that is used elsewhere, is an output, has a C or is added to itself", async () => {
    expect(await rewritten(sums((b, y, product) => b.op("Mul", [y, product])))).toEqual([
      "Gemm",
      "Add",
      "Mul",
    ]);
    const shown = sums((b, y, product) => {
      b.output(product);
      return y;
    });
    expect(await rewritten(shown)).toEqual(["Gemm", "Add"]);
    const b = new GraphBuilder("left");
    const [a, c] = [b.input("a", "f32", [2, 2]), b.input("c", "f32", [2])];
    const biased = b.op("Gemm", [a, a, c]);
    const product = b.op("Gemm", [a, a]);
    b.output(b.op("Mul", [b.op("Add", [biased, a]), b.op("Add", [product, product])]));
    expect(await rewritten(b.build())).toEqual(["Gemm", "Gemm", "Add", "Add", "Mul"]);
  });
});

describe("geluBetweenProducts", () => {
  interface Layers {
    readonly approximate?: string;
    readonly between?: (b: GraphBuilder, name: "x" | "y") => void;
    readonly right?: boolean;
  }

  /** Gemm (with bias), Gelu, Gemm (with bias). */
  function feedForward({ approximate = "none", between, right = false }: Layers = {}): Graph {
    const b = new GraphBuilder("ffn");
    const [a, w, v] = (["a", "w", "v"] as const).map((name) => b.input(name, "f32", [3, 3])) as [
      string,
      string,
      string,
    ];
    const [c, d] = [b.input("c", "f32", [3]), b.input("d", "f32", [3])];
    b.op("Gemm", [a, w, c], { alpha: float(2), transB: 1 }, "x");
    between?.(b, "x");
    b.op("Gelu", ["x"], { approximate }, "y");
    between?.(b, "y");
    b.output(b.op("Gemm", right ? [v, "y", d] : ["y", v, d], { beta: float(3) }, "z"));
    return b.build();
  }

  /** Evaluates a graph with ErfGate, which rules write out, as its forward part. */
  async function run(graph: Graph, values: Values) {
    const joint = differentiate(graph, { z: "dz" }, ["a"]);
    return (await runGraph(engine, extract(joint.builder.build(), graph.inputs, ["z"]), values)).z!;
  }

  test("moves the constants into both products and changes no result", async () => {
    const graph = feedForward();
    const pass = geluBetweenProducts(graph);
    expect(pass.nodes.map(({ op }) => op)).toEqual(["Gemm", "ErfGate", "Gemm"]);
    const h = Math.SQRT1_2;
    expect(pass.nodes[0]!.attributes).toEqual({ alpha: float(2 * h), beta: float(h), transB: 1 });
    expect(pass.nodes[2]!.attributes).toEqual({ alpha: float(h), beta: float(3) });
    const values = randomValues(graph, new Chance(3), 1);
    expectClose(await run(pass, values), await run(graph, values), "z");
  });

  test.each<[string, Layers]>([
    ["the tanh approximation", { approximate: "tanh" }],
    ["a Gelu's input used elsewhere", { between: (b, name) => name === "x" && b.output(b.op("Neg", ["x"])) }],
    ["a Gelu's input that is an output", { between: (b, name) => name === "x" && b.output("x") }],
    [
      "a Gelu's output used elsewhere",
      { between: (b, name) => name === "y" && b.output(b.op("Neg", ["y"])) },
    ],
    ["a Gelu's output that is an output", { between: (b, name) => name === "y" && b.output("y") }],
    ["a product from the other side", { right: true }],
  ])("leaves alone %s", (_, layers) => {
    const graph = feedForward(layers);
    expect(geluBetweenProducts(graph).nodes).toEqual(graph.nodes);
  });

  test("takes no product twice", () => {
    const b = new GraphBuilder("chain");
    let x = b.input("a", "f32", [2, 2]);
    for (let i = 0; i < 4; i++) {
      x = b.op("Gemm", [x, b.input(`w${i}`, "f32", [2, 2])], {}, `x${i}`);
      if (i < 3) x = b.op("Gelu", [x], {}, `y${i}`);
    }
    b.output(x);
    expect(geluTriples(b.build()).map(({ gelu }) => gelu.outputs[0])).toEqual(["y0", "y2"]);
  });
});
