import { expect, test } from "bun:test";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import type { Graph } from "../../../nn/onnx/graph.ts";
import { joinCuts } from "../../../nn/passes/join-cuts.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";
import { runGraph } from "../run.ts";

const X = [4, 6];

function graphOf(write: (b: GraphBuilder) => readonly string[]): Graph {
  const b = new GraphBuilder("cuts");
  b.input("x", "f32", X);
  for (const name of write(b)) b.output(name);
  return b.build();
}

const slice = (b: GraphBuilder, from: number, to: number, axis: number, step = 1) =>
  b.op("Slice", ["x", b.ints([from]), b.ints([to]), b.ints([axis]), b.ints([step])]);

const picked = (b: GraphBuilder, index: number) =>
  b.op("Gather", ["x", b.constant(`index.${index}`, Tensor.i64([], [index]))], { axis: 0 });

const operators = (graph: Graph) => graph.nodes.map(({ op }) => op);

async function expectSame(before: Graph, after: Graph): Promise<void> {
  const engine = createReferenceEngine();
  const x = new Chance(1).f32(X);
  expect(after.outputs).toEqual(before.outputs);
  expect(await runGraph(engine, after, { x })).toEqual(await runGraph(engine, before, { x }));
}

test("slices of a whole axis, in any order and beside other readers, are one Split", async () => {
  const graph = graphOf((b) => [
    slice(b, 4, 1000, 1),
    b.op("Neg", ["x"]),
    slice(b, 0, 1, -1),
    slice(b, -5, 4, 1),
  ]);
  const joined = joinCuts(graph);
  expect(operators(joined)).toEqual(["Split", "Neg"]);
  await expectSame(graph, joined);
});

test("elements of a whole axis are one Split and views", async () => {
  const graph = graphOf((b) => [2, 0, -1, 1].map((index) => picked(b, index)));
  const joined = joinCuts(graph);
  expect(operators(joined)).toEqual(["Split", "Squeeze", "Squeeze", "Squeeze", "Squeeze"]);
  await expectSame(graph, joined);
});

test.each<[string, (b: GraphBuilder) => string[]]>([
  ["leave something out", (b) => [slice(b, 0, 2, 1), slice(b, 3, 6, 1)]],
  ["overlap and leave something out", (b) => [slice(b, 0, 3, 1), slice(b, 2, 5, 1)]],
  ["overlap", (b) => [slice(b, 0, 4, 1), slice(b, 3, 6, 1)]],
  ["are of different axes", (b) => [slice(b, 0, 2, 0), slice(b, 2, 6, 1)]],
  ["have steps", (b) => [slice(b, 0, 6, 1, 2), slice(b, 1, 6, 1, 2)]],
  ["are one", (b) => [slice(b, 0, 6, 1)]],
])("pieces that %s stay as they are", (_, write) => {
  const graph = graphOf(write);
  expect(joinCuts(graph)).toBe(graph);
});
