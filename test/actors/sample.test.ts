import { describe, expect, test } from "bun:test";
import { chooseToken } from "../../actors/sample.ts";

const never = () => {
  throw new Error("no randomness is needed");
};
/** A fixed, evenly spread source. */
const spread = (count: number) => {
  let i = 0;
  return () => (i++ % count) / count;
};

describe("chooseToken", () => {
  test("at temperature 0 takes the likeliest, the first of equals", () => {
    expect(chooseToken([1, 3, 3, 2], { temperature: 0, topK: 4 }, never)).toBe(1);
  });

  test("follows the softmax of the logits over the temperature", () => {
    for (const temperature of [0.5, 1, 2]) {
      const logits = [0, 1, -1].map((x) => x * temperature);
      const random = spread(10_000);
      const counts = [0, 0, 0];
      for (let i = 0; i < 10_000; i++) counts[chooseToken(logits, { temperature, topK: 3 }, random)]!++;
      const total = 1 + Math.E + 1 / Math.E;
      [1, Math.E, 1 / Math.E].forEach((weight, token) => {
        expect(Math.abs(counts[token]! / 10_000 - weight / total)).toBeLessThan(2e-4);
      });
    }
  });

  test("never leaves the top k", () => {
    const chosen = new Set<number>();
    const random = spread(100);
    for (let i = 0; i < 100; i++) {
      chosen.add(chooseToken([1, 1.2, 0.9, 1.1], { temperature: 5, topK: 2 }, random));
    }
    expect([...chosen].sort()).toEqual([1, 3]);
    expect(chooseToken([1, 2], { temperature: 1, topK: 1 }, () => 0.999)).toBe(1);
  });

  test("is not upset by large logits, and names one that is not a number", () => {
    expect(chooseToken([1e4, -1e4], { temperature: 0.1, topK: 2 }, () => 0.999)).toBe(0);
    expect(() => chooseToken([0, Number.NaN], { temperature: 1, topK: 2 }, never)).toThrow("token 1");
  });
});
