import { describe, expect, test } from "bun:test";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { extract } from "../../../nn/onnx/extract.ts";
import { freeze } from "../../../nn/onnx/freeze.ts";
import { GraphError } from "../../../nn/onnx/graph.ts";
import { Tensor } from "../../../protocols/tensor.ts";

/** y = (a + b)·2, z = a − b. */
function sample() {
  const b = new GraphBuilder("sample");
  const [x, y] = [b.input("a", "f32", [2, 3]), b.input("b", "f32", [3])];
  b.op("Mul", [b.op("Add", [x, y], {}, "sum"), b.scalar(2)], {}, "y");
  b.op("Sub", [x, y], {}, "z");
  b.output("y");
  b.output("z");
  return b;
}

describe("GraphBuilder", () => {
  test("infers types as it goes", () => {
    const b = sample();
    expect(b.type("y")).toEqual({ dtype: "f32", shape: [2, 3] });
    expect(b.build().outputs).toEqual([
      { name: "y", dtype: "f32", shape: [2, 3] },
      { name: "z", dtype: "f32", shape: [2, 3] },
    ]);
  });

  test("shares equal constants and leaves out unused ones", () => {
    const b = sample();
    expect(b.scalar(2)).toBe(b.scalar(2));
    expect(b.scalar(2, "f64")).not.toBe(b.scalar(2));
    expect(b.ints([1, 2])).toBe(b.ints([1, 2]));
    expect([...b.build().initializers.keys()]).toEqual([b.scalar(2)]);
    expect(b.constantInts(b.ints([4, -1]))).toEqual([4, -1]);
    expect(b.constantInts("a")).toBeUndefined();
  });

  test("a graph does not change when its builder goes on", () => {
    const b = sample();
    const graph = b.build();
    const before = structuredClone({ inputs: graph.inputs, outputs: graph.outputs, nodes: graph.nodes });
    b.output(b.op("Neg", [b.input("c", "f32", [])]));
    expect({ inputs: graph.inputs, outputs: graph.outputs, nodes: graph.nodes }).toEqual(before);
  });

  test("makes names that are neither taken nor reserved", () => {
    const b = new GraphBuilder("names");
    b.input("Neg.0", "f32", []);
    b.reserve(["Neg.1"]);
    expect(b.op("Neg", ["Neg.0"])).toBe("Neg.2");
  });

  test.each<[string, (b: GraphBuilder) => unknown, RegExp]>([
    ["a value twice", (b) => b.op("Neg", ["a"], {}, "b"), /"b" is defined twice/],
    ["an unknown input", (b) => b.op("Neg", ["c"]), /graph sample: no value named "c"/],
    ["an unknown output", (b) => b.output("c"), /no value named "c"/],
    [
      "shapes that do not fit",
      (b) => b.op("Add", ["a", b.ints([1])]),
      /Add \(a, const.*f32 and i64 do not mix/,
    ],
    [
      "more outputs than there are",
      (b) => b.node("Neg", ["a"], { outputs: ["p", "q"] }),
      /Neg has 1 outputs/,
    ],
  ])("refuses %s", (_, run, message) => {
    const b = sample();
    expect(() => run(b)).toThrow(GraphError);
    expect(() => run(sample())).toThrow(message);
  });
});

describe("extract", () => {
  const graph = sample().build();

  test("keeps what the outputs need, and no more", () => {
    const part = extract(graph, graph.inputs, ["z"]);
    expect(part.nodes.map(({ op }) => op)).toEqual(["Sub"]);
    expect(part.initializers.size).toBe(0);
    expect(part.outputs.map(({ name }) => name)).toEqual(["z"]);
  });

  test("does not go above a value that is given, and takes only inputs it uses", () => {
    const sum = { name: "sum", dtype: "f32", shape: [2, 3] } as const;
    const part = extract(graph, [sum, ...graph.inputs], ["y"]);
    expect(part.inputs.map(({ name }) => name)).toEqual(["sum"]);
    expect(part.nodes.map(({ op }) => op)).toEqual(["Mul"]);
  });

  test("a given value wins over the same one computed beside a wanted one", () => {
    const b = new GraphBuilder("parts");
    b.node("Split", [b.input("x", "f32", [4]), b.ints([2, 2])], { outputs: ["left", "right"] });
    b.output(b.op("Add", ["left", "right"], {}, "y"));
    const left = { name: "left", dtype: "f32", shape: [2] } as const;
    const part = extract(b.build(), [...b.build().inputs, left], ["y"]);
    expect(part.inputs.map(({ name }) => name)).toEqual(["x", "left"]);
    expect(part.nodes[0]!.outputs).toEqual(["left.recomputed", "right"]);
  });

  test("refuses an output that nothing available computes", () => {
    expect(() => extract(graph, [graph.inputs[0]!], ["y"])).toThrow(
      new GraphError('graph sample: nothing available computes "b"'),
    );
  });
});

describe("freeze", () => {
  const graph = sample().build();

  test("turns inputs into constants", () => {
    const value = Tensor.f32([3], [1, 2, 3]);
    const frozen = freeze(graph, new Map([["b", value]]));
    expect(frozen.inputs.map(({ name }) => name)).toEqual(["a"]);
    expect(frozen.initializers.get("b")).toBe(value);
  });

  test("refuses what is no input, and a tensor of another type", () => {
    const value = Tensor.f32([2], [1, 2]);
    expect(() => freeze(graph, new Map([["c", value]]))).toThrow('no input "c"');
    expect(() => freeze(graph, new Map([["b", value]]))).toThrow(
      'input "b" is f32[3] and cannot be frozen to f32[2]',
    );
  });
});
