import { describe, expect, test } from "bun:test";
import { fillBatch, fillSequences } from "../../../actors/data/batch.ts";
import { splitText } from "../../../actors/data/corpus.ts";
import { microBatchStarts, trainingStart, validationStarts } from "../../../actors/data/order.ts";

describe("trainingStart", () => {
  test("is a function of seed, step and sample alone, whatever the micro-batches", () => {
    const whole = microBatchStarts(7, 3, 0, 16, 10_000, 128);
    const cut = [0, 1, 2, 3].flatMap((m) => microBatchStarts(7, 3, m, 4, 10_000, 128));
    expect(cut).toEqual(whole);
    expect(microBatchStarts(7, 4, 0, 16, 10_000, 128)).not.toEqual(whole);
    expect(microBatchStarts(8, 3, 0, 16, 10_000, 128)).not.toEqual(whole);
  });

  test("reaches every place a window fits at, evenly, and no other", () => {
    const seen = new Array<number>(10).fill(0);
    for (let i = 0; i < 10_000; i++) seen[trainingStart(1, i, i % 16, 42, 32)]!++;
    expect(seen.length).toBe(10);
    for (const count of seen) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });
});

describe("validationStarts", () => {
  const split = splitText({ name: "t", bytes: new Uint8Array(200_000) }, 64);

  test("lie evenly spaced, without overlap, each inside one held-out block", () => {
    for (const count of [1, 10, 100, 1_000_000]) {
      const starts = validationStarts(split, 64, count);
      const most = 16 * Math.floor((split.blockBytes - 1) / 64);
      expect(starts.length).toBe(Math.min(count, most));
      let previous = -64;
      for (const start of starts) {
        expect(start - previous).toBeGreaterThanOrEqual(64);
        expect(Math.floor(start / split.blockBytes)).toBe(Math.floor((start + 64) / split.blockBytes));
        previous = start;
      }
    }
    const [first, second] = validationStarts(split, 64, 16);
    expect(second! - first!).toBe(split.blockBytes);
  });

  test("a text just long enough has one", () => {
    const tiny = splitText({ name: "t", bytes: new Uint8Array(130) }, 64);
    expect(validationStarts(tiny, 64)).toEqual([0]);
  });
});

describe("fillBatch", () => {
  const text = new TextEncoder().encode("abcdefgh\xff");

  test("lays windows out time-major, targets one byte on", () => {
    const ids = new BigInt64Array(6).fill(-1n);
    const targets = new BigInt64Array(6).fill(-1n);
    fillBatch(text, [0, 4], 3, ids, targets);
    const letters = (values: BigInt64Array) => String.fromCharCode(...Array.from(values, Number));
    expect(letters(ids)).toBe("aebfcg");
    expect(letters(targets)).toBe("bfcgdh");
  });

  test("refuses memory of another size and windows beyond the text", () => {
    const six = () => new BigInt64Array(6);
    expect(() => fillBatch(text, [0, 4], 3, six(), new BigInt64Array(5))).toThrow("takes 6 integers");
    expect(() => fillBatch(text, [0, text.length - 3], 3, six(), six())).toThrow("leaves the text");
    expect(() => fillBatch(text, [0, -1], 3, six(), six())).toThrow("leaves the text");
    fillBatch(text, [0, text.length - 4], 3, six(), six());
  });
});

test("sequence after sequence is the same, transposed", () => {
  const text = Uint32Array.from({ length: 50 }, (_, i) => 1000 * i);
  const [starts, context] = [[3, 40, 7], 4];
  const [ids, targets, rowIds, rowTargets] = Array.from({ length: 4 }, () => new BigInt64Array(12)) as [
    BigInt64Array,
    BigInt64Array,
    BigInt64Array,
    BigInt64Array,
  ];
  fillBatch(text, starts, context, ids, targets);
  fillSequences(text, starts, context, rowIds, rowTargets);
  for (let b = 0; b < 3; b++) {
    for (let t = 0; t < context; t++) {
      expect(rowIds[b * context + t]).toBe(ids[t * 3 + b]!);
      expect(rowTargets[b * context + t]).toBe(targets[t * 3 + b]!);
    }
  }
  expect(rowIds[1]).toBe(4000n);
});
