import { expect, test } from "bun:test";
import { type OnnxSpec, openOnnx } from "../../../actors/tasks/onnx.ts";
import { exportModel } from "../../../nn/import/export.ts";
import { mlp } from "../../../nn/models/mlp.ts";
import { GraphError } from "../../../nn/onnx/graph.ts";
import { memoryFiles } from "../data/memory.ts";

const SPEC: Omit<OnnxSpec, "loss"> = {
  kind: "onnx",
  ...{ from: "net.onnx", context: 8, label: null, augment: "none" },
  tuning: { lora: null, freeze: [], storage: "f32" },
};
const OPTIONS = { data: "points.csv", rows: 2, microBatches: 1, seed: 1 };

async function files() {
  const net = mlp({ sample: [2], hidden: [4], classes: 3, activation: "relu" }, 2);
  const lines = Array.from({ length: 12 }, (_, i) => `${i},${i * i},${"abc"[i % 3]}`);
  return memoryFiles({ "net.onnx": await exportModel(net, new Map()), "points.csv": lines.join("\n") });
}

test("a file is fed what its input takes", async () => {
  const { model, feed } = await openOnnx({ ...SPEC, loss: null }, OPTIONS, await files());
  expect(feed.values.map(({ name, shape }) => [name, shape])).toEqual([
    ["features", [2, 2]],
    ["targets", [2]],
  ]);
  expect(model.parameters).toHaveLength(4);
});

test("a loss of other targets than the data has is refused in one line", async () => {
  const opened = openOnnx({ ...SPEC, loss: "mse" }, OPTIONS, await files());
  await expect(opened).rejects.toThrow(
    new GraphError(
      "net.onnx: its loss takes targets f32[2,3], the data gives classes, i64[2]: cross-entropy is for these",
    ),
  );
});
