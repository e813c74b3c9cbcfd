// An .onnx file trained further: imported, given a loss, trained, written back. The file is made here, two layers as an
// exporter writes them; any other goes the same way, from the bytes of the disk (docs/training.md).

import {
  createEngine,
  DEFAULT_ADAMW,
  decodeModel,
  encodeModel,
  exportModel,
  GraphBuilder,
  heldInputs,
  importModel,
  StageExecutor,
  Tensor,
  trainingGraphs,
} from "../nn/index.ts";

const [rows, features, hidden, classes] = [32, 2, 16, 2];
const values = (shape: number[], scale: number) =>
  Tensor.f32(
    shape,
    Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => scale * Math.sin(i * 12.9898 + 1)),
  );

// A file holds a function with its weights inside. What is a parameter, it does not say.
const b = new GraphBuilder("classifier");
b.input("points", "f32", [rows, features]);
b.constant("fc1.weight", values([hidden, features], 1));
b.constant("fc1.bias", values([hidden], 0.5));
b.constant("fc2.weight", values([classes, hidden], 0.5));
b.constant("fc2.bias", values([classes], 0.1));
const inner = b.op("Relu", [b.op("Gemm", ["points", "fc1.weight", "fc1.bias"], { transB: 1 })]);
b.op("Gemm", [inner, "fc2.weight", "fc2.bias"], { transB: 1 }, "logits");
b.output("logits");
const file = encodeModel(b.build());

// Imported: weights are recognised and become parameters, the loss has `targets` as a new input.
const model = await importModel(file, { rows, loss: "cross-entropy" });
console.log(model.parameters.join(" "));

const engine = await createEngine();
const whole = { input: null, output: null, microBatches: 1, recompute: false };
const graphs = trainingGraphs(model.graph, model, whole);
const stage = await StageExecutor.create(engine, graphs, {
  slots: 1,
  optimizer: { ...DEFAULT_ADAMW, learningRate: 0.05, warmup: 0, steps: 60 },
  totalParameters: model.parameters.length,
});
const held = heldInputs(model).map(async ({ name }) => [name, await model.initial(name, 0)] as const);
await stage.load(new Map(await Promise.all(held)));

// Is a point of the square inside of the circle?
const points = stage.value(0, "points").f32();
const targets = stage.value(0, "targets").i64();
for (let step = 0; step < 60; step++) {
  for (let row = 0; row < rows; row++) {
    const n = step * rows + row; // golden ratios fill the square evenly
    const [x, y] = [2 * ((n * 0.7548777) % 1) - 1, 2 * ((n * 0.5698403) % 1) - 1];
    points.set([x, y], row * features);
    targets[row] = x * x + y * y < 0.6 ? 1n : 0n;
  }
  await stage.joint(0); // forward and backward
  await stage.update(step, await stage.squareSums());
  if (step % 20 === 0 || step === 59) {
    console.log(`step ${step} loss ${stage.value(0, graphs.result).f32()[0]!.toFixed(3)}`);
  }
}

// Back: the file's own inputs and outputs with the new weights, for any ONNX runtime.
const trained = decodeModel(await exportModel(model, await stage.tensors()));
const run = await engine.compile(trained);
const [input, output] = [engine.allocate("f32", [rows, features]), engine.allocate("f32", [rows, classes])];
input.tensor.f32().set([0, 0.1, 0.9, 0.9]); // a point inside and one outside
await run.bind({ points: input }, { logits: output }).run();
const [out0, in0, out1, in1] = output.tensor.f32();
console.log(in0! > out0! ? "inside" : "outside", in1! > out1! ? "inside" : "outside");
await engine.close();
