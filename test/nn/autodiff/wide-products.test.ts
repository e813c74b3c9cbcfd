/** Weight gradients with many columns, whose left side is turned first: the sums that their definition says. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { differentiate } from "../../../nn/autodiff/gradient.ts";
import type { Engine } from "../../../nn/engine/engine.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { extract } from "../../../nn/onnx/extract.ts";
import { Chance } from "../engine/operator-cases.ts";
import { runGraph } from "../run.ts";

let engine: Engine;
beforeAll(() => {
  engine = createReferenceEngine();
});
afterAll(() => engine.close());

const [ROWS, INNER, WIDE] = [3, 2, 600];

test.each([
  { op: "MatMul", transA: 0, transB: 0, inner: INNER, columns: WIDE },
  { op: "Gemm", transA: 0, transB: 0, inner: INNER, columns: WIDE },
  { op: "Gemm", transA: 1, transB: 0, inner: INNER, columns: WIDE },
  { op: "Gemm", transA: 0, transB: 1, inner: WIDE, columns: INNER },
  { op: "Gemm", transA: 1, transB: 1, inner: WIDE, columns: INNER },
])("$op with transA $transA, transB $transB, of $inner by $columns", async (given) => {
  const { op, transA, transB, inner, columns } = given;
  const chance = new Chance(columns + 2 * transA + transB);
  const b = new GraphBuilder("wide");
  b.input("x", "f32", transA ? [inner, ROWS] : [ROWS, inner]);
  b.input("w", "f32", transB ? [columns, inner] : [inner, columns]);
  b.op(op, ["x", "w"], op === "Gemm" ? { transA, transB } : {}, "y");
  b.output("y");
  const graph = b.build();
  const joint = differentiate(graph, { y: "dy" }, ["w"]);
  const gradient = joint.gradients.get("w")!;
  const source = joint.builder.build();
  expect(source.nodes.some((node) => node.op === "Transpose")).toBe(!transA || transB === 1);
  const x = chance.f32(transA ? [inner, ROWS] : [ROWS, inner], -1, 1);
  const dy = chance.f32([ROWS, columns], -1, 1);
  const available = [...graph.inputs, { name: "dy", dtype: "f32" as const, shape: [ROWS, columns] }];
  const got = (await runGraph(engine, extract(source, available, [gradient]), { x, dy }))[gradient]!.f32();
  for (let i = 0; i < inner; i++) {
    for (let j = 0; j < columns; j++) {
      let sum = 0;
      for (let r = 0; r < ROWS; r++) {
        sum += x.f32()[transA ? i * ROWS + r : r * inner + i]! * dy.f32()[r * columns + j]!;
      }
      expect(got[transB ? j * inner + i : i * columns + j]).toBeCloseTo(sum, 5);
    }
  }
});
