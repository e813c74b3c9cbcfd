import { expect, test } from "bun:test";
import { matches, pick } from "../../../nn/finetune/names.ts";
import { GraphError } from "../../../nn/onnx/graph.ts";

const names = [
  "model.layers.1.self_attn.q_proj.weight",
  "model.layers.10.self_attn.q_proj.weight",
  "model.layers.1.mlp.up_proj.weight",
];

test("a pattern is a run of whole parts of a name", () => {
  const picked = (pattern: string) => names.map((name) => matches(name, pattern));
  expect(picked("layers.1")).toEqual([true, false, true]);
  expect(picked("q_proj")).toEqual([true, true, false]);
  expect(picked("proj")).toEqual([false, false, false]);
  expect(picked("*_proj")).toEqual([true, true, true]);
  expect(picked("layers.1.*.up_proj")).toEqual([false, false, true]);
  expect(picked(names[0]!)).toEqual([true, false, false]);
  expect(picked("*")).toEqual([true, true, true]);
  // Nothing but the star is special.
  expect(picked("layers?1")).toEqual([false, false, false]);
});

test("picked names keep their order; a pattern that picks none is named", () => {
  expect(pick(names, ["mlp", "layers.1"], "matrix")).toEqual([names[0]!, names[2]!]);
  expect(() => pick(["a"], ["b"], "matrix")).toThrow(
    new GraphError('pattern "b" picks no matrix; there are: a'),
  );
  expect(() => pick([], ["b"], "matrix")).toThrow('pattern "b" picks no matrix; there are: none');
});
