/** Copies make way: they fill a line that is idle, and leave one that others use to them, but for a small part of it. */

import { expect, test } from "bun:test";
import { Courtesy } from "../../../actors/recovery/courtesy.ts";
import { MOST_COST } from "../../../actors/recovery/pace.ts";

interface Line {
  readonly bytesPerMs: number;
  readonly tripMs: number;
}

/** Gives so many pieces; `part` is what others leave of the line. @returns bytes, and milliseconds with rests. */
function give(courtesy: Courtesy, { bytesPerMs, tripMs }: Line, pieces: number, part = 1) {
  let [bytes, ms] = [0, 0];
  for (let i = 0; i < pieces; i++) {
    const own = courtesy.bytes;
    const took = tripMs + own / (bytesPerMs * part);
    bytes += own;
    ms += took + courtesy.took(own, took);
  }
  return { bytes, ms };
}

const LINES: readonly (readonly [string, Line])[] = [
  ["1 Mbit/s", { bytesPerMs: 125, tripMs: 1 }],
  ["100 Mbit/s", { bytesPerMs: 12_500, tripMs: 0.5 }],
  ["100 Mbit/s, far away", { bytesPerMs: 12_500, tripMs: 60 }],
  ["a gigabit", { bytesPerMs: 125_000, tripMs: 0.2 }],
  ["memory", { bytesPerMs: 5e6, tripMs: 0.05 }],
];

test.each(LINES)("an idle line is used without rests: %s", (_, line) => {
  const courtesy = new Courtesy();
  give(courtesy, line, 20);
  const { bytes, ms } = give(courtesy, line, 50);
  const alone = bytes / line.bytesPerMs + 50 * line.tripMs;
  expect(ms).toBeCloseTo(alone, 3);
  // The way there and back takes no more than two thirds of the time.
  expect(bytes / line.bytesPerMs).toBeGreaterThan(alone / 3);
});

test.each(LINES)("what comes behind a piece waits for a moment only: %s", (_, line) => {
  const courtesy = new Courtesy();
  give(courtesy, line, 50);
  const pieceMs = courtesy.bytes / line.bytesPerMs;
  // The smallest there is, on the slowest line.
  expect(pieceMs).toBeLessThanOrEqual(Math.max(8, line.tripMs, 66));
});

test("a line that others use is left to them", () => {
  const line = { bytesPerMs: 12_500, tripMs: 0.5 };
  const courtesy = new Courtesy();
  const idle = give(courtesy, line, 50);
  const shared = give(courtesy, line, 50, 0.5);
  const rate = ({ bytes, ms }: typeof idle) => bytes / ms;
  expect(rate(shared)).toBeLessThan(0.25 * rate(idle));
  // And used again when they are through.
  expect(rate(give(courtesy, line, 50))).toBeGreaterThan(0.9 * rate(idle));
});

test("however long others keep it, a small part of it is used", () => {
  const line = { bytesPerMs: 12_500, tripMs: 0 };
  const courtesy = new Courtesy();
  const idle = give(courtesy, line, 50);
  const { bytes, ms } = give(courtesy, line, 50, 0.01);
  const took = bytes / (line.bytesPerMs * 0.01);
  // Rests are as long as leaves copies that part, of what they had alone.
  expect(bytes / (ms - took)).toBeGreaterThan((MOST_COST * idle.bytes) / idle.ms);
});

test("a piece that is smaller than others, in the end, says nothing", () => {
  const courtesy = new Courtesy();
  give(courtesy, { bytesPerMs: 12_500, tripMs: 0.5 }, 20);
  expect(courtesy.took(10, 1000)).toBe(0);
});
