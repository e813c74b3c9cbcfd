import { expect, test } from "bun:test";
import { quantise, scalesOf } from "../../../nn/finetune/quantise.ts";
import { Chance } from "../engine/operator-cases.ts";

test("quantised weights are off by half a step at most, along either axis, and zeros stay", () => {
  const weights = new Chance(4).f32([6, 10]);
  weights.f32().fill(0, 20, 30);
  for (const axis of [0, 1]) {
    const scales = scalesOf(weights, axis);
    const values = quantise(weights, axis, scales);
    const [q, s] = [new Int8Array(values.bytes.buffer), scales];
    expect([values.dtype, values.shape, scales.length]).toEqual(["i8", weights.shape, weights.shape[axis]!]);
    weights.f32().forEach((weight, i) => {
      const scale = s[axis === 0 ? Math.floor(i / 10) : i % 10]!;
      expect(Math.abs(weight - q[i]! * scale)).toBeLessThanOrEqual(scale * 0.5001);
      if (weight === 0) expect(q[i]).toBe(0);
    });
    expect(Math.max(...q.map(Math.abs))).toBe(127);
  }
});
