/** Medians, ratios and slopes that a disturbed round does not move. */

import { describe, expect, test } from "bun:test";
import { median, quantile, speedRatio, theilSenSlope } from "../../bench/statistics.ts";

describe("median and quantile", () => {
  test("do not depend on the order and leave it alone", () => {
    const values = [5, 1, 3];
    expect(median(values)).toBe(3);
    expect(values).toEqual([5, 1, 3]);
  });
  test("take the mean of the middle two", () => expect(median([4, 1, 2, 3])).toBe(2.5));
  test("interpolate", () => {
    expect(quantile([0, 10], 0.9)).toBeCloseTo(9);
    expect(quantile([7], 0.3)).toBe(7);
  });
  test("refuse nothing", () => expect(() => median([])).toThrow(RangeError));
});

describe("a speed ratio", () => {
  test("is over 1 when the rival takes longer", () => {
    expect(speedRatio([10, 10, 10], [20, 20, 20])).toEqual({ ofMedians: 2, paired: 2 });
  });
  test("in pairs sees through a machine that slows down for everybody", () => {
    const { ofMedians, paired } = speedRatio([10, 20, 40, 80], [15, 30, 60, 120]);
    expect(paired).toBe(1.5);
    expect(ofMedians).toBe(1.5);
    expect(speedRatio([10, 100, 10], [20, 200, 200]).paired).toBe(2);
  });
  test("needs every round of both", () => expect(() => speedRatio([1], [1, 2])).toThrow("paired"));
});

describe("the Theil–Sen slope", () => {
  test("is the slope of a line", () => {
    expect(theilSenSlope([0, 1, 2, 3].map((x) => ({ x, y: 5 + 2 * x })))).toBe(2);
  });
  test("is not moved by an outlier", () => {
    const points = Array.from({ length: 20 }, (_, x) => ({ x, y: x === 7 ? 1e9 : 3 }));
    expect(theilSenSlope(points)).toBe(0);
  });
});
