import { describe, expect, test } from "bun:test";
import { inferenceGraph } from "../../../nn/import/export.ts";
import {
  aboutModel,
  inputSizeFor,
  isModelName,
  learnsFrom,
  MODEL_NAMES,
  type ModelName,
  type ModelSettings,
  modelNamed,
  settingsOf,
} from "../../../nn/models/catalogue.ts";
import type { ValueInfo } from "../../../nn/onnx/graph.ts";
import { elements } from "../../../protocols/tensor.ts";

const images = (rows: number, channels: number, height: number, width = height): ValueInfo[] => [
  { name: "images", dtype: "f32", shape: [rows, channels, height, width] },
  { name: "targets", dtype: "i64", shape: [rows] },
];
const features: ValueInfo[] = [{ name: "features", dtype: "f32", shape: [5, 7] }];

const countOf = (name: ModelName, settings: ModelSettings & { classes: number }, values: ValueInfo[]) => {
  const { graph, parameters } = modelNamed(name, settings, values);
  const own = new Set(parameters);
  return graph.inputs
    .filter((input) => own.has(input.name))
    .reduce((sum, { shape }) => sum + elements(shape), 0);
};

describe("has as many parameters as torchvision's models", () => {
  test.each([
    ["resnet18", 11_689_512],
    ["resnet34", 21_797_672],
    ["resnet50", 25_557_032],
    ["resnet101", 44_549_160],
    ["vgg11", 132_863_336],
    ["vgg11_bn", 132_868_840],
    ["vgg16", 138_357_544],
    ["vgg16_bn", 138_365_992],
  ] as const)("%s", (name, count) => {
    expect(countOf(name, { classes: 1000 }, images(1, 3, 224))).toBe(count);
  });

  test("vit with the settings of ViT-B/16", () => {
    const base = { layers: 12, width: 768, heads: 12, patch: 16, classes: 1000 };
    expect(countOf("vit", base, images(1, 3, 224))).toBe(86_567_656);
  });
});

describe("every model", () => {
  test.each(MODEL_NAMES.map((name) => [name]))(
    "%s takes 28x28 grey images as the feed brings them",
    (name) => {
      const side = inputSizeFor(name, {}, 28);
      const values = images(2, 1, side);
      const { graph, prediction } = modelNamed(name, { classes: 10 }, values);
      expect(graph.outputs[0]).toEqual({ name: "loss", dtype: "f32", shape: [] });
      for (const value of values) expect(graph.inputs).toContainEqual(value);
      expect(prediction).toBe("logits");
      expect(learnsFrom(name)).toContain("images");
      expect(aboutModel(name)).not.toBe("");
    },
  );

  test("is known by its name, and nothing else is", () => {
    expect(MODEL_NAMES.every(isModelName)).toBe(true);
    expect(["resnet", "toString", ""].some(isModelName)).toBe(false);
  });
});

test("sizes that a model cannot take are brought to the next it can", () => {
  expect([28, 32, 33, 300].map((side) => inputSizeFor("vgg11", {}, side))).toEqual([32, 32, 64, 224]);
  expect([28, 30, 100].map((side) => inputSizeFor("vit", {}, side))).toEqual([28, 32, 112]);
  expect(inputSizeFor("vit", { patch: 7 }, 29)).toBe(35);
  expect(inputSizeFor("resnet18", {}, 29)).toBe(29);
});

test("a perceptron learns from tables too, and has the settings that are given", () => {
  expect(countOf("mlp", { classes: 3, hidden: [4] }, features)).toBe(7 * 4 + 4 + 4 * 3 + 3);
  expect(settingsOf("mlp", { hidden: [4] }, 1)).toEqual({ hidden: [4], activation: "relu" });
  expect(settingsOf("mlp", { hidden: undefined }, 1)).toEqual({ hidden: [256], activation: "relu" });
});

test("predicts for one image, however small, without its loss, its dropout and what moves statistics", () => {
  const tiny = inferenceGraph(modelNamed("resnet18", { classes: 2, width: 2 }, images(1, 1, 4)));
  expect(tiny.outputs).toEqual([{ name: "logits", dtype: "f32", shape: [1, 2] }]);
  const { nodes, inputs } = inferenceGraph(
    modelNamed("vgg11_bn", { classes: 2, width: 2 }, images(1, 1, 32)),
  );
  expect(inputs.map(({ name }) => name)).not.toContain("targets");
  expect(nodes.some(({ op }) => op === "Dropout" || op === "SoftmaxCrossEntropyLoss")).toBe(false);
  const norms = nodes.filter(({ op }) => op === "BatchNormalization");
  expect(norms.map(({ outputs, attributes }) => [outputs.length, attributes.training_mode])).toEqual(
    Array.from({ length: 8 }, () => [1, 0]),
  );
});

describe("what cannot be is refused in one line", () => {
  const cases: [string, ModelName, Record<string, unknown>, ValueInfo[], RegExp][] = [
    [
      "a setting that it has not",
      "resnet18",
      { heads: 3 },
      images(1, 3, 32),
      /resnet18 has no setting "heads"; it has width/,
    ],
    ["data of another kind", "resnet18", {}, features, /resnet18 learns from images; the data has features/],
    ["images that are not square", "resnet18", {}, images(1, 3, 32, 28), /square images; these are 28x32/],
    [
      "a width of nothing",
      "resnet18",
      { width: 0 },
      images(1, 3, 32),
      /width is 0, it should be a whole number/,
    ],
    [
      "a size that does not fit",
      "vgg11",
      {},
      images(1, 3, 28),
      /input size 28 is no multiple of 32 up to 224; 32 would/,
    ],
    ["a dropout of everything", "vgg11", { dropout: 1 }, images(1, 3, 32), /dropout is 1/],
    [
      "heads that do not divide",
      "vit",
      { heads: 5 },
      images(1, 3, 32),
      /width 192 does not divide into 5 heads/,
    ],
    [
      "patches that do not divide",
      "vit",
      { patch: 5 },
      images(1, 3, 32),
      /images of 32 do not divide into patches of 5/,
    ],
    [
      "an unknown activation",
      "mlp",
      { activation: "swish" },
      features,
      /unknown activation "swish", there are relu/,
    ],
    ["a hidden layer of a fraction", "mlp", { hidden: [8, 2.5] }, features, /width of hidden layer 2 is 2.5/],
  ];
  test.each(cases)("%s", (_, name, settings, values, message) => {
    expect(() => modelNamed(name, { classes: 10, ...settings }, values)).toThrow(message);
  });
});
