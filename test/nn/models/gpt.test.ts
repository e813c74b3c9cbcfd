import { describe, expect, test } from "bun:test";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { DEFAULT_GPT, gptGraph, gptParameters } from "../../../nn/models/gpt.ts";
import { GraphError } from "../../../nn/onnx/graph.ts";
import { decodeModel, encodeModel } from "../../../nn/onnx/proto.ts";
import { elements, Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";
import { deadNodes, randomValues, runGraph } from "../run.ts";

const config = { layers: 2, width: 8, heads: 2, context: 6, vocabulary: 16 };

test("the default has 0.9 million parameters", () => {
  const count = gptParameters(DEFAULT_GPT).reduce((sum, { shape }) => sum + elements(shape), 0);
  expect(count).toBe(867_072);
});

describe("gptGraph", () => {
  test("takes ids, targets and its parameters in order, and computes nothing in vain", () => {
    const graph = gptGraph(config, 3, 6, "loss");
    expect(graph.inputs.slice(0, 2)).toEqual([
      { name: "ids", dtype: "i64", shape: [6, 3] },
      { name: "targets", dtype: "i64", shape: [18] },
    ]);
    expect(graph.inputs.slice(2)).toEqual(gptParameters(config));
    expect(graph.outputs).toEqual([{ name: "loss", dtype: "f32", shape: [] }]);
    expect(deadNodes(graph)).toEqual([]);
  });

  test("ends in the loss of its logits", async () => {
    const engine = createReferenceEngine();
    const values = randomValues(gptGraph(config, 2, 6, "loss"), new Chance(4), 16);
    const loss = (await runGraph(engine, gptGraph(config, 2, 6, "loss"), values)).loss!.f32()[0]!;
    const { logits } = await runGraph(engine, gptGraph(config, 2, 6, "logits"), values);
    expect(logits!.shape).toEqual([12, 16]);
    const rows = Array.from(values.targets!.i64(), (target, row) => {
      const scores = [...logits!.f32().slice(row * 16, (row + 1) * 16)];
      return Math.log(scores.reduce((sum, score) => sum + Math.exp(score), 0)) - scores[Number(target)]!;
    });
    expect(loss).toBeCloseTo(rows.reduce((a, b) => a + b) / rows.length, 5);
  });

  test("is causal: a position sees itself and what came before, in its own sequence", async () => {
    const engine = createReferenceEngine();
    const graph = gptGraph(config, 2, 6, "logits");
    const values = randomValues(graph, new Chance(4), 16);
    const before = (await runGraph(engine, graph, values)).logits!.f32();
    const ids = values.ids!.i64();
    // Position 3 of sequence 1 is row 3·2 + 1.
    ids[7] = (ids[7]! + 1n) % 16n;
    const after = (await runGraph(engine, graph, values)).logits!.f32();
    const changed = Array.from({ length: 12 }, (_, row) => row).filter((row) =>
      before.slice(row * 16, (row + 1) * 16).some((value, i) => value !== after[row * 16 + i]),
    );
    expect(changed).toEqual([7, 9, 11]);
  });

  test("a shorter sequence has the logits of the longer one's beginning", async () => {
    const engine = createReferenceEngine();
    const values = randomValues(gptGraph(config, 1, 6, "logits"), new Chance(4), 16);
    const whole = (await runGraph(engine, gptGraph(config, 1, 6, "logits"), values)).logits!;
    const ids = Tensor.i64([4, 1], values.ids!.i64().slice(0, 4));
    const part = (await runGraph(engine, gptGraph(config, 1, 4, "logits"), { ...values, ids })).logits!;
    part.f32().forEach((value, i) => {
      expect(value).toBeCloseTo(whole.f32()[i]!, 5);
    });
  });

  test("goes through a file", () => {
    const graph = gptGraph(config, 2, 5, "logits");
    expect(decodeModel(encodeModel(graph))).toEqual(graph);
  });

  test("refuses heads that do not divide the width, and sequences beyond the context", () => {
    expect(() => gptGraph({ ...config, heads: 3 }, 1, 6, "loss")).toThrow(
      new GraphError("width 8 does not divide into 3 heads"),
    );
    expect(() => gptGraph(config, 1, 7, "loss")).toThrow(
      new GraphError("sequences of 7 are longer than the context, 6"),
    );
  });
});
