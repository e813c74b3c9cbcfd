import { describe, expect, test } from "bun:test";
import { differentiate } from "../../../nn/autodiff/gradient.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import type { Attribute } from "../../../nn/onnx/graph.ts";
import { unbiasedVariance } from "../../../nn/onnx/running-variance.ts";
import { Tensor } from "../../../protocols/tensor.ts";

type Attributes = Readonly<Record<string, Attribute>>;

/** The shape that comes out of an operator over an image and weights. */
function shapeOf(op: string, image: number[], weights: number[] | null, attributes: Attributes) {
  const b = new GraphBuilder("g");
  const inputs = [b.input("x", "f32", image), ...(weights ? [b.input("w", "f32", weights)] : [])];
  return b.shape(b.op(op, inputs, attributes));
}

describe("windows", () => {
  test.each([
    ["as they are", {}, [1, 3, 5, 4]],
    ["with strides", { strides: [2, 3] }, [1, 3, 3, 2]],
    ["with margins on one side", { pads: [0, 0, 2, 1] }, [1, 3, 7, 5]],
    ["farther apart", { dilations: [2, 2] }, [1, 3, 3, 2]],
    ["of the input's size", { auto_pad: "SAME_UPPER" }, [1, 3, 7, 6]],
    ["of half of it", { auto_pad: "SAME_LOWER", strides: [2, 2] }, [1, 3, 4, 3]],
  ] as [string, Attributes, number[]][])("%s", (_, attributes, expected) => {
    expect(shapeOf("Conv", [1, 2, 7, 6], [3, 2, 3, 3], attributes)).toEqual(expected);
  });

  test("of a pooling may end beyond the input, but not begin there", () => {
    const attributes = { kernel_shape: [2], strides: [3], ceil_mode: 1 };
    expect(shapeOf("MaxPool", [1, 1, 6], null, attributes)).toEqual([1, 1, 2]);
    expect(shapeOf("MaxPool", [1, 1, 7], null, attributes)).toEqual([1, 1, 3]);
    expect(shapeOf("MaxPool", [1, 1, 6], null, { ...attributes, pads: [1, 1] })).toEqual([1, 1, 3]);
  });

  test("go back to the size that a ConvTranspose is asked for", () => {
    const attributes = { strides: [2, 2], output_shape: [8, 7] };
    expect(shapeOf("ConvTranspose", [1, 2, 4, 4], [2, 3, 3, 3], attributes)).toEqual([1, 3, 8, 7]);
  });
});

describe("refused with a named error:", () => {
  test.each([
    ["weights for other channels", [1, 3, 5, 5], [2, 2, 3, 3], {}, "do not fit an input of [1,3,5,5]"],
    ["weights of another rank", [1, 3, 5, 5], [2, 3, 3], {}, "do not fit"],
    ["a window larger than the image", [1, 2, 2, 5], [2, 2, 3, 3], {}, "larger than axis 2"],
    [
      "strides for other axes",
      [1, 2, 5, 5],
      [2, 2, 3, 3],
      { strides: [1] },
      "2, 1, 2, 2 axes, the input has 2",
    ],
    ["an unknown auto_pad", [1, 2, 5, 5], [2, 2, 3, 3], { auto_pad: "SAME" }, 'no auto_pad "SAME"'],
  ] as [string, number[], number[], Attributes, string][])("%s", (_, image, weights, attributes, message) => {
    expect(() => shapeOf("Conv", image, weights, attributes)).toThrow(message);
    expect(() => shapeOf("Conv", image, weights, attributes)).toThrow("Conv (x, w)");
  });

  test("a Resize whose sizes are not known", () => {
    const b = new GraphBuilder("g");
    const inputs = [b.input("x", "f32", [1, 1, 2, 2]), "", b.input("scales", "f32", [4])];
    expect(() => b.op("Resize", inputs)).toThrow("must be a constant");
  });

  test("the gradient of a Resize that crops, by its node", () => {
    const b = new GraphBuilder("g");
    const sizes = b.ints([1, 1, 4, 4]);
    const attributes = { coordinate_transformation_mode: "tf_crop_and_resize" };
    b.output(b.op("Resize", [b.input("x", "f32", [1, 1, 2, 2]), "", "", sizes], attributes, "y"));
    expect(() => differentiate(b.build(), { y: "dy" }, ["x"])).toThrow(/Resize .*tf_crop_and_resize/);
  });

  test("the gradient of running statistics", () => {
    const b = new GraphBuilder("g");
    const names = ["scale", "bias", "mean", "variance"].map((name) => b.input(name, "f32", [2]));
    const [y, mean] = b.node("BatchNormalization", [b.input("x", "f32", [3, 2, 4]), ...names], {
      attributes: { training_mode: 1 },
      outputs: ["y", "after", "variance.after"],
    });
    for (const name of [y!, mean!]) b.output(name);
    expect(() => differentiate(b.build(), { after: "d" }, ["x"])).toThrow("running statistics is not known");
    expect(() => differentiate(b.build(), { y: "d" }, ["variance"])).toThrow(
      "running statistics is not known",
    );
  });

  test("an unbiased variance of one element", () => {
    const b = new GraphBuilder("g");
    const [before, after] = ["before", "after"].map((name) => b.constant(name, Tensor.f32([1], [1])));
    const moved = { before: before!, after: after!, momentum: 0.9, count: 1 };
    expect(() => unbiasedVariance(b, moved)).toThrow('"after": there is no unbiased variance of 1 element');
  });
});
