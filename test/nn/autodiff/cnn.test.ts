/**
 * A convolutional network with batch normalisation trains as PyTorch's does: the same weights, images and steps, the
 * derived graph on the native engine; losses, running statistics and the loss by them have to agree.
 */

import { expect, test } from "bun:test";
import { differentiate } from "../../../nn/autodiff/gradient.ts";
import { availableEngines, createEngine } from "../../../nn/engine/create.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { extract } from "../../../nn/onnx/extract.ts";
import { float } from "../../../nn/onnx/graph.ts";
import { unbiasedVariance } from "../../../nn/onnx/running-variance.ts";
import { elements, type Shape, Tensor } from "../../../protocols/tensor.ts";
import fixture from "../../fixtures/cnn.json";
import { runGraph } from "../run.ts";

const TOLERANCE = 2e-5;
const MOMENTUM = 0.9;

const native = (await availableEngines()).some(({ name }) => name === "native");

/** Numbers between -0.5 and 0.5, by the formula of test/fixtures/cnn.py. */
function noise(stream: number, shape: Shape): Tensor {
  const values = Float32Array.from({ length: elements(shape) }, (_, i) => {
    const x = ((i + 1) * 7919 + stream * 104729) % 65521;
    return (((x * x + stream) % 65521) % 1024) / 1024 - 0.5;
  });
  return Tensor.f32(shape, values);
}

function batch(step: number): { images: Tensor; targets: Tensor } {
  const { rows, size, classes } = fixture;
  const images = noise(100 + step, [rows, 1, size, size]);
  const pixels = images.f32();
  for (let i = 0; i < pixels.length; i++) pixels[i]! *= 2;
  const targets = Array.from(noise(200 + step, [rows]).f32(), (x) => (x * 1024 + 512) % classes);
  targets.forEach((target, row) => {
    for (let y = 2 * target; y < 2 * target + 3; y++) {
      for (let x = 0; x < size; x++) pixels[(row * size + y) * size + x]! += 2;
    }
  });
  return { images, targets: Tensor.i64([rows], targets) };
}

/** The network with its loss; parameters and statistics with their initial values. */
function network(training: boolean) {
  const b = new GraphBuilder("cnn");
  const { rows, size, classes } = fixture;
  const held: Record<string, Tensor> = {};
  const statistics: Record<string, string> = {};
  const input = (name: string, tensor: Tensor) => {
    held[name] = tensor;
    return b.input(name, "f32", tensor.shape);
  };
  const filled = (count: number, value: number) => Tensor.f32([count], new Array<number>(count).fill(value));

  const block = (
    x: string,
    k: number,
    shape: Shape,
    attributes: Record<string, number | number[]>,
  ): string => {
    const y = b.op("Conv", [x, input(`conv${k}`, noise(k, shape))], {
      kernel_shape: shape.slice(2),
      ...attributes,
    });
    const channels = shape[0]!;
    const [mean, variance] = [`mean${k}`, `variance${k}`];
    const inputs = [
      y,
      input(`scale${k}`, filled(channels, 1)),
      input(`shift${k}`, filled(channels, 0)),
      input(mean, filled(channels, 0)),
      input(variance, filled(channels, 1)),
    ];
    const normal = `normal${k}`;
    const after = training ? [`${mean}.after`, `${variance}.population`] : [];
    b.node("BatchNormalization", inputs, {
      attributes: { training_mode: training ? 1 : 0, momentum: float(MOMENTUM), epsilon: float(1e-5) },
      outputs: [normal, ...after],
    });
    if (training) {
      const count = elements(b.shape(y)) / channels;
      const moved = { before: variance, after: after[1]!, momentum: MOMENTUM, count };
      statistics[mean] = after[0]!;
      statistics[variance] = unbiasedVariance(b, moved, `${variance}.after`);
    }
    return b.op("Relu", [normal]);
  };

  let x = block(b.input("images", "f32", [rows, 1, size, size]), 1, [6, 1, 3, 3], { pads: [1, 1, 1, 1] });
  x = b.op("MaxPool", [x], { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] });
  x = block(x, 2, [8, 6, 3, 3], { pads: [1, 1, 1, 1], strides: [2, 2] });
  x = block(x, 3, [8, 1, 3, 3], { pads: [1, 1, 1, 1], group: 8 });
  x = block(x, 4, [10, 8, 1, 1], {});
  const pooled = b.op("Reshape", [b.op("GlobalAveragePool", [x]), b.ints([rows, 10])]);
  const logits = b.op("Gemm", [pooled, input("fc", noise(5, [classes, 10]))], { transB: 1 });
  b.output(b.op("SoftmaxCrossEntropyLoss", [logits, b.input("targets", "i64", [rows])], {}, "loss"));
  for (const after of Object.values(statistics)) b.output(after);
  return { graph: b.build(), held, statistics };
}

test.skipIf(!native)("a small CNN has the losses and running statistics of PyTorch", async () => {
  const { graph, held, statistics } = network(true);
  const parameters = Object.keys(held).filter((name) => !(name in statistics));
  const joint = differentiate(graph, { loss: 1 }, parameters);
  const gradients = parameters.map((name) => joint.gradients.get(name)!);
  const wanted = ["loss", ...Object.values(statistics), ...gradients];
  const step = extract(joint.builder.build(), graph.inputs, wanted);

  const engine = await createEngine({ engine: "native" });
  try {
    const losses: number[] = [];
    for (let i = 0; i < fixture.losses.length; i++) {
      const results = await runGraph(engine, step, { ...held, ...batch(i) });
      losses.push(results.loss!.f32()[0]!);
      for (const [before, after] of Object.entries(statistics)) held[before] = results[after]!;
      parameters.forEach((name, k) => {
        const [values, gradient] = [held[name]!.f32(), results[gradients[k]!]!.f32()];
        for (let at = 0; at < values.length; at++) values[at]! -= fixture.rate * gradient[at]!;
      });
    }
    losses.forEach((loss, i) => {
      expect(Math.abs(loss / fixture.losses[i]! - 1), `loss of step ${i}`).toBeLessThan(TOLERANCE);
    });
    for (const [ours, theirs] of [
      ["mean", fixture.means],
      ["variance", fixture.variances],
    ] as const) {
      Object.values(theirs).forEach((values, layer) => {
        const got = held[`${ours}${layer + 1}`]!.f32();
        values.forEach((value, i) => {
          const error = Math.abs(got[i]! - value) / (1 + Math.abs(value));
          expect(error, `${ours}${layer + 1}[${i}]`).toBeLessThan(TOLERANCE);
        });
      });
    }
    const evaluation = await runGraph(engine, network(false).graph, { ...held, ...batch(losses.length) });
    expect(Math.abs(evaluation.loss!.f32()[0]! / fixture.validation - 1)).toBeLessThan(TOLERANCE);
  } finally {
    await engine.close();
  }
});
