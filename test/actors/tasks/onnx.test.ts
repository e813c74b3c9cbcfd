import { expect, test } from "bun:test";
import { type OnnxSpec, openOnnx } from "../../../actors/tasks/onnx.ts";
import { exportExternalModel, exportModel } from "../../../nn/import/export.ts";
import { mlp } from "../../../nn/models/mlp.ts";
import { memoryFiles } from "../data/memory.ts";

const SPEC: Omit<OnnxSpec, "loss"> = {
  kind: "onnx",
  ...{ from: "net.onnx", context: 8, label: null, augment: "none" },
  tuning: { lora: null, freeze: [], storage: "f32" },
};
const OPTIONS = { data: "points.csv", rows: 2, microBatches: 1, seed: 1 };

/** @param outputs of the model, @param classes in the table. */
async function files(outputs = 3, classes = 3) {
  const net = mlp({ sample: [2], hidden: [4], classes: outputs, activation: "relu" }, 2);
  const lines = Array.from({ length: 12 }, (_, i) => `${i},${i * i},${"abc"[i % classes]}`);
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

test("losses of numbers compare with 1 at the class and else 0", async () => {
  const { feed } = await openOnnx({ ...SPEC, loss: "mse" }, OPTIONS, await files());
  const byClass = await openOnnx({ ...SPEC, loss: null }, OPTIONS, await files());
  const { targets } = feed.training(0, 0);
  const labels = [...byClass.feed.training(0, 0).targets!.i64()].map(Number);
  expect(targets!.shape).toEqual([2, 3]);
  expect([...targets!.f32()]).toEqual(labels.flatMap((label) => [0, 1, 2].map((c) => (c === label ? 1 : 0))));
});

test("one number in all tells two classes apart, and no more", async () => {
  const { feed } = await openOnnx({ ...SPEC, loss: "bce-logits" }, OPTIONS, await files(1, 2));
  const { targets } = feed.validation(0);
  expect(targets!.shape).toEqual([2, 1]);
  expect([...targets!.f32()].every((value) => value === 0 || value === 1)).toBe(true);

  const opened = openOnnx({ ...SPEC, loss: "bce-logits" }, OPTIONS, await files(1, 3));
  await expect(opened).rejects.toThrow(
    /has 3 classes; with --loss bce-logits an output of one number for each/,
  );
});

test("data of more classes than the model tells apart is refused before anything runs", async () => {
  const opened = openOnnx({ ...SPEC, loss: null }, OPTIONS, await files(2, 3));
  await expect(opened).rejects.toThrow(
    /it has 3 classes, and net.onnx tells 2 apart, by \S+ f32\[2,2\]: export/,
  );
});

test("external data is read from the file's own folder, not from where a link leads", async () => {
  const net = mlp({ sample: [2], hidden: [4], classes: 3, activation: "relu" }, 2);
  const { model, data } = await exportExternalModel(net, new Map(), "net.bin");
  const points = Array.from({ length: 12 }, (_, i) => `${i},${i * i},${"abc"[i % 3]}`).join("\n");
  const disk = memoryFiles({ "a/net.onnx": model, "a/net.bin": Buffer.concat(data), "points.csv": points });
  const spec = { ...SPEC, from: "a/net.onnx", loss: null };
  expect((await openOnnx(spec, OPTIONS, disk)).model.parameters).toHaveLength(4);

  const linked = { ...disk, realPath: async (path: string) => (path === "a/net.bin" ? "b/net.bin" : path) };
  await expect(openOnnx(spec, OPTIONS, linked)).rejects.toThrow(
    /cannot read "net.bin" \(a link leads out of its folder\); put it beside the .onnx file/,
  );
});
