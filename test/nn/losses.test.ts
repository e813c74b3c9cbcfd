/** The losses against PyTorch's; `test/fixtures/losses.py` makes the fixture. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { differentiate } from "../../nn/autodiff/gradient.ts";
import { createEngine } from "../../nn/engine/create.ts";
import type { Engine } from "../../nn/engine/engine.ts";
import {
  binaryCrossEntropy,
  binaryCrossEntropyWithLogits,
  crossEntropy,
  meanAbsoluteError,
  meanSquaredError,
  smoothL1,
} from "../../nn/losses.ts";
import { GraphBuilder } from "../../nn/onnx/builder.ts";
import { extract } from "../../nn/onnx/extract.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { runGraph } from "./run.ts";

const LOSSES = {
  binaryCrossEntropy,
  binaryCrossEntropyWithLogits,
  crossEntropy,
  meanAbsoluteError,
  meanSquaredError,
  smoothL1,
};

interface Case {
  readonly loss: keyof typeof LOSSES;
  readonly shape: readonly number[];
  readonly prediction: readonly number[];
  readonly targets: readonly number[];
  readonly classes: boolean;
  readonly options: readonly number[];
  readonly value: number;
  readonly gradient: readonly number[];
}

const FIXTURE = join(import.meta.dir, "..", "fixtures", "losses.json");
const { cases } = JSON.parse(readFileSync(FIXTURE, "utf8")) as { cases: readonly Case[] };

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});
afterAll(() => engine.close());

/** The loss and its gradient with respect to the prediction. */
async function run(loss: Case["loss"], prediction: Tensor, targets: Tensor, options: readonly number[] = []) {
  const b = new GraphBuilder(loss);
  b.input("prediction", "f32", prediction.shape);
  b.input("targets", targets.dtype, targets.shape);
  const value = LOSSES[loss](b, "prediction", "targets", ...(options as [number]));
  b.output(value);
  const joint = differentiate(b.build(), { [value]: 1 }, ["prediction"]);
  const gradient = joint.gradients.get("prediction")!;
  const graph = extract(joint.builder.build(), b.build().inputs, [value, gradient]);
  const results = await runGraph(engine, graph, { prediction, targets });
  return { value: results[value]!.f32()[0]!, gradient: Array.from(results[gradient]!.f32()) };
}

test.each([...new Set(cases.map(({ loss }) => loss))])("%s agrees with PyTorch", async (loss) => {
  for (const each of cases.filter((one) => one.loss === loss)) {
    const shape = each.classes ? each.shape.slice(0, -1) : each.shape;
    const targets = each.classes ? Tensor.i64(shape, each.targets) : Tensor.f32(shape, each.targets);
    const got = await run(loss, Tensor.f32(each.shape, each.prediction), targets, each.options);
    expect(Math.abs(got.value - each.value)).toBeLessThan(1e-5 * (1 + Math.abs(each.value)));
    const largest = Math.max(...each.gradient.map(Math.abs));
    for (const [i, value] of each.gradient.entries()) {
      expect(Math.abs(got.gradient[i]! - value)).toBeLessThan(1e-5 * largest);
    }
  }
});

test("an impossible probability costs 100 nats, and its gradient is a number", async () => {
  const [p, t] = [Tensor.f32([4], [0, 1, 0, 1]), Tensor.f32([4], [1, 0, 0, 1])];
  const { value, gradient } = await run("binaryCrossEntropy", p, t);
  expect(value).toBe(50);
  expect(gradient).toEqual([0, 0, 0.25, -0.25]);
});
