/** How validation windows become micro-batches: full ones, of different windows, from all over the held-out text. */

import { expect, test } from "bun:test";
import { splitText } from "../../../actors/data/corpus.ts";
import { validationStarts } from "../../../actors/data/order.ts";
import { validationMicroBatches } from "../../../actors/data/text.ts";

const context = 8;
const split = splitText({ name: "text", bytes: new Uint8Array(60_000).fill(97) }, context);
const whole = validationStarts(split, context);

test("are all the windows where they make full micro-batches", () => {
  expect(validationMicroBatches(split, { context, rows: 4 }).flat()).toEqual(whole);
});

test.each([3, 50, 100, 127, 200])("%d rows: different windows, of both ends of the text", (rows) => {
  const batches = validationMicroBatches(split, { context, rows });
  expect(batches.length).toBe(Math.max(1, Math.floor(128 / rows)));
  expect(batches.every((batch) => batch.length === rows)).toBe(true);
  const starts = batches.flat();
  expect(new Set(starts).size).toBe(starts.length);
  // Evenly over the text: a tenth of the windows lies in its last tenth.
  const last = starts.filter((start) => start >= 0.9 * split.validation.length).length;
  expect(last).toBeGreaterThan(0.05 * starts.length);
});

test("a text with too few windows for one micro-batch repeats them", () => {
  const short = splitText({ name: "short", bytes: new Uint8Array(60).fill(97) }, context);
  const [batch, ...more] = validationMicroBatches(short, { context, rows: 4 });
  expect(more).toEqual([]);
  expect(batch).toHaveLength(4);
  expect(new Set(batch)).toEqual(new Set(validationStarts(short, context)));
});
