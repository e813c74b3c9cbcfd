/** Text from a model: the likeliest byte after byte, beyond the model's context, and nothing left in the engine. */

import { expect, test } from "bun:test";
import { generate } from "../../actors/generate.ts";
import { createReferenceEngine } from "../../nn/engine/reference/reference.ts";
import { gptGraph, gptInitial, gptParameters } from "../../nn/index.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { runGraph } from "../nn/run.ts";

const config = { layers: 1, width: 8, heads: 2, context: 6, vocabulary: 256 };
const values = new Map(
  gptParameters(config).map(({ name, shape }) => [name, gptInitial(3, name, shape, config.layers)]),
);
const GREEDY = { temperature: 0, topK: 1 };
const random = () => {
  throw new Error("at temperature 0 nothing is drawn");
};

/** The likeliest byte after the last `context` of `text`, from a graph that is exactly as long. */
async function likeliest(text: readonly number[]): Promise<number> {
  const window = text.slice(-config.context);
  const ids = Tensor.i64([window.length, 1], window);
  const graph = gptGraph(config, 1, window.length, "logits");
  const { logits } = await runGraph(createReferenceEngine(), graph, { ...Object.fromEntries(values), ids });
  const last = logits!.f32().slice(-config.vocabulary);
  return last.indexOf(Math.max(...last));
}

test.each(["a", "seven77", "a prompt longer than the context"])("goes on from %p", async (text) => {
  const engine = createReferenceEngine();
  const prompt = new TextEncoder().encode(text);
  const graph = gptGraph(config, 1, config.context, "logits");
  const result = await generate(engine, { graph, values, prompt, count: 8, sampling: GREEDY, random });
  const expected = [...prompt];
  for (let i = 0; i < 8; i++) expected.push(await likeliest(expected));
  expect(result).toEqual(expected);
  expect(engine.usage()).toEqual({ tensors: 0, tensorBytes: 0, executables: 0, bindings: 0 });
});

test("ends before the token that ends a text", async () => {
  const engine = createReferenceEngine();
  const prompt = new TextEncoder().encode("seven77");
  const end = await likeliest([...prompt]);
  const graph = gptGraph(config, 1, config.context, "logits");
  const request = { graph, values, prompt, count: 8, sampling: GREEDY, random, end };
  expect(await generate(engine, request)).toEqual([...prompt]);
});
