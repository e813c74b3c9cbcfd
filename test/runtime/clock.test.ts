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
  at("0", Number.NaN);
  clock.clearTimer(at("never", 15));
  void clock.sleep(10).then(() => at("d", 5));
  expect(fired).toEqual([]);
  await clock.advance(19);
  expect(fired).toEqual(["0@1000", "a@1010", "d@1015"]);
  await clock.advance(1);
  expect(fired).toEqual(["0@1000", "a@1010", "d@1015", "b@1020", "c@1020"]);
  expect(clock.now()).toBe(1020);
});

test("whatever does not wait for time runs before the next timer: microtasks of any depth, then what was deferred", async () => {
  const clock = new VirtualClock();
  const ran: string[] = [];
  const deep = async () => {
    for (let i = 0; i < 1000; i++) await null;
    ran.push("microtasks");
  };
  clock.setTimer(() => {
    clock.defer(() => {
      ran.push("deferred");
      void deep().then(() => clock.defer(() => ran.push("deferred again")));
    });
    void deep();
  }, 5);
  clock.setTimer(() => ran.push("next timer"), 5);
  await clock.advance(5);
  expect(ran).toEqual(["microtasks", "deferred", "microtasks", "deferred again", "next timer"]);
});

test("what is deferred runs also when nobody moves the clock", async () => {
  const clock = new VirtualClock();
  await new Promise<void>((resolve) => clock.defer(resolve));
});

test("time moves only until something has happened, if that is asked for", async () => {
  const clock = new VirtualClock();
  const fired: number[] = [];
  for (const at of [1, 2, 3]) clock.setTimer(() => fired.push(at), at);
  await clock.advance(10, () => fired.includes(2));
  expect([fired, clock.now()]).toEqual([[1, 2], 2]);
  await clock.advance(10, () => fired.includes(7));
  expect([fired, clock.now()]).toEqual([[1, 2, 3], 12]);
});

test("cleared timers are gone, and it is known how many are set and when the next fires", async () => {
  const clock = new VirtualClock(100);
  const timers = [3, 1, 2].map((ms) => clock.setTimer(() => undefined, ms));
  expect([clock.pending, clock.next]).toEqual([3, 101]);
  clock.clearTimer(timers[1]);
  clock.clearTimer(timers[1]);
  clock.clearTimer(undefined);
  expect([clock.pending, clock.next]).toEqual([2, 102]);
  await clock.advance(3);
  expect([clock.pending, clock.next]).toEqual([0, undefined]);
  clock.clearTimer(timers[0]);
});

test("an error in a timer is the error of whoever moved the clock, and it moves on afterwards", async () => {
  const clock = new VirtualClock();
  const fired: number[] = [];
  clock.setTimer(() => {
    throw new Error("in the timer");
  }, 1);
  clock.setTimer(() => fired.push(clock.now()), 2);
  await expect(clock.advance(5)).rejects.toThrow("in the timer");
  await clock.advance(5);
  expect(fired).toEqual([2]);
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
