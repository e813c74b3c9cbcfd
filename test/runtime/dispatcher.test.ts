import { afterEach, describe, expect, test } from "bun:test";
import { Actor } from "../../runtime/actor.ts";
import { systemClock, VirtualClock } from "../../runtime/clock.ts";
import { Dispatcher } from "../../runtime/dispatcher.ts";
import type { Ref } from "../../runtime/ref.ts";
import { World } from "./world.ts";

const world = new World();
afterEach(() => world.close());

/** A runnable with this much to do, which notes each go. */
function job(dispatcher: Dispatcher, name: string, work: number, log: string[]) {
  let left = work;
  const runnable = {
    run() {
      const handled = Math.min(dispatcher.allot(), left);
      left -= handled;
      if (handled > 0) log.push(name);
      dispatcher.spend(handled);
      if (left > 0) dispatcher.schedule(runnable);
    },
  };
  dispatcher.schedule(runnable);
  return () => work - left;
}

describe("the budget", () => {
  test("is shared in slices, in the order in which runnables became ready", async () => {
    const clock = new VirtualClock(0);
    const dispatcher = new Dispatcher(clock);
    const log: string[] = [];
    job(dispatcher, "a", 600, log);
    job(dispatcher, "b", 10, log);
    job(dispatcher, "c", 300, log);
    await clock.settle();
    expect(log).toEqual(["a", "b", "c", "a", "c", "a"]);
  });

  test("bounds what is handled in one turn of the event loop; the rest goes on in the next", async () => {
    const deferred: (() => void)[] = [];
    const dispatcher = new Dispatcher({ ...systemClock, defer: (callback) => void deferred.push(callback) });
    const done = job(dispatcher, "a", 10_000, []);
    await systemClock.sleep(0);
    expect(done()).toBe(4096);
    expect(deferred).toHaveLength(1);
    deferred.shift()!();
    await systemClock.sleep(0);
    expect(done()).toBe(8192);
    deferred.shift()!();
    await systemClock.sleep(0);
    expect(done()).toBe(10_000);
  });
});

test("an actor that is never done does not keep others from running", async () => {
  class Restless extends Actor {
    again() {
      this.context.self.tell.again();
    }
  }
  class Counter extends Actor {
    #count = 0;
    add() {
      return ++this.#count;
    }
  }
  const node = world.node("a", { clock: systemClock });
  const restless = await node.spawn(Restless, []);
  const counter: Ref<Counter> = await node.spawn(Counter, []);
  for (let i = 0; i < 4; i++) restless.tell.again();
  for (let i = 1; i <= 20; i++) expect(await counter.ask.add()).toBe(i);
  await node.kill(restless);
});

test("actors that start and stop without end do not starve timers", async () => {
  class Trivial extends Actor {}
  const node = world.node("a", { clock: systemClock });
  let over = false;
  const timer = systemClock.sleep(1).then(() => {
    over = true;
  });
  let lives = 0;
  while (!over && lives < 1_000_000) {
    await node.stop(await node.spawn(Trivial, []));
    lives++;
  }
  expect(over).toBe(true);
  await timer;
});
