/** How often copies are made, by what they cost: rarely enough, as often as can be, and never to and fro. */

import { expect, test } from "bun:test";
import { Cadence } from "../../../actors/recovery/cadence.ts";
import { MOST_COST } from "../../../actors/recovery/pace.ts";
import { seededRandom } from "../../../runtime/index.ts";

const STEP_MS = 100;

/**
 * A run in which copies of a point are on their way for `perPoint` steps, each of which takes `extraMs` longer.
 * @returns by how much the second half of it was longer for copies, and how often the number of steps changed.
 */
function run(cadence: Cadence, steps: number, perPoint: number, extraMs: number, jitter = () => 0) {
  let [left, since, changes, extra] = [0, 0, 0, 0];
  for (let step = 0; step < steps; step++) {
    since++;
    if (left === 0 && since >= cadence.every && !cadence.lacksPlain) [left, since] = [perPoint, 0];
    const isCopying = left > 0;
    if (isCopying && --left === 0 && cadence.complete()) changes++;
    cadence.passed(STEP_MS + (isCopying ? extraMs : 0) + jitter(), isCopying);
    if (isCopying && step >= steps / 2) extra += extraMs;
  }
  return { changes, part: extra / ((steps / 2) * STEP_MS) };
}

test("copies that cost little are made after every step, whatever the plan says", () => {
  for (const planned of [1, 2, 8]) {
    const cadence = new Cadence(planned);
    run(cadence, 600, 1, 1);
    expect(cadence.every).toBe(1);
    expect(cadence.cost!.part).toBeWithin(0, MOST_COST);
    expect(cadence.cost).toMatchObject({ stepMs: STEP_MS, extraMs: 1 });
  }
});

test.each([
  [1, 20, 4],
  [1, 100, 20],
  [3, 10, 6],
  [5, 8, 8],
])(
  "copies on their way for %d steps that take %d %% longer are made after every %d",
  (perPoint, extraMs, every) => {
    const cadence = new Cadence(1);
    const { changes, part } = run(cadence, 1000, perPoint, extraMs);
    expect(cadence.apart).toBe(every);
    expect(part).toBeLessThan(1.02 * MOST_COST);
    expect(changes).toBe(1);
  },
);

test("a line that gets slower and fast again is followed", () => {
  const cadence = new Cadence(1);
  run(cadence, 200, 1, 20);
  expect(cadence.every).toBe(4);
  run(cadence, 600, 1, 40);
  expect(cadence.every).toBe(8);
  run(cadence, 1000, 1, 2);
  expect(cadence.every).toBe(1);
});

test("what steps differ by without copies too is no reason for fewer, nor to change again and again", () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = seededRandom(seed);
    const cadence = new Cadence(1);
    const { changes } = run(cadence, 1000, 1, 2, () => 30 * random.next());
    expect(cadence.every).toBeLessThanOrEqual(6);
    expect(changes).toBeLessThanOrEqual(12);
  }
});

test("nothing is said before there are steps to compare", () => {
  const cadence = new Cadence(1);
  run(cadence, 7, 1, 50);
  expect(cadence.cost).toBeNull();
  expect(cadence.every).toBe(1);
});

test("copies that are never there are made no more rarely than devices are lost", () => {
  const cadence = new Cadence(1);
  run(cadence, 400, 1, 100 * STEP_MS);
  expect(cadence.every).toBe(32);
});

test("where steps differ by far more than copies cost, nothing is said of that", () => {
  const random = seededRandom(1);
  const cadence = new Cadence(1);
  run(cadence, 200, 1, 1, () => 20 * STEP_MS * random.next() ** 2);
  expect(cadence.cost).toBeNull();
});

/** As `run`, where copies of every step are made of gradients, on their way for `perPoint` steps, and whole ones `GAIN` times as long. */
const GAIN = 3;
function follow(cadence: Cadence, steps: number, extraMs: number, wholeMs = extraMs) {
  let [left, since, changes, extra, followed] = [0, 0, 0, 0, 0];
  for (let step = 0; step < steps; step++) {
    since++;
    if (left === 0 && since >= cadence.every && !cadence.lacksPlain) {
      [left, since] = [cadence.follows ? 1 : GAIN, 0];
      if (cadence.follows && step >= steps / 2) followed++;
    }
    const isCopying = left > 0;
    const more = !isCopying ? 0 : cadence.follows ? extraMs : wholeMs;
    if (isCopying && --left === 0 && cadence.complete(!cadence.follows)) changes++;
    cadence.passed(STEP_MS + more, isCopying);
    if (step >= steps / 2) extra += more;
  }
  return { changes, part: extra / ((steps / 2) * STEP_MS), followed: followed / (steps / 2) };
}

test("copies that are made of gradients are made after every step, where whole ones would cost too much for that", () => {
  // Whole ones would be 3 steps on their way: 4 % of each.
  for (const planned of [1, 2, 8]) {
    const cadence = new Cadence(planned, GAIN);
    const { part, followed } = follow(cadence, 600, 4);
    expect(cadence.every).toBe(1);
    expect(part).toBeLessThan(MOST_COST);
    expect(followed).toBeGreaterThan(0.9);
  }
});

test("where gradients cost too much too, whole copies are made of so few steps that they cost less", () => {
  const cadence = new Cadence(1, GAIN);
  const { changes, part, followed } = follow(cadence, 1000, 10);
  expect(cadence.every).toBe(6);
  expect(part).toBeLessThan(1.02 * MOST_COST);
  expect({ changes, followed }).toEqual({ changes: 1, followed: 0 });
});

test("gradients that cost more than copies as large are seldom tried again", () => {
  // As where updates take time on devices that have none left.
  const cadence = new Cadence(1, GAIN);
  const { changes, part, followed } = follow(cadence, 2000, 10, 2);
  expect(cadence.every).toBe(GAIN);
  expect(part).toBeLessThan(MOST_COST);
  expect(followed).toBeLessThan(0.05);
  expect(changes).toBeWithin(2, 12);
});

test("where copies come whole all the same, they are made as often as whole ones are worth", () => {
  const [cadence, whole] = [new Cadence(1, GAIN), new Cadence(1)];
  run(cadence, 1000, 1, 8);
  run(whole, 1000, 1, 8);
  expect(cadence.follows).toBe(false);
  expect(cadence.apart).toBe(whole.apart);
});
