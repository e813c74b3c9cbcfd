/** Operators of older and newer versions become those of version 20; versions and domains beyond are refused. */

import { describe, expect, test } from "bun:test";
import { float, type Graph, GraphError, type Node } from "../../../nn/onnx/graph.ts";
import { toOpset } from "../../../nn/onnx/opset.ts";
import { Tensor } from "../../../protocols/tensor.ts";

const node = (op: string, more: Partial<Node> = {}): Node => ({
  ...{ op, domain: "", inputs: ["x"], outputs: ["y"], attributes: {} },
  ...more,
});
const graphOf = (...nodes: Node[]): Graph => ({
  ...{
    name: "g",
    inputs: [{ name: "x", dtype: "f32", shape: [2, 4] }],
    outputs: [],
    initializers: new Map(),
    nodes,
  },
});
const converted = (given: Node, opset: number) => toOpset(graphOf(given), opset).nodes[0]!;

describe("axes of reductions become an input", () => {
  const names = ["Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare"];
  test.each(names.map((name) => `Reduce${name}`))("%s", (op) => {
    const old = node(op, { attributes: { axes: [-1], keepdims: 0 } });
    for (const opset of [13, 17]) {
      const graph = toOpset(graphOf(old), opset);
      expect(graph.nodes[0]).toEqual(
        node(op, { inputs: ["x", "opset.i64.-1"], attributes: { keepdims: 0 } }),
      );
      expect(graph.initializers.get("opset.i64.-1")).toEqual(Tensor.i64([1], [-1]));
    }
  });

  test("unless there are none, or they are one already", () => {
    expect(converted(node("ReduceMax"), 13)).toEqual(node("ReduceMax"));
    const young = node("ReduceMean", { inputs: ["x", "axes"] });
    expect(converted(young, 18)).toBe(young);
  });

  test("of a name that nothing else has", () => {
    const reduce = node("ReduceMean", { inputs: ["opset.i64.0"], attributes: { axes: [0] } });
    const graph = toOpset(graphOf(node("Relu", { outputs: ["opset.i64.0"] }), reduce), 13);
    expect(graph.nodes[1]!.inputs).toEqual(["opset.i64.0", "opset.i64.0_"]);
  });
});

describe("batch normalisation of version 13", () => {
  const inputs = ["x", "scale", "bias", "mean", "variance"];
  test("trains when it has more than one output, and keeps the running ones", () => {
    const old = node("BatchNormalization", { inputs, outputs: ["y", "m", "v", "saved_m", "saved_v"] });
    expect(converted(old, 13)).toMatchObject({ outputs: ["y", "m", "v"], attributes: { training_mode: 1 } });
  });
  test("does not when the others are left out", () => {
    const old = node("BatchNormalization", { inputs, outputs: ["y", "", ""] });
    expect(converted(old, 13)).toMatchObject({ outputs: ["y"], attributes: { training_mode: 0 } });
  });
  test("is as it is from version 14 on", () => {
    const young = node("BatchNormalization", {
      inputs,
      outputs: ["y", "m", "v"],
      attributes: { training_mode: 1 },
    });
    expect(converted(young, 14)).toBe(young);
  });
});

test("Split into equal parts says how many", () => {
  const old = node("Split", { outputs: ["a", "b"], attributes: { axis: 1 } });
  expect(converted(old, 17).attributes).toEqual({ axis: 1, num_outputs: 2 });
  const sized = node("Split", { inputs: ["x", "sizes"], outputs: ["a", "b"] });
  expect(converted(sized, 13)).toBe(sized);
});

test("GridSample and RoiAlign get the names and defaults of now", () => {
  expect(converted(node("GridSample"), 16).attributes.mode).toBe("linear");
  expect(converted(node("GridSample", { attributes: { mode: "nearest" } }), 16).attributes.mode).toBe(
    "nearest",
  );
  expect(converted(node("RoiAlign"), 13).attributes.coordinate_transformation_mode).toBe("output_half_pixel");
});

test("what did not change is left alone, the runtime's own operators too", () => {
  const given = [
    node("Softmax", { attributes: { axis: 1 } }),
    node("LeakyRelu", { attributes: { alpha: float(0.1) } }),
    node("ReduceMean", { domain: "com.microsoft", attributes: { axes: [0] } }),
  ];
  for (const opset of [13, 16, 19, 21, 22, 23])
    expect(toOpset(graphOf(...given), opset).nodes).toEqual(given);
});

test.each([
  [
    graphOf(),
    12,
    "ONNX operators of version 12; known are 13 to 23: export the model again with opset_version=20",
  ],
  [graphOf(), 24, "ONNX operators of version 24;"],
  [graphOf(), Number.NaN, "ONNX operators of version NaN;"],
  [
    graphOf(node("Scaler", { domain: "ai.onnx.ml" })),
    20,
    'operator "Scaler" of the domain "ai.onnx.ml", which makes "y"',
  ],
] as const)("%# is refused by name", (graph, opset, message) => {
  expect(() => toOpset(graph, opset)).toThrow(GraphError);
  expect(() => toOpset(graph, opset)).toThrow(message);
});
