/** A folder fine-tuned here and exported has the same logits in transformers: with a Python that has it. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { differentiate } from "../../../nn/autodiff/gradient.ts";
import { createEngine } from "../../../nn/engine/create.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { exportFolder } from "../../../nn/hf/export.ts";
import type { Model } from "../../../nn/model.ts";
import { extract } from "../../../nn/onnx/extract.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { runGraph, type Values } from "../run.ts";
import {
  batchMajor,
  batchOf,
  difference,
  expected,
  initialValues,
  logitsGraph,
  open,
  shapeOf,
} from "./fixtures.ts";
import { missing, PYTHON_TIMEOUT, pythonLogits, withFolders } from "./python.ts";

const why = await missing("transformers", "torch");
if (why) console.warn(`exported folders in transformers: skipped, ${why}`);

describe.skipIf(why !== null)("transformers", () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await createEngine();
  });
  afterAll(() => engine.close());

  /** Values after a few steps of plain gradient descent. */
  async function descend(model: Model, start: Values, batch: Values): Promise<Record<string, Tensor>> {
    const joint = differentiate(model.graph, { loss: 1 }, model.parameters);
    const wanted = model.parameters.map((name) => joint.gradients.get(name)!);
    const graph = extract(joint.builder.build(), model.graph.inputs, ["loss", ...new Set(wanted)]);
    const values: Record<string, Tensor> = { ...start };
    for (let step = 0; step < 3; step++) {
      const results = await runGraph(engine, graph, { ...values, ...batch });
      const totals = new Map(model.parameters.map((name, i) => [name, results[wanted[i]!]!.f32().slice()]));
      for (const [tied, owner] of Object.entries(model.ties)) {
        const [a, b] = [totals.get(owner)!, totals.get(tied)!];
        a.forEach((value, i) => {
          a[i] = value + b[i]!;
        });
        totals.set(tied, a);
      }
      for (const [name, gradient] of totals) {
        const old = values[name]!;
        values[name] = Tensor.f32(
          old.shape,
          old.f32().map((x, i) => x - 0.02 * gradient[i]!),
        );
      }
    }
    return values;
  }

  test(
    "loads exported folders, fine-tuned, and computes the same",
    async () => {
      const tuned = ["gpt2", "llama", "qwen3"].map(async (name) => {
        const want = expected(name);
        const folder = await open(name);
        const model = folder.model(shapeOf(want));
        const values = await descend(model, await initialValues(model), batchOf(want));
        const { logits } = await runGraph(engine, logitsGraph(model), { ...values, ...batchOf(want) });
        const ours = batchMajor(logits!, shapeOf(want));
        expect(difference(ours, want.logits)).toBeGreaterThan(0.01);
        const files = exportFolder(folder, new Map(Object.entries(values)), { dtype: "f32" });
        return { name, ours, files, ids: want.ids };
      });
      const all = await Promise.all(tuned);
      await withFolders(
        all.map(({ files }) => files),
        async (paths) => {
          const requests = all.map(({ ids }, i) => ({ folder: paths[i]!, adapter: null, ids }));
          const theirs = await pythonLogits(requests);
          all.forEach(({ name, ours }, i) => {
            expect(difference(ours, theirs[i]!), name).toBeLessThan(1e-4);
          });
        },
      );
    },
    PYTHON_TIMEOUT,
  );
});
