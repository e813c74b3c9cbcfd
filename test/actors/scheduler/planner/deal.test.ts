import { expect, test } from "bun:test";
import { deal, dealCounts, sharesBySpeed } from "../../../../actors/scheduler/planner/deal.ts";

const free = Number.POSITIVE_INFINITY;

test("micro-batches go to whom they will be done with first", () => {
  const members = [
    { ms: 1, most: free },
    { ms: 3, most: free },
  ];
  expect(deal(members, 4)).toEqual([[0, 1, 2], [3]]);
});

test("as far as memory goes", () => {
  const members = [
    { ms: 1, most: 2 },
    { ms: 3, most: free },
  ];
  expect(deal(members, 4)).toEqual([
    [0, 1],
    [2, 3],
  ]);
  expect(deal([{ ms: 1, most: 2 }], 4)).toBeNull();
});

test("counts are those of dealing one by one", () => {
  for (const ms of [
    [1, 1, 1],
    [1, 2, 4],
    [3, 5],
    [0.3, 7, 2.2, 1.1],
  ]) {
    const counts: number[] = [];
    const end = dealCounts(ms, 13, counts);
    const dealt = deal(
      ms.map((each) => ({ ms: each, most: free })),
      13,
    )!;
    expect(Math.max(...dealt.map((own, i) => own.length * ms[i]!))).toBeCloseTo(end, 9);
    expect(counts.reduce((a, b) => a + b, 0)).toBe(13);
  }
});

test("shares make all ranks end at once, what everybody repeats included", () => {
  const ms = [10, 20];
  const shares = sharesBySpeed(ms, 0.8);
  const ends = shares.map((share, i) => ms[i]! * (0.2 + 0.8 * share));
  expect(ends[0]!).toBeCloseTo(ends[1]!, 9);
  expect(shares[0]! + shares[1]!).toBeCloseTo(1, 12);
});

test("who is too slow even for what everybody repeats gets nothing", () => {
  expect(sharesBySpeed([1, 100], 0.5)).toEqual([1, 0]);
});
