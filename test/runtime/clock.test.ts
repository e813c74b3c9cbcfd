import { expect, test } from "bun:test";
import { VirtualClock } from "../../runtime/clock.ts";
import { seededRandom } from "../../runtime/random.ts";

test("virtual timers fire in order of time, then of their setting, and only when time moves", async () => {
  const clock = new VirtualClock(1000);
  const fired: string[] = [];
  const at = (label: string, ms: number) => clock.setTimer(() => fired.push(`${label}@${clock.now()}`), ms);
  at("b", 20);
  at("a", 10);
  at("c", 20);
  clock.clearTimer(at("never", 15));
  void clock.sleep(10).then(() => at("d", 5));
  expect(fired).toEqual([]);
  await clock.advance(19);
  expect(fired).toEqual(["a@1010", "d@1015"]);
  await clock.advance(1);
  expect(fired).toEqual(["a@1010", "d@1015", "b@1020", "c@1020"]);
  expect(clock.now()).toBe(1020);
});

test("a seeded source repeats, differs by seed, and is spread evenly", () => {
  const draw = (seed: number) => {
    const random = seededRandom(seed);
    return Array.from({ length: 1000 }, () => random.next());
  };
  expect(draw(1)).toEqual(draw(1));
  expect(draw(1)).not.toEqual(draw(2));
  const mean = draw(3).reduce((a, b) => a + b, 0) / 1000;
  expect(Math.abs(mean - 0.5)).toBeLessThan(0.05);
});
