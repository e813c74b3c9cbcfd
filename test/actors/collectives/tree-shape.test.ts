/** The two trees, for all numbers of ranks that there may be. */

import { describe, expect, test } from "bun:test";
import { addsUpInTrees, treeDepth, treesOf } from "../../../actors/collectives/tree-shape.ts";

const MOST = 600;
const range = (count: number) => Array.from({ length: count }, (_, i) => i);
const NUMBERS = range(MOST - 1).map((i) => i + 2);

/** Both trees of so many, by rank. */
const trees = (ranks: number) => {
  const places = range(ranks).map((rank) => treesOf(rank, ranks));
  return [places.map(([first]) => first), places.map(([, second]) => second)] as const;
};

describe(`of 2 to ${MOST} ranks`, () => {
  test("each tree has all, with one root, and parents and children know each other", () => {
    for (const ranks of NUMBERS) {
      for (const tree of trees(ranks)) {
        expect(tree.filter(({ parent }) => parent === null)).toHaveLength(1);
        const children = tree.flatMap((place) => place.children);
        expect(children.toSorted((a, b) => a - b)).toEqual(
          range(ranks).filter((rank) => tree[rank]!.parent !== null),
        );
        expect(
          tree.every((place, rank) => place.children.every((child) => tree[child]!.parent === rank)),
        ).toBe(true);
      }
    }
  });

  test("nobody has more than two children, and nobody has any in both trees", () => {
    for (const ranks of NUMBERS) {
      const [first, second] = trees(ranks);
      expect(Math.max(...[...first, ...second].map(({ children }) => children.length))).toBeLessThanOrEqual(
        2,
      );
      expect(
        range(ranks).some((rank) => first[rank]!.children.length > 0 && second[rank]!.children.length > 0),
      ).toBe(false);
    }
  });

  test("the furthest leaf is as many hops from its root as the number can be halved", () => {
    for (const ranks of NUMBERS) {
      expect(treeDepth(ranks)).toBe(Math.floor(Math.log2(ranks)));
      for (const tree of trees(ranks)) {
        const depth = (rank: number): number => {
          const { parent } = tree[rank]!;
          return parent === null ? 0 : 1 + depth(parent);
        };
        expect(Math.max(...range(ranks).map(depth))).toBe(treeDepth(ranks));
      }
    }
  });
});

test("seven are two trees in order, of which the second is moved on by one", () => {
  const [first, second] = trees(7);
  const below = (tree: typeof first) => tree.map(({ children }) => children);
  expect(below(first)).toEqual([[], [0, 2], [], [1, 5], [], [4, 6], []]);
  expect(below(second)).toEqual([[], [], [1, 3], [], [2, 6], [], [5, 0]]);
});

test("up to eight, and what is very long, goes round a ring", () => {
  expect([2, 8, 9, 600].map((ranks) => addsUpInTrees(1000, ranks))).toEqual([false, false, true, true]);
  // From 5 and from 6 times what is under way on a link, for each of them: 5.6 MiB and 7.5 MiB.
  const long = [9 * 5, 10 * 6].map((times) => times * 2 ** 15);
  expect(long.map((length) => addsUpInTrees(length, 9))).toEqual([false, false]);
  expect(long.map((length) => addsUpInTrees(length - 1, 10))).toEqual([true, true]);
});
