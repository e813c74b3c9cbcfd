/** Frozen weights in fewer bytes: how many, how exact, and when they are widened. */

import { describe, expect, test } from "bun:test";
import { availableEngines, createEngine } from "../../../nn/engine/create.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { lora } from "../../../nn/finetune/lora.ts";
import { type Storage, storeFrozen } from "../../../nn/finetune/storage.ts";
import { heldInputs, type Model } from "../../../nn/model.ts";
import { cutGraph, findSegments } from "../../../nn/segments.ts";
import { trainingGraphs } from "../../../nn/training.ts";
import { byteLength, type Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";
import {
  batchMajor,
  batchOf,
  difference,
  expected,
  initialValues,
  logitsGraph,
  open,
  shapeOf,
} from "../hf/fixtures.ts";
import { runGraph } from "../run.ts";

const heldBytes = (model: Model) =>
  heldInputs(model).reduce((sum, { dtype, shape }) => sum + byteLength(dtype, shape), 0);

/** The model with adapters, everything else frozen. */
async function adapted(name: string) {
  const want = expected(name);
  const model = (await open(name)).model(shapeOf(want));
  const targets = [name === "gpt2" ? "c_attn" : "q_proj", "lm_head"];
  return { want, model: lora(model, { targets, rank: 1, alpha: 1 }) };
}

/** A stage that is the whole model. */
const WHOLE = { input: null, output: null, microBatches: 1, recompute: false };

/** Relative to the largest logit. */
const EXACT: Readonly<Record<Storage, number>> = { bf16: 0.04, f16: 0.004, int8: 0.06 };

describe.each(["gpt2", "llama", "qwen3"])("frozen weights of %s", (name) => {
  test.each(["bf16", "f16", "int8"] as const)(
    "as %s take fewer bytes, and are nearly the same",
    async (storage) => {
      const { want, model } = await adapted(name);
      const stored = storeFrozen(model, storage);
      expect(stored.parameters).toEqual(model.parameters);
      expect(stored.adapters).toBe(model.adapters);
      // Vectors, adapters and scales of these small models weigh more than those of large ones.
      expect(heldBytes(stored) / heldBytes(model)).toBeLessThan(storage === "int8" ? 0.42 : 0.56);
      for (const { name: input, dtype, shape } of heldInputs(stored)) {
        const value = await stored.initial(input, 1);
        expect([value.dtype, value.shape], input).toEqual([dtype, shape]);
      }
      const values = { ...(await initialValues(stored, 1)), ...batchOf(want) };
      const engine = await createEngine();
      try {
        const { logits } = await runGraph(engine, logitsGraph(stored), values);
        const got = batchMajor(logits!, shapeOf(want));
        const largest = Math.max(...want.logits.map(Math.abs));
        const off = Math.max(...got.map((value, i) => Math.abs(value - want.logits[i]!))) / largest;
        // Folders kept in bf16 are exact in it.
        if (storage === "bf16" && name === "qwen3") expect(off).toBeLessThan(1e-5);
        else expect(off).toBeLessThan(EXACT[storage]);
        const reference = (await runGraph(createReferenceEngine(), logitsGraph(stored), values)).logits!;
        expect(difference(reference.f32(), logits!.f32())).toBeLessThan(1e-4);
      } finally {
        await engine.close();
      }
    },
  );

  test("fall into the segments of the model, each with its own", async () => {
    const { model } = await adapted(name);
    const stored = storeFrozen(model, "int8");
    const segments = findSegments(stored);
    expect(segments.length).toBe(findSegments(model).length);
    expect(segments.flatMap(({ frozen }) => frozen).sort()).toEqual([...stored.frozen].sort());
  });
});

describe("a training graph over stored weights", () => {
  test.each(["bf16", "int8"] as const)("widens %s at the head, once for each pass", async (storage) => {
    const { model } = await adapted("llama");
    const stored = storeFrozen(model, storage);
    const { joint } = trainingGraphs(stored.graph, stored, WHOLE);
    const widening = storage === "bf16" ? "Cast" : "DequantizeLinear";
    const last = joint!.nodes.findLastIndex(
      ({ op, inputs }) => op === widening && !inputs[0]!.startsWith("Gather"),
    );
    const head = joint!.nodes.slice(0, last + 1);
    expect(new Set(head.map(({ op }) => op))).toEqual(
      new Set(storage === "bf16" ? ["Reshape", "Cast"] : [widening]),
    );
    // Equal nodes would be made one by the runtime, and live from one pass to the other.
    const spelled = head.map(({ op, inputs, attributes }) => JSON.stringify([op, inputs, attributes]));
    expect(new Set(spelled).size).toBe(head.length);
    const readers = (name: string) => joint!.nodes.filter(({ inputs }) => inputs.includes(name)).length;
    expect(head.every(({ outputs }) => readers(outputs[0]!) === 1)).toBe(true);
    // Every matrix but the first layer's v, which no adapter's gradient passes through, is wanted by both.
    const count = head.filter(({ op }) => op === widening).length;
    const matrices = stored.graph.inputs.filter(
      ({ dtype, shape }) => dtype !== "f32" && shape.length === 2,
    ).length;
    expect(count).toBeGreaterThan(1.5 * (matrices - 3));
  });

  test("stashes no widened weight", async () => {
    const { model } = await adapted("llama");
    const stored = storeFrozen(model, "bf16");
    const segments = findSegments(stored);
    const output = segments[1]!.output!;
    const { stash } = trainingGraphs(cutGraph(stored.graph, segments, 0, 2), stored, { ...WHOLE, output });
    expect(stash.length).toBeGreaterThan(0);
    expect(stash.filter(({ name }) => name.includes("weight.f32"))).toEqual([]);
  });

  test("learns as one over f32 weights that hold the same", async () => {
    const { want, model } = await adapted("qwen3");
    const losses = [];
    for (const each of [model, storeFrozen(model, "bf16")]) {
      const { joint } = trainingGraphs(each.graph, each, WHOLE);
      const engine = await createEngine();
      try {
        const values = { ...(await initialValues(each, 1)), ...batchOf(want) };
        const chance = new Chance(1);
        for (const parameter of each.parameters)
          values[parameter] = chance.f32(values[parameter]!.shape, -0.1, 0.1);
        losses.push(await runGraph(engine, joint!, values));
      } finally {
        await engine.close();
      }
    }
    const [wide, narrow] = losses as [Record<string, Tensor>, Record<string, Tensor>];
    expect(Object.keys(narrow)).toEqual(Object.keys(wide));
    for (const [key, value] of Object.entries(wide))
      expect(difference(narrow[key]!.f32(), value.f32()), key).toBeLessThan(1e-5);
  });
});

const web = (await availableEngines()).some(({ name }) => name === "web");
test.skipIf(!web)("WebAssembly widens as native does", async () => {
  const { want, model } = await adapted("llama");
  const engine = await createEngine({ engine: "web" });
  try {
    for (const storage of ["bf16", "int8"] as const) {
      const stored = storeFrozen(model, storage);
      const values = { ...(await initialValues(stored, 1)), ...batchOf(want) };
      const { logits } = await runGraph(engine, logitsGraph(stored), values);
      const reference = (await runGraph(createReferenceEngine(), logitsGraph(stored), values)).logits!;
      expect(difference(logits!.f32(), reference.f32())).toBeLessThan(1e-4);
    }
  } finally {
    await engine.close();
  }
});
