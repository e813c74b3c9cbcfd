/** Every gradient rule against torch.autograd; the scripts in `test/fixtures/gradients/` make the fixtures. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { differentiate, GRADIENT_RULES } from "../../../nn/autodiff/gradient.ts";
import { createEngine } from "../../../nn/engine/create.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { extract } from "../../../nn/onnx/extract.ts";
import type { Attribute } from "../../../nn/onnx/graph.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { runGraph } from "../run.ts";

const FIXTURES = join(import.meta.dir, "..", "..", "fixtures", "gradients");

/** Relative to the largest element of a gradient. */
const TOLERANCE = 1e-5;

interface Case {
  readonly op: string;
  readonly domain: string;
  readonly attributes: Readonly<Record<string, Attribute>>;
  readonly inputs: readonly Input[];
  /** Of each output, by which it enters the loss. */
  readonly weights: readonly (readonly number[])[];
}

interface Input {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data: readonly number[];
  readonly constant?: boolean;
  readonly gradient?: readonly number[];
}

const cases: readonly Case[] = readdirSync(FIXTURES)
  .filter((name) => name.endsWith(".json"))
  .sort()
  .flatMap((name) => JSON.parse(readFileSync(join(FIXTURES, name), "utf8")).cases);

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});
afterAll(() => engine.close());

test("every rule has cases", () => {
  expect([...new Set(cases.map(({ op }) => op))].sort()).toEqual(Object.keys(GRADIENT_RULES).sort());
});

for (const op of Object.keys(GRADIENT_RULES)) {
  test(`${op} agrees with PyTorch`, async () => {
    for (const [i, instance] of cases.filter((each) => each.op === op).entries()) {
      const { inputs } = instance;
      const b = new GraphBuilder(op);
      const tensors = inputs.map(({ dtype, shape, data }) =>
        dtype === "i64" ? Tensor.i64(shape, data) : Tensor.f32(shape, data),
      );
      const names = inputs.map(({ constant }, k) =>
        constant ? b.constant(`x${k}`, tensors[k]!) : b.input(`x${k}`, tensors[k]!.dtype, tensors[k]!.shape),
      );
      const outputs = instance.weights.map((_, k) => `y${k}`);
      const { attributes } = instance;
      b.node(op, names, { outputs, attributes, domain: instance.domain });
      for (const y of outputs) b.output(y);

      const wrt = names.filter((_, k) => inputs[k]!.gradient);
      const seeds = Object.fromEntries(outputs.map((y) => [y, `d${y}`]));
      const joint = differentiate(b.build(), seeds, wrt);
      const given = [...b.build().inputs, ...outputs.map((y) => ({ name: `d${y}`, ...b.type(y) }))];
      // Two inputs may share one gradient, and an output's gradient may be passed on as it came.
      const wanted = [...new Set(joint.gradients.values())].filter(
        (name) => !Object.values(seeds).includes(name),
      );
      const values: Record<string, Tensor> = Object.fromEntries(names.map((name, k) => [name, tensors[k]!]));
      for (const [k, y] of outputs.entries()) values[`d${y}`] = Tensor.f32(b.shape(y), instance.weights[k]!);
      const graph = extract(joint.builder.build(), given, wanted);
      const results = { ...values, ...(wanted.length > 0 && (await runGraph(engine, graph, values))) };
      for (const [k, name] of names.entries()) {
        const { gradient, shape } = inputs[k]!;
        if (!gradient) continue;
        const got = results[joint.gradients.get(name)!]!;
        expect(got.shape).toEqual(shape);
        const largest = gradient.reduce((a, x) => Math.max(a, Math.abs(x)), 1e-3);
        gradient.forEach((value, at) => {
          const error = Math.abs(got.f32()[at]! - value) / largest;
          expect(error, `${op} case ${i}, gradient of ${name}[${at}]`).toBeLessThan(TOLERANCE);
        });
      }
    }
  });
}
