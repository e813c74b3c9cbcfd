/** Custody: whose work a device does, and how long it waits for somebody else to come for it. */

import { afterEach, expect, test } from "bun:test";
import { Custody } from "../../../actors/journal/custody.ts";
import { Actor, NodeRuntime, type Ref, VirtualClock } from "../../../runtime/index.ts";

class Owner extends Actor {}

const GRACE_MS = 60_000;
let node: NodeRuntime;
afterEach(() => node.close());

async function world(graceMs = GRACE_MS) {
  node = new NodeRuntime({ name: "n", log: () => {} });
  const clock = new VirtualClock();
  const [first, second] = [await node.spawn(Owner, []), await node.spawn(Owner, [])] as [
    Ref<Owner>,
    Ref<Owner>,
  ];
  const ended: string[] = [];
  return {
    clock,
    custody: new Custody(clock, graceMs),
    first,
    second,
    ended,
    end: () => void ended.push("end"),
  };
}

test("what nobody comes for is ended, once, when the time is over", async () => {
  const { clock, custody, first, ended, end } = await world();
  expect(custody.take("run", first)).toBeNull();
  expect(custody.lose(first, end)).toBe(true);
  // Whoever monitors an owner several times hears of it several times.
  expect(custody.lose(first, end)).toBe(true);
  await clock.advance(GRACE_MS - 1);
  expect(ended).toEqual([]);
  await clock.advance(1);
  expect(ended).toEqual(["end"]);
  expect(custody.take("run", first)).toBeNull();
});

test("whoever comes in time takes it over from the one before", async () => {
  const { clock, custody, first, second, ended, end } = await world();
  custody.take("run", first);
  custody.lose(first, end);
  await clock.advance(GRACE_MS - 1);
  expect(custody.take("run", second)?.key).toBe(first.key);
  await clock.advance(GRACE_MS);
  expect(ended).toEqual([]);
  // It is the other's by now, whatever becomes of the first.
  expect(custody.lose(first, end)).toBe(false);
  expect(custody.lose(second, end)).toBe(true);
});

test("nothing is kept for an owner that has ended, of a run without a name, or without time", async () => {
  const { custody, first, second, end } = await world();
  custody.take("run", first);
  custody.release(first);
  expect(custody.lose(first, end)).toBe(false);
  expect(custody.lose(second, end)).toBe(false);
  const hasty = new Custody(new VirtualClock(), 0);
  hasty.take("run", first);
  expect(hasty.lose(first, end)).toBe(false);
});

test("one that was taken over from has no say any more, and neither has one of an earlier epoch", async () => {
  const { custody, first, second, end } = await world();
  custody.take("run", first, 4);
  custody.take("run", second, 9);
  expect(() => custody.require(second)).not.toThrow();
  // Also where it does not know its own epoch.
  for (const refused of [() => custody.take("run", first, 9), () => custody.require(first)]) {
    expect(refused).toThrow("another coordinator has taken over run run");
  }
  const third = (await node.spawn(Owner, [])) as Ref<Owner>;
  expect(() => custody.take("run", third, 8)).toThrow("another coordinator has taken over");
  custody.lose(second, end);
  // What is lost is not younger for it.
  expect(() => custody.take("run", third, 8)).toThrow("another coordinator has taken over");
  expect(custody.take("run", third, 9)?.key).toBe(second.key);
});

test("a device that is closed waits for nobody", async () => {
  const { clock, custody, first, ended, end } = await world();
  custody.take("run", first);
  custody.lose(first, end);
  custody.close();
  await clock.advance(GRACE_MS);
  expect(ended).toEqual([]);
});
