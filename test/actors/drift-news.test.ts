/** A device is told to be slow once, and again when it is another matter. */

import { expect, test } from "bun:test";
import { DriftNews } from "../../actors/drift-news.ts";

/** Factors of one device, and what is told of them: each with whether the plan that was thought about for it is news. */
function told(news: DriftNews, factors: readonly number[]): (number | null)[] {
  return factors.map((factor) => {
    const [first] = news.of([{ device: "phone", factor }]);
    expect(news.considered()).toBe(first !== undefined);
    return first?.factor ?? null;
  });
}

test("once, and again when it is twice as slow or half, or as fast as ever", () => {
  const news = new DriftNews();
  expect(told(news, [1.5, 2, 1.2, 2.9, 3, 1.6, 1.4, 1, 0.6])).toEqual([
    ...[1.5, null, null, null, 3, null],
    ...[1.4, null, 0.6],
  ]);
});

test("anew by another plan, and each device for itself", () => {
  const news = new DriftNews();
  const both = [
    { device: "phone", factor: 2 },
    { device: "desk", factor: 1.3 },
  ];
  expect(news.of(both)).toEqual(both);
  expect(news.of([both[0]!, { device: "desk", factor: 2.6 }])).toEqual([{ device: "desk", factor: 2.6 }]);
  news.clear();
  expect(news.considered()).toBe(false);
  expect(news.of(both)).toEqual(both);
});
