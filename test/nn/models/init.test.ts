import { describe, expect, test } from "bun:test";
import { gptInitial, uniform, uniformTensor } from "../../../nn/models/init.ts";
import { streamOf, threefry2x32 } from "../../../nn/models/threefry.ts";

const block = (k0: number, k1: number, c0: number, c1: number) => {
  const out = new Uint32Array(2);
  threefry2x32(k0, k1, c0, c1, out);
  return [...out];
};

describe("threefry2x32", () => {
  test("gives the known answers of Random123", () => {
    expect(block(0, 0, 0, 0)).toEqual([0x6b200159, 0x99ba4efe]);
    const ones = 0xffffffff;
    expect(block(ones, ones, ones, ones)).toEqual([0x1cb996fc, 0xbb002be7]);
    expect(block(0x13198a2e, 0x03707344, 0x243f6a88, 0x85a308d3)).toEqual([0xc4923a9c, 0x483df7a0]);
  });

  test("streamOf is FNV-1a", () => {
    expect(streamOf("")).toBe(0x811c9dc5);
    expect(streamOf("a")).toBe(0xe40c292c);
    expect(streamOf("foobar")).toBe(0xbf9cf968);
  });
});

describe("initial weights", () => {
  test("depend on seed, stream and position, not on the count", () => {
    const long = uniform(7, 3, 101, -1, 1);
    expect(uniform(7, 3, 50, -1, 1)).toEqual(long.slice(0, 50));
    expect(uniform(8, 3, 101, -1, 1)).not.toEqual(long);
    expect(uniform(7, 4, 101, -1, 1)).not.toEqual(long);
  });

  test("are uniform: within the bounds, with the mean and deviation of the distribution", () => {
    const values = uniform(1, 2, 20_000, -0.5, 0.5);
    let sum = 0;
    let squares = 0;
    for (const value of values) {
      expect(value >= -0.5 && value < 0.5).toBe(true);
      sum += value;
      squares += value * value;
    }
    expect(Math.abs(sum / values.length)).toBeLessThan(0.01);
    expect(Math.sqrt(squares / values.length)).toBeCloseTo(1 / Math.sqrt(12), 2);
  });

  test("of a GPT follow the name of the parameter", () => {
    expect([...gptInitial(1, "h0.attn.q.bias", [2], 4).f32()]).toEqual([0, 0]);
    for (const name of ["h0.ln1.weight", "h3.ln2.weight", "ln_f.weight"]) {
      expect([...gptInitial(1, name, [2], 4).f32()]).toEqual([1, 1]);
    }
    expect(gptInitial(1, "pos_emb", [8, 4], 4)).toEqual(uniformTensor(1, "pos_emb", [8, 4], 0.2));
    expect(gptInitial(1, "head.weight", [16, 4], 4)).toEqual(uniformTensor(1, "head.weight", [16, 4], 0.25));
    const residual = "h1.mlp.proj.weight";
    expect(gptInitial(1, residual, [16, 4], 8)).toEqual(uniformTensor(1, residual, [16, 4], 0.0625));
  });
});
