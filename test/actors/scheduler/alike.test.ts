/** Plain data that is compared. */

import { expect, test } from "bun:test";
import { isAlike } from "../../../actors/scheduler/alike.ts";

const shared = { a: [1, { b: null }] };
const ALIKE: readonly (readonly [unknown, unknown])[] = [
  [shared, shared],
  [shared, { a: [1, { b: null }] }],
  [
    { a: 1, b: 2 },
    { b: 2, a: 1 },
  ],
  [{ a: 1, b: undefined }, { a: 1 }],
  [{ a: 1 }, { a: 1, b: undefined }],
  [{ 3: [7] }, { 3: [7] }],
  [[], []],
];
const DIFFERENT: readonly (readonly [unknown, unknown])[] = [
  [1, "1"],
  [null, {}],
  [[], {}],
  [{ length: 0 }, []],
  [[1, 2], [1]],
  [
    [1, 2],
    [2, 1],
  ],
  [{ a: 1 }, { a: 1, b: 2 }],
  [{ a: 1, b: 2 }, { a: 1 }],
  [{ a: { b: 1 } }, { a: { b: 2 } }],
  [{ a: null }, { a: undefined }],
];

test("what is the same is, wherever it came from", () => {
  for (const [a, b] of ALIKE) expect(isAlike(a, b), JSON.stringify([a, b])).toBe(true);
});

test("what differs anywhere does, either way round", () => {
  for (const [a, b] of DIFFERENT) {
    expect(isAlike(a, b), JSON.stringify([a, b])).toBe(false);
    expect(isAlike(b, a), JSON.stringify([b, a])).toBe(false);
  }
});
