import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createEngine } from "../../../../nn/engine/create.ts";
import type { Engine } from "../../../../nn/engine/engine.ts";
import { withoutDoubles } from "../../../../nn/engine/webgpu/doubles.ts";
import { GraphBuilder } from "../../../../nn/onnx/builder.ts";
import { DATA_TYPE } from "../../../../nn/onnx/datatype.ts";
import type { Graph } from "../../../../nn/onnx/graph.ts";

/** y = f32(1 − 0.9^step): the kind of scalar that an optimiser's graph computes in doubles. */
function correction(): Graph {
  const b = new GraphBuilder("correction");
  const step = b.op("Cast", [b.input("step", "i64", [])], { to: DATA_TYPE.f64 });
  const power = b.op("Pow", [b.scalar(0.9, "f64"), step]);
  b.output(b.op("Cast", [b.op("Sub", [b.scalar(1, "f64"), power])], { to: DATA_TYPE.f32 }, "y"));
  return b.build();
}

describe("a graph without 64-bit floats", () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await createEngine({ engine: "reference" });
  });
  afterAll(() => engine.close());

  async function result(graph: Graph): Promise<number> {
    const executable = await engine.compile(graph);
    const [step, y] = [engine.allocate("i64", []), engine.allocate("f32", [])];
    step.tensor.i64()[0] = 7n;
    await executable.bind({ step }, { y }).run();
    for (const owned of [executable, step, y]) owned.release();
    return y.tensor.f32()[0]!;
  }

  test("has none left, and the same value to single precision", async () => {
    const graph = correction();
    const single = withoutDoubles(graph);
    expect([...graph.initializers.values()].map(({ dtype }) => dtype)).toContain("f64");
    expect([...single.initializers.values()].map(({ dtype }) => dtype)).not.toContain("f64");
    expect(single.nodes.map(({ attributes }) => attributes.to)).not.toContain(DATA_TYPE.f64);
    const [expected, got] = [await result(graph), await result(single)];
    expect(expected).toBeCloseTo(1 - 0.9 ** 7, 6);
    expect(Math.abs(got - expected)).toBeLessThan(1e-6);
  });

  test("leaves other types alone", () => {
    const b = new GraphBuilder("other");
    b.output(b.op("Cast", [b.input("x", "f32", [2])], { to: DATA_TYPE.i64 }, "y"));
    const graph = b.build();
    expect(withoutDoubles(graph)).toEqual(graph);
  });
});
