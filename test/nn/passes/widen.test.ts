/** What is widened late and twice computes the same; graphs over f32 weights stay as they are. */

import { expect, test } from "bun:test";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { extract } from "../../../nn/onnx/extract.ts";
import type { Node } from "../../../nn/onnx/graph.ts";
import { widenLate, widenTwice } from "../../../nn/passes/widen.ts";
import { fromF32 } from "../../../nn/weights/convert.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../engine/operator-cases.ts";
import { runGraph } from "../run.ts";

/** Two products by widened weights in forward, and two of their transposes in backward. */
function passes() {
  const b = new GraphBuilder("widen");
  b.input("x", "f32", [3, 4]);
  b.input("w", "f16", [4, 4]);
  b.input("q", "i8", [4, 4]);
  b.input("s", "f32", [4]);
  b.op("Cast", ["w"], { to: 1 }, "w.f32");
  b.op("Gemm", ["x", "w.f32"], {}, "y");
  b.op("DequantizeLinear", ["q", "s"], { axis: 0 }, "q.f32");
  b.op("Gemm", ["y", "q.f32"], {}, "z");
  const forward = b.nodeList;
  b.op("Gemm", ["z", "q.f32"], { transB: 1 }, "dy");
  b.op("Gemm", ["dy", "w.f32"], { transB: 1 }, "dx");
  return { b, forward, backward: b.nodeList.slice(forward.length) };
}

const held = new Set(["w", "q", "s"]);
const ops = (nodes: readonly Node[]) => nodes.map(({ op }) => op).join(" ");

test("what widens held values is at the head, and nothing else moves", () => {
  const { forward } = passes();
  expect(ops(widenLate(forward, held))).toBe("Cast DequantizeLinear Gemm Gemm");
  expect(widenLate(forward, new Set())).toBe(forward);
});

test("backward widens for itself, to the same values", async () => {
  const { b, forward, backward } = passes();
  const plain = [...forward, ...backward];
  expect(widenTwice(b, forward, backward, new Set())).toEqual(plain);
  const before = b.build();
  const nodes = widenTwice(b, forward, backward, held);
  expect(ops(nodes)).toBe("DequantizeLinear Reshape Cast Reshape Cast DequantizeLinear Gemm Gemm Gemm Gemm");
  const readers = (name: string) => nodes.filter(({ inputs }) => inputs.includes(name)).length;
  expect([readers("w.f32"), readers("q.f32")]).toEqual([1, 1]);

  const values = {
    x: new Chance(6).f32([3, 4]),
    w: fromF32(new Chance(7).f32([4, 4]), "f16"),
    q: new Tensor(
      "i8",
      [4, 4],
      Uint8Array.from({ length: 16 }, (_, i) => 37 * i),
    ),
    s: new Chance(8).f32([4], 0.1, 0.2),
  };
  const engine = createReferenceEngine();
  const source = (all: readonly Node[]) => ({
    name: "widen",
    initializers: b.build().initializers,
    nodes: all,
  });
  const run = async (all: readonly Node[]) => {
    const graph = extract(source(all), before.inputs, ["z", "dx"]);
    return runGraph(engine, graph, values);
  };
  expect(await run(nodes)).toEqual(await run(plain));
});
