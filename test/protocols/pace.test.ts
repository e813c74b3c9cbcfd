import { expect, test } from "bun:test";
import { LEAST_PACE_BYTES, MOST_PACE_BYTES, Pace, ReadMeter } from "../../protocols/pace.ts";

const CHUNK = 256 * 1024;

/** A pipe of a rate (bytes per ms) and a latency (ms each way) carries 400 chunks of a sender that never runs dry. */
function carry(rate: number, latency: number): { pace: Pace; rate: number } {
  const pace = new Pace();
  const meter = new ReadMeter();
  const arrivals: number[] = [];
  const answers: { at: number; bytes: number }[] = [];
  let [now, free, told] = [0, 0, 0];
  while (told < 400 * CHUNK) {
    while (pace.isOpen) {
      pace.sent(CHUNK, now);
      free = Math.max(free, now) + CHUNK / rate;
      arrivals.push(free + latency);
    }
    const arrival = arrivals[0] ?? Number.POSITIVE_INFINITY;
    const answer = answers[0]?.at ?? Number.POSITIVE_INFINITY;
    now = Math.min(arrival, answer);
    if (answer <= arrival) {
      const { bytes } = answers.shift()!;
      told += bytes;
      pace.read(bytes, now);
    } else {
      arrivals.shift();
      const due = meter.read(CHUNK);
      if (due > 0) answers.push({ at: now + latency, bytes: due });
    }
  }
  return { pace, rate: told / now };
}

test("a short link is kept busy with the least window", () => {
  const { pace, rate } = carry(1e6, 0.05);
  expect(rate).toBeGreaterThan(0.95e6);
  expect(pace.window).toBeLessThan(2 * LEAST_PACE_BYTES);
});

test("a long link gets the window it needs, and no boundless queue", () => {
  const { pace, rate } = carry(125_000, 50); // 1 Gbit/s, 100 ms: 12.5 MB under way
  expect(pace.window).toBeGreaterThan(12.5e6);
  expect(pace.window).toBeLessThan(2.5 * 12.5e6);
  expect(rate).toBeGreaterThan(0.4 * 125_000); // the first second included
});

test("a slow link keeps the least window", () => {
  const { pace, rate } = carry(12_500, 1);
  expect(pace.window).toBe(LEAST_PACE_BYTES);
  expect(rate).toBeGreaterThan(0.95 * 12_500);
});

test("the window shrinks again when a queue builds up, and never below the least", () => {
  const pace = new Pace();
  const round = (ms: number, now: number) => {
    let ahead = 0;
    for (; pace.isOpen; ahead += CHUNK) pace.sent(CHUNK, now);
    pace.read(ahead, now + ms);
  };
  let now = 0;
  for (let i = 0; i < 40; i++, now += 100) round(100, now);
  const wide = pace.window;
  expect(wide).toBeGreaterThan(4 * LEAST_PACE_BYTES);
  expect(wide).toBeLessThanOrEqual(MOST_PACE_BYTES);
  for (let i = 0; i < 4000; i++, now += 1) round(900, now);
  expect(pace.window).toBe(LEAST_PACE_BYTES);
});

test("more than was written cannot have been read", () => {
  const pace = new Pace();
  pace.sent(10, 0);
  expect(() => pace.read(11, 0)).toThrow("11 bytes, of 10");
});
