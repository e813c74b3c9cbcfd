/** The order of a validation pass: whoever waits for a value waits for one that comes. */

import { expect, test } from "bun:test";
import { validationTurns } from "../../../actors/stage/validation.ts";

/**
 * Stages as in `validate`: a turn takes a value that the position before has given, and gives its own only when the one
 * it gave before has been taken. Whether all turns come about.
 */
function runs(stages: readonly (readonly number[])[], count: number): boolean {
  const positions = Math.max(...stages.flat()) + 1;
  const turns = stages.map((own) => validationTurns(own, count, () => true));
  const next = turns.map(() => ({ at: 0, took: false }));
  const given = new Array<number>(positions).fill(0);
  const taken = new Array<number>(positions + 1).fill(0);
  taken[positions] = count;
  for (let moved = true; moved; ) {
    moved = false;
    for (const [stage, cursor] of next.entries()) {
      const turn = turns[stage]![cursor.at];
      if (!turn) continue;
      const position = stages[stage]![turn.chunk]!;
      const { microBatch } = turn;
      if (!cursor.took && (position === 0 || given[position - 1]! > microBatch)) {
        taken[position] = microBatch + 1;
        cursor.took = true;
        moved = true;
      }
      if (cursor.took && (position === positions - 1 || taken[position + 1]! >= microBatch)) {
        given[position] = microBatch + 1;
        cursor.took = false;
        cursor.at++;
        moved = true;
      }
    }
  }
  return next.every(({ at }, stage) => at === turns[stage]!.length);
}

test.each([
  ["a pipeline", [[0], [1], [2]]],
  [
    "an interleaved one",
    [
      [0, 2, 4],
      [1, 3, 5],
    ],
  ],
  [
    "a V",
    [
      [0, 3],
      [1, 2],
    ],
  ],
  [
    "any other",
    [
      [0, 5],
      [2, 3],
      [1, 4, 6],
    ],
  ],
])("%s gets through", (_, stages) => {
  for (const count of [1, 2, 5]) expect(runs(stages, count)).toBe(true);
});

test("micro-batches of an interleaved pipeline are under way at the same time", () => {
  expect(validationTurns([0, 2], 3, () => true)).toEqual([
    { chunk: 0, microBatch: 0 },
    { chunk: 0, microBatch: 1 },
    { chunk: 1, microBatch: 0 },
    { chunk: 0, microBatch: 2 },
    { chunk: 1, microBatch: 1 },
    { chunk: 1, microBatch: 2 },
  ]);
});

test("a member takes its own", () => {
  expect(validationTurns([0, 1], 4, (microBatch) => microBatch % 2 === 1)).toEqual([
    { chunk: 0, microBatch: 1 },
    { chunk: 1, microBatch: 1 },
    { chunk: 0, microBatch: 3 },
    { chunk: 1, microBatch: 3 },
  ]);
});
