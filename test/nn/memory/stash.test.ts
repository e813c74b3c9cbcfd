/**
 * What a stage keeps, and whether its backward pass runs in one or in two: memory and time, and no bit of the result.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createEngine } from "../../../nn/engine/create.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import type { Trainable } from "../../../nn/model.ts";
import { gptModel } from "../../../nn/models/gpt.ts";
import type { Graph } from "../../../nn/onnx/graph.ts";
import { cutGraph, findSegments } from "../../../nn/segments.ts";
import {
  gradientName,
  keptBytes,
  type StageGraphs,
  type StageOptions,
  trainingGraphs,
} from "../../../nn/training.ts";
import { byteLength, type Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";
import { motley } from "../motley.ts";
import { deadNodes, randomValues, runGraph } from "../run.ts";

let engine: Engine;
beforeAll(async () => {
  engine = await createEngine();
});
afterAll(() => engine.close());

const gpt = gptModel({ layers: 2, width: 16, heads: 2, context: 8, vocabulary: 32 }, 2);
const models: readonly [string, Trainable, number, number][] = [
  ["a GPT's middle", gpt, 1, 5],
  ["one with statistics and dropout", motley(), 1, 5],
];

function stage(model: Trainable, from: number, to: number, options: Partial<StageOptions>): StageGraphs {
  const segments = findSegments(model);
  const [input, output] = [segments[from]!.input, segments[to - 1]!.output];
  const all = { input, output, microBatches: 2, recompute: true, ...options };
  return trainingGraphs(cutGraph(model.graph, segments, from, to), model, all);
}

/** What a graph reads of what another wrote: everything but the inputs of the stage. */
const readBytes = (graph: Graph, names: ReadonlySet<string>) =>
  graph.inputs
    .filter(({ name }) => names.has(name))
    .reduce((sum, { dtype, shape }) => sum + byteLength(dtype, shape), 0);

/** Gradients and statistics of one micro-batch. */
async function gradients(graphs: StageGraphs): Promise<Record<string, Tensor>> {
  const { forward, backward, backwardInput, backwardWeights } = graphs;
  const chance = new Chance(3);
  // Random numbers are drawn by name, so that every choice of a stash sees the same.
  const known: Record<string, Tensor> = { ...randomValues(forward!, chance, 32) };
  const seed = gradientName(graphs.output!);
  const last = [backward, backwardInput, backwardWeights].find((graph) =>
    graph?.inputs.some(({ name }) => name === seed),
  )!;
  const info = last.inputs.find(({ name }) => name === seed)!;
  known[seed] = new Chance(4).f32(info.shape, -1, 1);
  const results: Record<string, Tensor> = {};
  for (const graph of [forward, backward, backwardInput, backwardWeights]) {
    if (!graph) continue;
    expect(deadNodes(graph)).toEqual([]);
    const made = await runGraph(engine, graph, known);
    Object.assign(known, made);
    if (graph !== forward) Object.assign(results, made);
  }
  const wanted = (name: string) => name.startsWith("sum.") || name === gradientName(graphs.input!);
  return Object.fromEntries(
    Object.entries(results)
      .filter(([name]) => wanted(name))
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

describe.each(models)("%s", (_, model, from, to) => {
  const whole = stage(model, from, to, { recompute: false });
  const all = whole.stash.reduce((sum, { dtype, shape }) => sum + byteLength(dtype, shape), 0);

  test("keeps no more than its budget, what it counts is what its graphs read, and no bit depends on it", async () => {
    const expected = await gradients(whole);
    expect(Object.keys(expected).length).toBe(whole.parameters.length + 1);
    const kept: number[] = [];
    for (const share of [0, 0.2, 0.5, 0.8, 1]) {
      const graphs = stage(model, from, to, { stashBytes: share * all });
      const stash = new Set(graphs.stash.map(({ name }) => name));
      const input = keptBytes(graphs) - readBytes(graphs.backward!, stash);
      expect(input).toBe(readBytes(graphs.forward!, new Set([graphs.input!])));
      kept.push(keptBytes(graphs) - input);
      expect(kept.at(-1)!).toBeLessThanOrEqual(share * all);
      expect(await gradients(graphs), `${share}`).toEqual(expected);
    }
    expect(kept[0]).toBe(0);
    expect(kept.at(-1)).toBe(all);
    expect(kept).toEqual([...kept].sort((a, b) => a - b));
    expect(new Set(kept).size).toBeGreaterThan(3);
  });

  test.each([{ recompute: false }, { recompute: true }])(
    "has the same gradients when its backward pass is split: %o",
    async (options) => {
      const graphs = stage(model, from, to, { ...options, split: true });
      expect(graphs.backward).toBeNull();
      const sums = graphs.parameters.map(({ name }) => `sum.${name}`);
      expect(graphs.backwardWeights!.outputs.map(({ name }) => name)).toEqual(sums);
      const first = graphs.backwardInput!.outputs.map(({ name }) => name);
      expect(first[0]).toBe(gradientName(graphs.input!));
      expect(first.filter((name) => sums.includes(name))).toEqual([]);
      expect(await gradients(graphs)).toEqual(await gradients(whole));
    },
  );
});
