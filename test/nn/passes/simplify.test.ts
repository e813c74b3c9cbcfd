/**
 * Simplification changes nothing that is computed: on random graphs, and on every way that exporters write out
 * normalisation, Gelu and products. What becomes of those is counted in nodes.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Engine } from "../../../nn/engine/engine.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { type Graph, GraphError } from "../../../nn/onnx/graph.ts";
import { shareCommon } from "../../../nn/passes/cse.ts";
import { removeDead, removeIdentities } from "../../../nn/passes/dead.ts";
import { fold } from "../../../nn/passes/fold.ts";
import { fuseGelu } from "../../../nn/passes/fuse-gelu.ts";
import { fuseGemm } from "../../../nn/passes/fuse-gemm.ts";
import { fuseLayout } from "../../../nn/passes/fuse-layout.ts";
import { fuseNormalisation } from "../../../nn/passes/fuse-norm.ts";
import { simplify } from "../../../nn/passes/simplify.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";
import { randomValues, runGraph } from "../run.ts";

let engine: Engine;
beforeAll(() => {
  engine = createReferenceEngine();
});
afterAll(() => engine.close());

const PASSES = {
  fold,
  shareCommon,
  removeDead,
  removeIdentities,
  fuseNormalisation,
  fuseGelu,
  fuseGemm,
  fuseLayout,
  simplify,
};

const operators = (graph: Graph) => graph.nodes.map(({ op }) => op);

/** Both graphs give the same outputs for the same random inputs, up to rounding. */
async function expectSame(graph: Graph, other: Graph, seed: number): Promise<void> {
  expect(other.outputs).toEqual(graph.outputs);
  const values = randomValues(graph, new Chance(seed), 3);
  const [a, b] = [await runGraph(engine, graph, values), await runGraph(engine, other, values)];
  for (const { name } of graph.outputs) {
    const [x, y] = [a[name]!.f32(), b[name]!.f32()];
    const scale = Math.max(1e-3, ...x.map(Math.abs));
    const worst = Math.max(0, ...x.map((value, i) => Math.abs(value - y[i]!) / scale));
    expect(worst, `${name}, seed ${seed}`).toBeLessThan(1e-5);
  }
}

/** A graph of random operators over random earlier values, with what exporters leave behind strewn in. */
function randomGraph(seed: number): Graph {
  const chance = new Chance(seed);
  const b = new GraphBuilder(`random${seed}`);
  const values = [
    b.input("x", "f32", [2, 3, 4]),
    b.input("y", "f32", [2, 3, 4]),
    b.input("z", "f32", [6, 4]),
  ];
  const [square, bias] = [b.input("w", "f32", [4, 4]), b.input("b", "f32", [4])];
  const any = () => chance.pick(...values);
  const shape = (name: string) => b.shape(name);
  const moves: (() => string)[] = [
    () => b.op(chance.pick("Relu", "Tanh", "Sigmoid", "Identity", "Neg"), [any()]),
    () => b.op("Cast", [any()], { to: 1 }),
    () => b.op("Mul", [any(), b.op("Add", [b.scalar(0.5), b.scalar(chance.pick(0.25, 0.5))])]),
    () => {
      const x = any();
      return b.op(chance.pick("Add", "Mul", "Sub"), [
        x,
        chance.pick(...values.filter((y) => `${shape(y)}` === `${shape(x)}`)),
      ]);
    },
    () => b.op("Reshape", [any(), b.ints(chance.pick([6, 4], [2, 3, 4], [3, 2, 4], [2, -1, 4]))]),
    () =>
      b.op("Unsqueeze", [
        b.op("Squeeze", [b.op("Unsqueeze", [any(), b.ints([0])]), b.ints([0])]),
        b.ints([1]),
      ]),
    () => {
      const x = any();
      return b.op("Transpose", [x], { perm: chance.permutation(shape(x).length) });
    },
    () => {
      const x = any();
      if (shape(x).at(-1) !== 4 || shape(x).length < 2) return b.op("Relu", [x]);
      const product = b.op("MatMul", [x, chance.pick(square, b.op("Transpose", [square], { perm: [1, 0] }))]);
      return chance.pick(product, b.op("Add", chance.pick([product, bias], [bias, product])));
    },
    () => {
      const x = any();
      const turned = shape(x).map((_, i) => i);
      turned.push(...turned.splice(-2).reverse());
      if (turned.length < 3) return b.op("Relu", [x]);
      const scores = b.op("MatMul", [
        b.op("Mul", [x, b.scalar(0.7)]),
        b.op("Transpose", [x], { perm: turned }),
      ]);
      return b.op("MatMul", [b.op("Mul", [scores, b.scalar(0.3)]), x]);
    },
    () => {
      const x = any();
      const [p, q] = [b.op("Tanh", [x]), b.op("Tanh", [x])];
      return b.op("Sub", [b.op("Mul", [p, b.scalar(3)]), q]);
    },
    () =>
      b.op("Relu", [
        b.op("Reshape", [b.op("Gelu", [b.op("Reshape", [any(), b.ints([-1])])]), b.ints([2, 3, 4])]),
      ]),
  ];
  for (let i = 0; i < 14; i++) {
    const value = chance.pick(...moves)();
    if (shape(value).reduce((x, y) => x * y, 1) === 24) values.push(value);
  }
  for (const name of new Set([values.at(-1)!, values.at(-2)!])) b.output(b.op("Identity", [name]));
  return b.build();
}

describe("on random graphs", () => {
  const seeds = Array.from({ length: 40 }, (_, i) => i + 1);
  test.each(Object.entries(PASSES))("%s changes no result", async (_, pass) => {
    for (const seed of seeds) {
      const graph = randomGraph(seed);
      await expectSame(graph, pass(graph), seed);
    }
  });

  test.each(Object.entries(PASSES))("%s has nothing left to do the second time", (_, pass) => {
    for (const seed of seeds) {
      const once = pass(randomGraph(seed));
      expect(pass(once), `seed ${seed}`).toEqual(once);
    }
  });

  test("together they leave less", () => {
    const total = (graphs: Graph[]) => graphs.reduce((sum, { nodes }) => sum + nodes.length, 0);
    const graphs = seeds.map(randomGraph);
    expect(total(graphs.map(simplify))).toBeLessThan(0.7 * total(graphs));
  });
});

/** A graph of one input x [2, 3, 8], a scale w and a shift b [8]. */
function of(write: (b: GraphBuilder, x: string, w: string, c: string) => string): Graph {
  const b = new GraphBuilder("written-out");
  const [x, w, c] = [b.input("x", "f32", [2, 3, 8]), b.input("w", "f32", [8]), b.input("b", "f32", [8])];
  b.output(write(b, x, w, c));
  return b.build();
}

const mean = (b: GraphBuilder, x: string) => b.op("ReduceMean", [x, b.ints([-1])], { keepdims: 1 });
const squares: Record<string, (b: GraphBuilder, x: string) => string> = {
  "a power": (b, x) => b.op("Pow", [x, b.scalar(2)]),
  "a product": (b, x) => b.op("Mul", [x, x]),
};
const quotients: Record<string, (b: GraphBuilder, x: string, square: string) => string> = {
  "a division": (b, x, square) => b.op("Div", [x, b.op("Sqrt", [square])]),
  "a reciprocal": (b, x, square) => b.op("Mul", [x, b.op("Reciprocal", [b.op("Sqrt", [square])])]),
  "one over": (b, x, square) => b.op("Mul", [b.op("Div", [b.scalar(1), b.op("Sqrt", [square])]), x]),
  "a power of a half": (b, x, square) => b.op("Div", [x, b.op("Pow", [square, b.scalar(0.5)])]),
  "a power of minus a half": (b, x, square) => b.op("Mul", [x, b.op("Pow", [square, b.scalar(-0.5)])]),
};
const spellings = Object.keys(squares).flatMap((square) =>
  Object.keys(quotients).map((q) => [square, q] as const),
);

describe("normalisation with", () => {
  const epsilon = (b: GraphBuilder, x: string) => b.op("Add", [x, b.scalar(1e-5)]);
  test.each(spellings)("%s and %s is one operator", async (square, quotient) => {
    const layer = of((b, x, w, c) => {
      const d = b.op("Sub", [x, mean(b, x)]);
      const normal = quotients[quotient]!(b, d, epsilon(b, mean(b, squares[square]!(b, d))));
      return b.op("Add", [c, b.op("Mul", [normal, w])]);
    });
    expect(operators(simplify(layer))).toEqual(["LayerNormalization"]);
    await expectSame(layer, simplify(layer), 1);
    const rms = of((b, x, w) => {
      return b.op("Mul", [w, quotients[quotient]!(b, x, epsilon(b, mean(b, squares[square]!(b, x))))]);
    });
    expect(operators(simplify(rms))).toEqual(["RMSNormalization"]);
    await expectSame(rms, simplify(rms), 2);
  });

  test("no scale or shift has ones", async () => {
    const layer = of((b, x) => {
      const d = b.op("Sub", [x, mean(b, x)]);
      return b.op("Div", [d, b.op("Sqrt", [epsilon(b, mean(b, b.op("Mul", [d, d])))])]);
    });
    expect(operators(simplify(layer))).toEqual(["LayerNormalization"]);
    await expectSame(layer, simplify(layer), 1);
  });

  test("another value in its place is left alone", async () => {
    const other = of((b, x, w, c) => {
      const d = b.op("Sub", [x, mean(b, b.op("Relu", [x]))]);
      const normal = b.op("Div", [d, b.op("Sqrt", [epsilon(b, mean(b, b.op("Mul", [d, d])))])]);
      return b.op("Add", [c, b.op("Mul", [normal, w])]);
    });
    expect(operators(simplify(other))).not.toContain("LayerNormalization");
    await expectSame(other, simplify(other), 1);
  });
});

describe("Gelu written out as", () => {
  const gate = (b: GraphBuilder, x: string) =>
    b.op("Add", [b.op("Erf", [b.op("Div", [x, b.scalar(Math.fround(Math.SQRT2))])]), b.scalar(1)]);
  const tanh = (b: GraphBuilder, x: string, cube: string) => {
    const sum = b.op("Add", [x, b.op("Mul", [cube, b.scalar(0.044715)])]);
    return b.op("Add", [b.scalar(1), b.op("Tanh", [b.op("Mul", [b.scalar(Math.sqrt(2 / Math.PI)), sum])])]);
  };
  const half = (b: GraphBuilder, x: string) => b.op("Mul", [x, b.scalar(0.5)]);
  test.each([
    ["x·(1 + erf)·½", (b, x) => half(b, b.op("Mul", [x, gate(b, x)])), "none"],
    ["½·x·(1 + erf)", (b, x) => b.op("Mul", [half(b, x), gate(b, x)]), "none"],
    ["x·(½·(1 + erf))", (b, x) => b.op("Mul", [half(b, gate(b, x)), x]), "none"],
    [
      "½·x·(1 + tanh), a power",
      (b, x) => b.op("Mul", [half(b, x), tanh(b, x, b.op("Pow", [x, b.scalar(3)]))]),
      "tanh",
    ],
    [
      "½·x·(1 + tanh), products",
      (b, x) => b.op("Mul", [half(b, x), tanh(b, x, b.op("Mul", [b.op("Mul", [x, x]), x]))]),
      "tanh",
    ],
  ] as [string, (b: GraphBuilder, x: string) => string, string][])(
    "%s is one operator",
    async (_, write, form) => {
      const graph = of(write);
      const result = simplify(graph);
      expect(operators(result)).toEqual(["Gelu"]);
      expect(result.nodes[0]!.attributes.approximate ?? "none").toBe(form);
      await expectSame(graph, result, 3);
    },
  );

  test("x·(1 + erf) without the half is left alone", () => {
    const graph = of((b, x) => b.op("Mul", [x, gate(b, x)]));
    expect(operators(simplify(graph))).not.toContain("Gelu");
  });
});

describe("products", () => {
  test("of rows with a matrix and a bias are a Gemm between Reshapes, and stand together across a function", () => {
    const b = new GraphBuilder("mlp");
    const x = b.input("x", "f32", [2, 3, 4]);
    const [w1, b1, w2] = [
      b.input("w1", "f32", [8, 4]),
      b.input("b1", "f32", [8]),
      b.input("w2", "f32", [8, 4]),
    ];
    const hidden = b.op("Add", [b1, b.op("MatMul", [x, b.op("Transpose", [w1], { perm: [1, 0] })])]);
    b.output(b.op("MatMul", [b.op("Gelu", [hidden]), w2]));
    const simple = simplify(b.build());
    expect(operators(simple)).toEqual(["Reshape", "Gemm", "Gelu", "Gemm", "Reshape"]);
    expect(simple.nodes[1]!.inputs.slice(1)).toEqual(["w1", "b1"]);
    expect(simple.nodes[1]!.attributes.transB).toBe(1);
  });

  test("of attention take scale and transpose along", () => {
    const b = new GraphBuilder("scores");
    const [q, k] = [b.input("q", "f32", [2, 2, 3, 4]), b.input("k", "f32", [2, 3, 2, 4])];
    const scaled = (x: string) => b.op("Mul", [x, b.scalar(0.5)]);
    const scores = b.op("MatMul", [scaled(q), scaled(b.op("Transpose", [k], { perm: [0, 2, 3, 1] }))]);
    b.output(b.op("Softmax", [b.op("Mul", [scores, b.scalar(2)])], { axis: -1 }));
    const simple = simplify(b.build());
    expect(operators(simple)).toEqual(["Transpose", "FusedMatMul", "Softmax"]);
    expect(simple.nodes[0]!.attributes.perm).toEqual([0, 2, 1, 3]);
    expect(simple.nodes[1]!.attributes).toMatchObject({ transB: 1, alpha: { float: 0.5 } });
  });
});

describe("folding", () => {
  test("computes what follows from shapes alone", () => {
    const node = (op: string, inputs: string[], output: string, attributes = {}) => ({
      ...{ op, domain: "", inputs, outputs: [output], attributes },
    });
    const graph = {
      name: "flatten",
      inputs: [{ name: "x", dtype: "f32" as const, shape: [2, 3, 4] }],
      initializers: new Map([
        ["first", Tensor.i64([1], [0])],
        ["rest", Tensor.i64([1], [-1])],
      ]),
      nodes: [
        node("Shape", ["x"], "shape"),
        node("Gather", ["shape", "first"], "rows", { axis: 0 }),
        node("Concat", ["rows", "rest"], "flat", { axis: 0 }),
        node("CastLike", ["flat", "first"], "target"),
        node("Reshape", ["x", "target"], "matrix"),
        node("Relu", ["matrix"], "y"),
      ],
    };
    const folded = fold(graph, ["y"]);
    expect(operators(folded)).toEqual(["Reshape", "Relu"]);
    expect(folded.outputs[0]!.shape).toEqual([2, 12]);
  });

  test("keeps the largest integer, which means to the end", () => {
    const node = (op: string, inputs: string[], output: string) => ({
      op,
      domain: "",
      inputs,
      outputs: [output],
      attributes: {},
    });
    const graph = {
      name: "slice",
      inputs: [{ name: "x", dtype: "f32" as const, shape: [8] }],
      initializers: new Map([
        ["end", Tensor.i64([], BigInt64Array.of(2n ** 63n - 1n))],
        ["start", Tensor.i64([1], [4])],
        ["zero", Tensor.i64([1], [0])],
      ]),
      nodes: [node("Unsqueeze", ["end", "zero"], "ends"), node("Slice", ["x", "start", "ends"], "y")],
    };
    expect(fold(graph, ["y"]).outputs[0]!.shape).toEqual([4]);
    const end = {
      op: "Constant",
      domain: "",
      inputs: [],
      outputs: ["ends"],
      attributes: { value_ints: [2 ** 63] },
    };
    const constant = { ...graph, nodes: [end, graph.nodes[1]!] };
    expect(fold(constant, ["y"]).outputs[0]!.shape).toEqual([4]);
  });

  test("leaves large constants to the engine, and does not compute them", () => {
    const shape = Tensor.i64([2], [65536, 65536]);
    const node = (op: string, inputs: string[], output: string) => ({
      op,
      domain: "",
      inputs,
      outputs: [output],
      attributes: {},
    });
    const graph: Graph = {
      name: "large",
      inputs: [],
      outputs: [{ name: "y", dtype: "f32", shape: [65536, 65536] }],
      initializers: new Map([["s", shape]]),
      nodes: [node("ConstantOfShape", ["s"], "c"), node("Neg", ["c"], "n"), node("Abs", ["n"], "y")],
    };
    expect(fold(graph).nodes).toHaveLength(3);
  });

  test.each([
    ["a value that nothing makes", ["nowhere"], '"nowhere" is not defined before it'],
    ["a name made twice", ["x"], '"x" is defined twice'],
  ])("refuses %s", (_, inputs, message) => {
    const node = { op: "Relu", domain: "", inputs, outputs: ["x"], attributes: {} };
    const graph = {
      name: "g",
      inputs: [{ name: "x", dtype: "f32" as const, shape: [1] }],
      initializers: new Map(),
      nodes: [node],
    };
    expect(() => fold(graph, ["x"])).toThrow(GraphError);
    expect(() => fold(graph, ["x"])).toThrow(message);
  });
});

test("two thousand layers are simplified in time linear in them", () => {
  const b = new GraphBuilder("deep");
  let x = b.input("x", "f32", [2, 3, 8]);
  const [w, c] = [b.input("w", "f32", [8, 8]), b.input("b", "f32", [8])];
  for (let i = 0; i < 2000; i++) x = b.op("Relu", [b.op("Add", [b.op("MatMul", [x, w]), c])]);
  b.output(x);
  // Each layer keeps its product and its function; all reshapes but the first and the last are gone.
  expect(simplify(b.build()).nodes.length).toBeLessThan(4010);
});
