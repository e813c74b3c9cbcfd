/** How lives begin and end when something goes wrong on the way; whoever waits or watches is told exactly once. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Actor, type SupervisedChild } from "../../runtime/actor.ts";
import type { LogEntry } from "../../runtime/log.ts";
import type { Down, DownReason } from "../../runtime/monitor.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { failure, World } from "./world.ts";

const world = new World();
let node: NodeRuntime;
let logged: LogEntry[];
beforeEach(() => {
  logged = [];
  node = world.node("a", { log: (entry) => logged.push(entry) });
});
afterEach(() => world.close());

const never = () => new Promise<void>(() => {});

describe("an onStart that never settles", () => {
  class Stuck extends Actor {
    override onStart() {
      return never();
    }
  }

  test("is ended by the node's close, within its shutdown time; the spawn fails", async () => {
    const spawned = failure(node.spawn(Stuck, [], { name: "stuck" }));
    const closed = node.close(300);
    await world.clock.advance(299);
    expect(await Promise.race([spawned, Promise.resolve("waiting")])).toBe("waiting");
    await world.clock.advance(1);
    expect(await spawned).toMatchObject({ code: "SPAWN_FAILED", message: expect.stringContaining("killed") });
    await closed;
  });

  test("is ended at once by a kill, and its name is free", async () => {
    const spawned = failure(node.spawn(Stuck, [], { name: "stuck" }));
    const ref = (await node.lookup(node.id, "stuck"))!;
    await node.kill(ref);
    expect((await spawned).code).toBe("SPAWN_FAILED");
    expect(await node.lookup(node.id, "stuck")).toBeNull();
  });

  test("its children end with it", async () => {
    const ended: string[] = [];
    class Child extends Actor {
      override onStop(reason: DownReason) {
        ended.push(reason.code);
      }
    }
    class StuckParent extends Actor {
      override async onStart() {
        await this.context.spawn(Child, []);
        throw new Error("no further");
      }
    }
    expect((await failure(node.spawn(StuckParent, []))).message).toContain("no further");
    expect(ended).toEqual(["normal"]);
  });
});

test("a stop during onStart waits for it: the spawn succeeds, and the actor ends before its first message", async () => {
  const log: string[] = [];
  class Slow extends Actor {
    override async onStart() {
      await this.context.clock.sleep(10);
      log.push("started");
    }
    override onStop() {
      log.push("stopped");
    }
    hello() {
      log.push("hello");
    }
  }
  const spawned = node.spawn(Slow, [], { name: "slow" });
  const ref = (await node.lookup(node.id, "slow")) as Ref<Slow>;
  const asked = failure(ref.ask.hello());
  const stopped = node.stop(ref);
  await world.clock.advance(10);
  await Promise.all([spawned, stopped]);
  expect(log).toEqual(["started", "stopped"]);
  expect((await asked).code).toBe("ACTOR_DOWN");
});

describe("onStop", () => {
  for (const [how, onStop] of [
    [
      "throws",
      () => {
        throw new Error("cannot tidy up");
      },
    ],
    [
      "rejects",
      async () => {
        throw new Error("cannot tidy up");
      },
    ],
  ] as const) {
    test(`that ${how} is logged; the actor ends all the same, as what it ended for`, async () => {
      class Untidy extends Actor {
        override onStop() {
          return onStop();
        }
      }
      const ref = await node.spawn(Untidy, []);
      const downs: Down[] = [];
      node.monitor(ref, (down) => downs.push(down));
      await node.stop(ref);
      expect(downs.map((down) => down.reason.code)).toEqual(["normal"]);
      expect(logged.map((entry) => entry.error?.message)).toEqual(["cannot tidy up"]);
      expect(logged[0]!.message).toContain("failed in onStop");
    });
  }

  test("that never settles is cut off after the shutdown time, also when a shorter one is asked for later", async () => {
    class Stubborn extends Actor {
      override onStop() {
        return never();
      }
    }
    const ref = await node.spawn(Stubborn, []);
    let stopped = false;
    const stopping = node.stop(ref).then(() => {
      stopped = true;
    });
    await world.clock.advance(1000);
    const closed = node.close(50);
    await world.clock.advance(49);
    expect(stopped).toBe(false);
    await world.clock.advance(1);
    await Promise.all([stopping, closed]);
  });

  test("is not called on a kill; children of whom is killed are killed", async () => {
    const told: string[] = [];
    class Child extends Actor {
      static override readonly shutdownMs = 60_000;
      override onStop() {
        told.push("child");
        return never();
      }
    }
    class Parent extends Actor {
      override async onStart() {
        await this.context.spawn(Child, []);
      }
      override onStop() {
        told.push("parent");
      }
    }
    await node.kill(await node.spawn(Parent, []));
    expect(told).toEqual([]);
    // A stop asks the child, and the parent's shutdown time bounds what that may take.
    const stopped = node.stop(await node.spawn(Parent, []));
    await world.clock.advance(5000);
    await stopped;
    expect(told).toEqual(["parent", "child"]);
  });
});

test("who stops itself and then never comes back is killed after the shutdown time", async () => {
  class Hanging extends Actor {
    async hang() {
      this.context.stop();
      await never();
    }
  }
  const ref = await node.spawn(Hanging, []);
  const asked = failure(ref.ask.hang());
  await world.clock.advance(5000);
  expect(await asked).toMatchObject({ code: "ACTOR_DOWN", message: expect.stringContaining("killed") });
});

describe("whatever ends a life, each watcher is told once and a stop resolves", () => {
  class Mortal extends Actor {
    override async onStop() {
      await this.context.clock.sleep(10);
    }
    crash() {
      throw new Error("broken");
    }
    async wait() {
      await never();
    }
  }
  const ENDS: Record<string, [(ref: Ref<Mortal>) => unknown, DownReason["code"]]> = {
    "a stop": [(ref) => node.stop(ref), "normal"],
    "a drain": [(ref) => node.stop(ref, { drain: true }), "normal"],
    "a kill": [(ref) => node.kill(ref), "killed"],
    "a crash": [(ref) => ref.tell.crash(), "error"],
    "a stop and then a kill": [(ref) => [node.stop(ref), node.kill(ref)], "killed"],
    "two stops and a drain": [
      (ref) => [node.stop(ref), node.stop(ref), node.stop(ref, { drain: true })],
      "normal",
    ],
    "a crash and then a stop": [
      (ref) => [ref.tell.crash(), queueMicrotask(() => void node.stop(ref))],
      "error",
    ],
    "a crash and then a kill": [
      (ref) => [ref.tell.crash(), queueMicrotask(() => void node.kill(ref))],
      "error",
    ],
    "a stop that has to be forced": [
      (ref) => [ref.tell.wait(), queueMicrotask(() => void node.stop(ref))],
      "killed",
    ],
    "the node's close": [() => node.close(), "normal"],
  };
  for (const [what, [act, code]] of Object.entries(ENDS)) {
    test(what, async () => {
      const ref = await node.spawn(Mortal, []);
      const downs: string[] = [];
      for (const watcher of ["first", "second"]) {
        node.monitor(ref, (down) => downs.push(`${watcher} ${down.reason.code}`));
      }
      act(ref);
      let stopped = false;
      queueMicrotask(() => {
        void node.stop(ref).then(() => {
          stopped = true;
        });
      });
      await world.clock.advance(20_000);
      expect(downs).toEqual([`first ${code}`, `second ${code}`]);
      expect(stopped).toBe(true);
    });
  }
});

describe("a supervised life", () => {
  class Second extends Actor {
    static lives = 0;
    override onStart() {
      if (++Second.lives === 2) throw new RangeError("not now");
    }
    crash() {
      throw new Error("broken");
    }
    value() {
      return Second.lives;
    }
  }
  class Keeper extends Actor {
    child!: SupervisedChild;
    readonly exits: DownReason[] = [];
    override async onStart() {
      this.child = this.context.supervise(Second, [], { onExit: (reason) => void this.exits.push(reason) });
      await this.child.start();
    }
    ref() {
      return this.child.ref;
    }
    async again() {
      await this.child.start();
    }
    told() {
      return this.exits.map((exit) => exit.code);
    }
  }

  test("that fails to begin again is down; what waits for it waits for the life after", async () => {
    Second.lives = 0;
    const keeper = await node.spawn(Keeper, []);
    const child = (await keeper.ask.ref()) as Ref<Second>;
    child.tell.crash();
    const waiting = child.ask.value();
    await world.clock.settle();
    expect(await keeper.ask.told()).toEqual(["error"]);
    expect(await failure(keeper.ask.again())).toMatchObject({
      code: "SPAWN_FAILED",
      cause: { message: "not now" },
    });
    await keeper.ask.again();
    expect(await waiting).toBe(3);
    expect(await keeper.ask.told()).toEqual(["error"]);
  });
});

describe("the context", () => {
  test("is there from onStart on; in the constructor its absence has a name", async () => {
    class Early extends Actor {
      constructor() {
        super();
        this.context.stop();
      }
    }
    expect(await failure(node.spawn(Early, []))).toMatchObject({ cause: { code: "NO_CONTEXT" } });
  });

  test("starts no child once its actor is gone: nobody would stop it", async () => {
    class Child extends Actor {}
    const late = Promise.withResolvers<unknown>();
    class Parent extends Actor {
      async linger() {
        const { context } = this;
        await context.clock.sleep(10);
        late.resolve(context.spawn(Child, []));
      }
    }
    const refused = failure(late.promise);
    const ref = await node.spawn(Parent, []);
    ref.tell.linger();
    await world.clock.settle();
    await node.kill(ref);
    await world.clock.advance(10);
    expect((await refused).code).toBe("ACTOR_DOWN");
  });
});
