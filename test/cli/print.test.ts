/** `train --print`: any graph of a model as text or for a viewer, and nothing is trained. */

import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decodeModel } from "../../nn/onnx/proto.ts";
import { troupe } from "./troupe.ts";

const folder = mkdtempSync(join(tmpdir(), "troupe-print-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const SIZES = ["--layers", "1", "--width", "16", "--heads", "2", "--context", "8"];
const out = join(folder, "out");

test.each([
  ["forward", /out loss f32\[\]/, /grad|acc\./],
  ["training", /in {2}acc\.head\.weight f32\[16,256\]/, /new\./],
  ["evaluation", /out loss f32\[\]/, /acc\./],
  ["optimizer", /in {2}square_sums f32\[\d+\]/, /ids/],
])("%s as text", async (graph, has, hasNot) => {
  const { code, err, out: text } = await troupe("train", "--print", graph, ...SIZES, "--out", out);
  expect([code, err]).toEqual([0, ""]);
  expect(text).toMatch(has);
  expect(text).not.toMatch(hasNot);
  expect(existsSync(out)).toBe(false);
});

test("as a file that any viewer opens", async () => {
  const file = join(folder, "training.onnx");
  const { code, out: text } = await troupe("train", "--print", "training", "--print-to", file, ...SIZES);
  expect([code, text]).toEqual([0, ""]);
  const graph = decodeModel(readFileSync(file));
  expect(graph.outputs.map(({ name }) => name)).toContain("sum.head.weight");
});

test("what is none of them is refused, and a file without a graph", async () => {
  expect((await troupe("train", "--print", "all")).err).toContain(
    "there is forward, training, evaluation and",
  );
  expect((await troupe("train", "--print-to", "x.onnx")).err).toContain("--print-to is for --print");
});
