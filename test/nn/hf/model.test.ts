/** Folders written by transformers: the same logits, loss and gradients here as there. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { differentiate } from "../../../nn/autodiff/gradient.ts";
import { createEngine } from "../../../nn/engine/create.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { heldInputs, type Model } from "../../../nn/model.ts";
import { extract } from "../../../nn/onnx/extract.ts";
import type { Tensor } from "../../../protocols/tensor.ts";
import { runGraph } from "../run.ts";
import {
  batchMajor,
  batchOf,
  difference,
  expected,
  FOLDERS,
  initialValues,
  logitsGraph,
  open,
  shapeOf,
} from "./fixtures.ts";

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});
afterAll(() => engine.close());

const norm = (values: Iterable<number>) => Math.sqrt([...values].reduce((sum, x) => sum + x * x, 0));

describe.each(FOLDERS)("a folder of %s", (name) => {
  test("gives transformers' logits", async () => {
    const want = expected(name);
    const model = (await open(name)).model(shapeOf(want));
    const values = { ...(await initialValues(model)), ...batchOf(want) };
    const { logits } = await runGraph(engine, logitsGraph(model), values);
    expect(difference(batchMajor(logits!, shapeOf(want)), want.logits)).toBeLessThan(1e-5);
  });

  test("gives transformers' loss and gradients, tied parameters summed", async () => {
    const want = expected(name);
    const model = (await open(name)).model(shapeOf(want));
    expect(heldInputs(model).map((input) => input.name)).toEqual([...model.parameters]);
    const { gradients, loss } = await lossAndGradients(model);
    expect(loss).toBeCloseTo(want.loss, 4);
    for (const [tied, owner] of Object.entries(model.ties)) {
      const [of, also] = [gradients.get(owner)!.f32(), gradients.get(tied)!.f32()];
      of.forEach((value, i) => {
        of[i] = value + also[i]!;
      });
      gradients.delete(tied);
    }
    expect([...gradients.keys()].sort()).toEqual(Object.keys(want.gradients).sort());
    for (const [parameter, gradient] of gradients) {
      const [got, wanted] = [norm(gradient.f32()), want.gradients[parameter]!];
      // A key's bias changes nothing in a layer without rotation: its gradient is what rounding leaves of 0.
      expect(Math.abs(got - wanted), parameter).toBeLessThan(1e-4 * wanted + 1e-5);
    }
  });

  async function lossAndGradients(model: Model) {
    const joint = differentiate(model.graph, { loss: 1 }, model.parameters);
    const wanted = model.parameters.map((parameter) => joint.gradients.get(parameter)!);
    const graph = extract(joint.builder.build(), model.graph.inputs, ["loss", ...new Set(wanted)]);
    const values = { ...(await initialValues(model)), ...batchOf(expected(name)) };
    const results = await runGraph(engine, graph, values);
    const gradients = new Map<string, Tensor>(
      model.parameters.map((parameter, i) => [parameter, results[wanted[i]!]!]),
    );
    return { gradients, loss: results.loss!.f32()[0]! };
  }
});
