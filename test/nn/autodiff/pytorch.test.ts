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
  /** Null where an input is left out. */
  readonly inputs: readonly (Input | null)[];
  /** Which outputs the node has. */
  readonly outputs: readonly boolean[];
  /** Of each output, by which it enters the loss; null when it is no real number. */
  readonly weights: readonly (readonly number[] | null)[];
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

function tensorOf({ dtype, shape, data }: Input): Tensor {
  if (dtype === "i64") return Tensor.i64(shape, data);
  return dtype === "bool" ? new Tensor("bool", shape, Uint8Array.from(data)) : Tensor.f32(shape, data);
}

for (const op of Object.keys(GRADIENT_RULES)) {
  test(`${op} agrees with PyTorch`, async () => {
    for (const [i, instance] of cases.filter((each) => each.op === op).entries()) {
      await check(instance, `${op} case ${i}`);
    }
  });
}

async function check({ op, domain, attributes, inputs, outputs, weights }: Case, where: string) {
  const b = new GraphBuilder(op);
  const values: Record<string, Tensor> = {};
  const names = inputs.map((input, k) => {
    if (!input) return "";
    const tensor = tensorOf(input);
    if (input.constant) return b.constant(`x${k}`, tensor);
    values[`x${k}`] = tensor;
    return b.input(`x${k}`, tensor.dtype, tensor.shape);
  });
  const ys = outputs.map((there, k) => (there ? `y${k}` : ""));
  b.node(op, names, { outputs: ys, attributes, domain });
  const weighed = ys.filter((_, k) => weights[k]);
  for (const y of weighed) b.output(y);

  const wrt = names.filter((_, k) => inputs[k]?.gradient);
  const seeds = Object.fromEntries(weighed.map((y) => [y, `d${y}`]));
  const joint = differentiate(b.build(), seeds, wrt);
  const given = [...b.build().inputs, ...weighed.map((y) => ({ name: `d${y}`, ...b.type(y) }))];
  // Two inputs may share one gradient, and an output's gradient may be passed on as it came.
  const passed = Object.values(seeds);
  const wanted = [...new Set(joint.gradients.values())].filter((name) => !passed.includes(name));
  for (const [k, y] of ys.entries()) if (weights[k]) values[`d${y}`] = Tensor.f32(b.shape(y), weights[k]);
  const graph = extract(joint.builder.build(), given, wanted);
  const results = { ...values, ...(wanted.length > 0 && (await runGraph(engine, graph, values))) };
  for (const [k, name] of names.entries()) {
    const gradient = inputs[k]?.gradient;
    if (!gradient) continue;
    const got = results[joint.gradients.get(name)!]!;
    expect(got.shape).toEqual(inputs[k]!.shape);
    const largest = gradient.reduce((a, x) => Math.max(a, Math.abs(x)), 1e-3);
    gradient.forEach((value, at) => {
      const error = Math.abs(got.f32()[at]! - value) / largest;
      expect(error, `${where}, gradient of ${name}[${at}]`).toBeLessThan(TOLERANCE);
    });
  }
}
