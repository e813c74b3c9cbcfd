import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { differentiate } from "../../../nn/autodiff/gradient.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { extract } from "../../../nn/onnx/extract.ts";
import { type Graph, GraphError } from "../../../nn/onnx/graph.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { runGraph, type Values } from "../run.ts";

let engine: Engine;
beforeAll(() => {
  engine = createReferenceEngine();
});
afterAll(() => engine.close());

/** A graph over x f32 [3], from x to the value that `write` returns, summed into `loss`. */
function graphOf(write: (b: GraphBuilder, x: string) => string): Graph {
  const b = new GraphBuilder("test");
  const y = write(b, b.input("x", "f32", [3]));
  b.output(b.op("ReduceSum", [y], { keepdims: 0 }, "loss"));
  return b.build();
}

async function gradientOf(graph: Graph, values: Values, name = "x"): Promise<number[]> {
  const joint = differentiate(graph, { loss: 1 }, [name]);
  const gradient = joint.gradients.get(name)!;
  const results = await runGraph(engine, extract(joint.builder.build(), graph.inputs, [gradient]), values);
  return Array.from(results[gradient]!.f32());
}

const x = { x: Tensor.f32([3], [1, 2, -3]) };

/** The message of the GraphError that `run` has to throw. */
function refusal(run: () => unknown): string {
  let failure: unknown;
  try {
    run();
  } catch (error) {
    failure = error;
  }
  expect(failure).toBeInstanceOf(GraphError);
  expect((failure as Error).message).not.toContain("\n");
  return (failure as Error).message;
}

describe("a value that is used several times", () => {
  test("sums the gradients of its uses", async () => {
    const graph = graphOf((b, x) => b.op("Add", [b.op("Mul", [x, x]), b.op("Add", [x, b.op("Neg", [x])])]));
    expect(await gradientOf(graph, x)).toEqual([2, 4, -6]);
  });

  test("sums both sides of one operator", async () => {
    expect(
      await gradientOf(
        graphOf((b, x) => b.op("Add", [x, x])),
        x,
      ),
    ).toEqual([2, 2, 2]);
    expect(
      await gradientOf(
        graphOf((b, x) => b.op("Concat", [x, x], { axis: 0 })),
        x,
      ),
    ).toEqual([2, 2, 2]);
  });

  test("may itself be an output with a gradient of its own", async () => {
    const b = new GraphBuilder("test");
    const y = b.op("Mul", [b.input("x", "f32", []), b.scalar(3)], {}, "y");
    b.output(y);
    b.output(b.op("Mul", [y, y], {}, "z"));
    const joint = differentiate(b.build(), { y: "dy", z: 1 }, ["x"]);
    const gradient = joint.gradients.get("x")!;
    const inputs = [...b.build().inputs, { name: "dy", dtype: "f32", shape: [] } as const];
    const graph = extract(joint.builder.build(), inputs, [gradient]);
    const values = { x: Tensor.f32([], [2]), dy: Tensor.f32([], [10]) };
    expect((await runGraph(engine, graph, values))[gradient]!.f32()[0]).toBe(3 * (10 + 2 * 6));
  });
});

describe("only what is wanted is computed", () => {
  test("a constant factor and an unwanted input get no gradient", () => {
    const b = new GraphBuilder("test");
    const [x, y] = [b.input("x", "f32", [2]), b.input("y", "f32", [2])];
    b.output(b.op("ReduceSum", [b.op("Mul", [b.op("Mul", [x, y]), b.scalar(2)])], { keepdims: 0 }, "loss"));
    const joint = differentiate(b.build(), { loss: 1 }, ["x"]);
    expect(joint.backward.map(({ op }) => op)).toEqual(["Reshape", "Expand", "Mul", "Mul"]);
    expect([...joint.gradients.keys()]).toEqual(["x"]);
  });

  test("what leads to no differentiated output needs no rule and stays as it is", () => {
    const b = new GraphBuilder("test");
    const x = b.input("x", "f32", [3]);
    b.output(b.op("Cos", [b.op("Gelu", [x], {}, "aside")], {}, "other"));
    b.output(b.op("ReduceSum", [x], { keepdims: 0 }, "loss"));
    const joint = differentiate(b.build(), { loss: 1 }, ["x"]);
    expect(joint.forward.map(({ op }) => op)).toEqual(["Gelu", "Cos", "ReduceSum"]);
  });

  test("comparisons and what is cast from them are constants", async () => {
    const graph = graphOf((b, x) => {
      const positive = b.op("Cast", [b.op("Greater", [x, b.scalar(0)])], { to: 1 });
      return b.op("Mul", [x, positive]);
    });
    expect(await gradientOf(graph, x)).toEqual([1, 1, 0]);
  });

  test("token ids get none, and the table only where it was read", async () => {
    const b = new GraphBuilder("test");
    const [table, ids] = [b.input("table", "f32", [4, 1]), b.input("ids", "i64", [3])];
    b.output(b.op("ReduceSum", [b.op("Gather", [table, ids])], { keepdims: 0 }, "loss"));
    const values = { table: Tensor.f32([4, 1], [1, 2, 3, 4]), ids: Tensor.i64([3], [2, 0, 2]) };
    expect(await gradientOf(b.build(), values, "table")).toEqual([1, 0, 2, 0]);
  });
});

describe("operators without a slope", () => {
  test("give zeros to what reaches the outputs through them only", async () => {
    const graph = graphOf((b, x) => b.op("Floor", [b.op("Mul", [x, x])]));
    expect(await gradientOf(graph, x)).toEqual([0, 0, 0]);
  });

  test("are constants beside other ways, and need no rule before them", async () => {
    const graph = graphOf((b, x) => b.op("Mul", [x, b.op("Round", [b.op("Hardmax", [x])])]));
    expect(await gradientOf(graph, x)).toEqual([0, 1, 0]);
  });
});

describe("composite operators", () => {
  test("are written out where a gradient flows through them, and only there", () => {
    const b = new GraphBuilder("test");
    const [x, y, bias] = [b.input("x", "f32", [3]), b.input("y", "f32", [3]), b.input("b", "f32", [3])];
    b.output(b.fused("BiasGelu", [y, bias], {}, "aside"));
    b.output(b.op("ReduceSum", [b.fused("BiasGelu", [x, bias])], { keepdims: 0 }, "loss"));
    const ops = (wrt: string[]) => differentiate(b.build(), { loss: 1 }, wrt).forward.map(({ op }) => op);
    expect(ops(["x"])).toEqual(["BiasGelu", "Add", "Mul", "Erf", "Mul", "Add", "Mul", "ReduceSum"]);
  });

  test("keep the names of their outputs, which others read", async () => {
    const graph = graphOf((b, x) =>
      b.op("Add", [b.op("Einsum", [x, x], { equation: "i,i->i" }, "square"), x]),
    );
    expect(await gradientOf(graph, x)).toEqual([3, 5, -5]);
  });
});

describe("names", () => {
  test("that rules make do not meet those of nodes to come", async () => {
    const graph = graphOf((b, x) => {
      const once = b.op("Gelu", [x]);
      const twice = b.op("Gelu", [once]);
      return b.op("Mul", [twice, b.op("Mul", [b.op("Mul", [once, x]), b.op("Add", [x, once])])]);
    });
    expect(await gradientOf(graph, { x: Tensor.f32([3], [0, 0, 0]) })).toEqual([0, 0, 0]);
  });
});

describe("refuses", () => {
  test("an operator without a rule, naming operator, node and the way through it", () => {
    const unknown = (from: string) =>
      graphOf((b, x) => {
        const near = b.op("Neg", [x], {}, from);
        return b.op("Sigmoid", [b.op("Hardmax", [near], {}, "corner")], {}, "y");
      });
    const rule = refusal(() => differentiate(unknown("near"), { loss: 1 }, ["x"]));
    expect(rule).toMatch(
      /no gradient rule for operator Hardmax, at Hardmax \(near\) -> \(corner\); .* x -> near -> corner/,
    );
    expect(rule).toEndWith("-> corner -> y -> loss");
  });

  test("a long way with its middle left out", () => {
    const graph = graphOf((b, x) => {
      let y = b.op("Hardmax", [x], {}, "corner");
      for (let i = 0; i < 20; i++) y = b.op("Neg", [y], {}, `neg${i}`);
      return y;
    });
    expect(refusal(() => differentiate(graph, { loss: 1 }, ["x"]))).toMatch(
      /way x -> corner -> neg0 -> neg1 -> \(16 more\) -> neg18 -> neg19 -> loss$/,
    );
  });

  test("an input that no output depends on", () => {
    const b = new GraphBuilder("lonely");
    b.input("y", "f32", [1]);
    b.output(b.op("ReduceSum", [b.input("x", "f32", [3])], { keepdims: 0 }, "loss"));
    expect(refusal(() => differentiate(b.build(), { loss: 1 }, ["x", "y"]))).toBe(
      'graph lonely: no output depends on "y"',
    );
  });

  test("a number as the gradient of more than a scalar", () => {
    const b = new GraphBuilder("test");
    b.output(b.op("Neg", [b.input("x", "f32", [3])], {}, "y"));
    expect(refusal(() => differentiate(b.build(), { y: 1 }, ["x"]))).toContain('"y" is [3]');
  });

  test("what the rules do not know of an operator, naming the node", () => {
    const cases: [RegExp, (b: GraphBuilder, x: string) => string][] = [
      [
        /ScatterElements.*-> \(y\).*reduction max; there is for none, add/,
        (b, x) => b.op("ScatterElements", [x, b.ints([0]), b.scalar(1)], { reduction: "max" }, "y"),
      ],
      [
        /Einsum.*-> \(y\).*label twice.*way x -> \S+ -> y -> loss/,
        (b, x) => {
          const square = b.op("Expand", [x, b.ints([3, 3])]);
          return b.op("Einsum", [square], { equation: "ii->i" }, "y");
        },
      ],
      [
        /SoftmaxCrossEntropyLoss.*-> \(y\).*weights.*way x -> y -> loss/,
        (b, x) => {
          const logits = b.op("Reshape", [x, b.ints([1, 3])]);
          return b.op("SoftmaxCrossEntropyLoss", [logits, b.ints([1]), x], { reduction: "sum" }, "y");
        },
      ],
    ];
    for (const [message, write] of cases) {
      expect(refusal(() => differentiate(graphOf(write), { loss: 1 }, ["x"]))).toMatch(message);
    }
  });

  test("a gradient through the statistics of a normalisation", () => {
    const b = new GraphBuilder("test");
    const scale = b.constant("scale", Tensor.f32([2], [1, 1]));
    const outputs = ["y", "mean"];
    const [, mean] = b.node("LayerNormalization", [b.input("x", "f32", [3, 2]), scale], { outputs });
    b.output(b.op("ReduceSum", [mean!], { keepdims: 0 }, "loss"));
    expect(refusal(() => differentiate(b.build(), { loss: 1 }, ["x"]))).toContain("mean and deviation");
  });
});
