/**
 * A block of rotary, causal, grouped-query attention against PyTorch's scaled_dot_product_attention; the fixture is
 * made by test/fixtures/attention-block.py.
 */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { differentiate } from "../../../nn/autodiff/gradient.ts";
import { writtenOut } from "../../../nn/autodiff/write-out.ts";
import { createEngine } from "../../../nn/engine/create.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { extract } from "../../../nn/onnx/extract.ts";
import type { Graph } from "../../../nn/onnx/graph.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { runGraph } from "../run.ts";

interface Numbers {
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

const fixture: {
  readonly heads: number;
  readonly groups: number;
  readonly values: Readonly<Record<string, Numbers>>;
  readonly y: Numbers;
  readonly gradients: Readonly<Record<string, Numbers>>;
} = JSON.parse(readFileSync(join(import.meta.dir, "..", "..", "fixtures", "attention-block.json"), "utf8"));

const { heads, groups, values } = fixture;
const tensors = Object.fromEntries(
  Object.entries(values).map(([name, { shape, data }]) => [name, Tensor.f32(shape, data)]),
);
const wrt = Object.keys(fixture.gradients);

/** `apart`: heads on an axis of their own, as exporters write it; else side by side. */
function block(apart: boolean): Graph {
  const b = new GraphBuilder("block");
  for (const name of wrt) b.input(name, "f32", values[name]!.shape);
  const [batch, length, width] = values.x!.shape as [number, number, number];
  const [cos, sin] = ["cos", "sin"].map((name) => b.constant(name, tensors[name]!));
  const positions = b.constant(
    "positions",
    Tensor.i64(
      [batch, length],
      Array.from({ length: batch * length }, (_, i) => i % length),
    ),
  );
  const project = (weight: string, count: number) => {
    const y = b.op("MatMul", ["x", weight]);
    if (!apart) return y;
    const pieces = b.op("Reshape", [y, b.ints([batch, length, count, -1])]);
    return b.op("Transpose", [pieces], { perm: [0, 2, 1, 3] });
  };
  const placed = (x: string, count: number) =>
    b.op("RotaryEmbedding", [x, cos!, sin!, positions], apart ? {} : { num_heads: count });
  const [q, k, v] = [project("wq", heads), project("wk", groups), project("wv", groups)];
  let mixed = b.op(
    "Attention",
    [placed(q, heads), placed(k, groups), v],
    apart ? { is_causal: 1 } : { is_causal: 1, q_num_heads: heads, kv_num_heads: groups },
  );
  if (apart) {
    const back = b.op("Transpose", [mixed], { perm: [0, 2, 1, 3] });
    mixed = b.op("Reshape", [back, b.ints([batch, length, width])]);
  }
  b.output(b.op("MatMul", [mixed, "wo"], {}, "y"));
  return b.build();
}

function expectClose(got: Tensor, { shape, data }: Numbers, what: string): void {
  expect(got.shape, what).toEqual(shape);
  const largest = data.reduce((a, x) => Math.max(a, Math.abs(x)), 0);
  data.forEach((value, i) => {
    expect(Math.abs(got.f32()[i]! - value) / largest, `${what}[${i}]`).toBeLessThan(1e-5);
  });
}

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});
afterAll(() => engine.close());

test.each([true, false])("the block, its heads apart: %p, agrees with PyTorch's", async (apart) => {
  const graph = block(apart);
  const joint = differentiate(graph, { y: "dy" }, wrt);
  const inputs = [...graph.inputs, { name: "dy", dtype: "f32" as const, shape: fixture.y.shape }];
  const both = extract(joint.builder.build(), inputs, ["y", ...joint.gradients.values()]);
  const results = await runGraph(engine, both, tensors);
  expectClose(results.y!, fixture.y, "output");
  for (const name of wrt) {
    expectClose(results[joint.gradients.get(name)!]!, fixture.gradients[name]!, `gradient of ${name}`);
  }
});

test("written out for inference it gives the same bits as in training", async () => {
  const graph = block(false);
  const joint = differentiate(graph, { y: "dy" }, wrt);
  const trained = await runGraph(engine, extract(joint.builder.build(), graph.inputs, ["y"]), tensors);
  const run = await runGraph(engine, writtenOut(graph), tensors);
  expect(run.y!.f32()).toEqual(trained.y!.f32());
});
