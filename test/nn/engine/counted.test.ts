/** A part of an engine is counted by itself, and is the engine in everything else. */

import { afterAll, expect, test } from "bun:test";
import { counted } from "../../../nn/engine/counted.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";

const engine = createReferenceEngine();
afterAll(() => engine.close());

const sizes = (each: Pick<typeof engine, "usage">) => {
  const { tensors, tensorBytes } = each.usage();
  return [tensors, tensorBytes];
};

test("tensors that are allocated by it are counted, and given back once", () => {
  const [part, other] = [counted(engine), counted(engine)];
  const [first, second] = [part.allocate("f32", [3]), part.allocate("f32", [5])];
  const third = other.allocate("i64", [2]);
  const fourth = engine.allocate("u8", [7]);
  expect([part, other, engine].map(sizes)).toEqual([
    [2, 32],
    [1, 16],
    [4, 55],
  ]);
  first.release();
  first.release();
  expect([part, other, engine].map(sizes)).toEqual([
    [1, 20],
    [1, 16],
    [3, 43],
  ]);
  for (const each of [second, third, fourth]) each.release();
  expect([part, other, engine].map(sizes)).toEqual([
    [0, 0],
    [0, 0],
    [0, 0],
  ]);
});

test("its tensors are the engine's: they are bound to what is compiled by either", async () => {
  const part = counted(engine);
  const b = new GraphBuilder("twice");
  b.output(b.op("Add", [b.input("x", "f32", [2]), "x"], {}, "y"));
  const executable = await part.compile(b.build());
  const [x, y] = [part.allocate("f32", [2]), engine.allocate("f32", [2])];
  x.tensor.f32().set([1, 2]);
  await executable.bind({ x }, { y }).run();
  expect([...y.tensor.f32()]).toEqual([2, 4]);
  for (const each of [executable, x, y]) each.release();
  expect(engine.usage()).toEqual({ tensors: 0, tensorBytes: 0, executables: 0, bindings: 0 });
});
