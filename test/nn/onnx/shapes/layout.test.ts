import { describe, expect, test } from "bun:test";
import { GraphBuilder } from "../../../../nn/onnx/builder.ts";
import { type Attribute, GraphError } from "../../../../nn/onnx/graph.ts";
import { inferShapes } from "../../../../nn/onnx/shapes.ts";
import { Tensor } from "../../../../protocols/tensor.ts";

test("the value of a Constant node is known, as an initializer's is", () => {
  const b = new GraphBuilder("constants");
  b.input("x", "f32", [2, 6]);
  const node = (attributes: Record<string, Attribute>) => b.op("Constant", [], attributes);
  const target = node({ value: Tensor.i64([2], [3, -1]) });
  const shaped = b.op("Reshape", ["x", target]);
  const axes = b.op("Unsqueeze", [shaped, node({ value_ints: [0] })]);
  b.output(b.op("CumSum", [axes, node({ value_int: 1 })], {}, "y"));
  expect(b.shape("y")).toEqual([1, 3, 4]);
  expect(b.constantInts(target)).toEqual([3, -1]);
  expect(inferShapes(b.build()).get("y")).toEqual({ dtype: "f32", shape: [1, 3, 4] });
});

test("axes and sizes may be 32-bit integers", () => {
  const b = new GraphBuilder("narrow");
  const i32 = (name: string, values: number[]) =>
    b.constant(name, new Tensor("i32", [values.length], new Uint8Array(Int32Array.from(values).buffer)));
  b.input("x", "f32", [5]);
  expect(b.shape(b.op("Slice", ["x", i32("starts", [1]), i32("ends", [-1])]))).toEqual([3]);
});

describe("what does not fit is refused, naming the node:", () => {
  const one = (write: (b: GraphBuilder) => void) => () => {
    const b = new GraphBuilder("refused");
    b.input("x", "f32", [2, 3]);
    write(b);
  };
  test.each<[string, (b: GraphBuilder) => void, string]>([
    ["pads", (b) => b.op("Pad", ["x", b.ints([1, 1])], {}, "y"), "2 pads for 2 axes, two each are needed"],
    ["an axis", (b) => b.op("Slice", ["x", b.ints([0]), b.ints([1]), b.ints([2])], {}, "y"), "no axis 2"],
    [
      "a step",
      (b) => b.op("Slice", ["x", b.ints([0]), b.ints([1]), b.ints([0]), b.ints([0])], {}, "y"),
      "a step of 0",
    ],
    ["repeats", (b) => b.op("Tile", ["x", b.ints([2])], {}, "y"), "1 repeats for the axes of [2,3]"],
    ["a flattened axis", (b) => b.op("Flatten", ["x"], { axis: 3 }, "y"), "no axis 3"],
    [
      "too many of the largest",
      (b) => b.node("TopK", ["x", b.ints([4])], { outputs: ["y"] }),
      "axis 1 of [2,3] has fewer than 4 elements",
    ],
    [
      "blocks",
      (b) => b.op("DepthToSpace", ["x"], { blocksize: 2 }, "y"),
      "[2,3] has no channels for blocks of 2 by 2",
    ],
    [
      "indices",
      (b) => b.op("GatherND", ["x", b.constant("at", Tensor.i64([1, 3], [0, 0, 0]))], {}, "y"),
      "indices [1,3] do not point into [2,3]",
    ],
    [
      "a Constant that is a string",
      (b) => b.op("Constant", [], { value_string: "no" }, "y"),
      "a Constant is known as a tensor, integers or a float only",
    ],
    [
      "heads",
      (b) => {
        b.input("q", "f32", [1, 2, 6]);
        b.op("Attention", ["q", "q", "q"], { q_num_heads: 4, kv_num_heads: 2 }, "y");
      },
      "queries [1,2,6] and keys [1,2,6] in 4 and 2 heads",
    ],
  ])("%s", (_, write, message) => {
    expect(one(write)).toThrow(GraphError);
    expect(one(write)).toThrow(message);
    expect(one(write)).toThrow("-> (y)");
  });
});
