import { expect, test } from "bun:test";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { float, type Graph } from "../../../nn/onnx/graph.ts";
import { printGraph } from "../../../nn/onnx/print.ts";
import { Tensor } from "../../../protocols/tensor.ts";

test("a graph is one line a node, with types, attributes and the beginning of constants", () => {
  const b = new GraphBuilder("mlp");
  const x = b.input("x", "f32", [3, 4]);
  b.constant("w", Tensor.f32([4, 2], [0.1, -0.2, 3, 4, 5, 6, 7, 8]));
  b.constant("axes", Tensor.i64([1], [-1]));
  b.op("Gemm", [x, "w"], { alpha: float(1), transB: 0 }, "y");
  b.op("ReduceMean", ["y", "axes"], { keepdims: 0 }, "z");
  b.output("z");
  expect(printGraph(b.build())).toBe(
    [
      "graph mlp",
      "  in  x f32[3,4]",
      "  out z f32[3]",
      "  const w f32[4,2] 0.1 -0.2 3.0 4.0 5.0 6.0 … (8)",
      "  const axes i64[1] -1",
      "  y f32[3,2] = Gemm(x, w) alpha=1.0 transB=0",
      "  z f32[3] = ReduceMean(y, axes) keepdims=0",
      "",
    ].join("\n"),
  );
});

test("whatever is in it: operators nobody knows, left-out values, every kind of attribute, empty constants", () => {
  const graph: Graph = {
    name: "odd\nname",
    inputs: [],
    outputs: [],
    initializers: new Map([
      ["none", Tensor.zeros("f32", [0, 3])],
      ["half", new Tensor("f16", [], Uint8Array.of(0, 0x3c))],
    ]),
    nodes: [
      {
        op: "Odd",
        domain: "x.y",
        inputs: ["a", "", "b"],
        outputs: ["", "c"],
        attributes: {
          text: "q",
          list: Array.from({ length: 20 }, (_, i) => i),
          floats: { floats: [0.5] },
          strings: { strings: ["s"] },
          value: Tensor.i64([], [7]),
        },
      },
    ],
  };
  expect(printGraph(graph).split("\n")).toEqual([
    "graph odd name",
    "  const none f32[0,3]",
    "  const half f16[] 1.0",
    '  _, c = x.y.Odd(a, _, b) text="q" list=[0, 1, 2, 3, 4, 5, … (20)] floats=[0.5] strings=["s"] value=i64[] 7',
    "",
  ]);
});
