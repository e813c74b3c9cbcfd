import { afterEach, describe, expect, test } from "bun:test";
import { Actor } from "../../runtime/actor.ts";
import { systemClock } from "../../runtime/clock.ts";
import { ActorFailure } from "../../runtime/errors.ts";
import type { Down, DownReason } from "../../runtime/monitor.ts";
import { failure, World } from "./world.ts";

const world = new World();
afterEach(() => world.close());

class Probe extends Actor {
  static override readonly reentrant = ["early"];
  readonly log: string[] = [];
  private gate = Promise.withResolvers<void>();

  async add(a: number, b: number) {
    return a + b;
  }
  plain(value: unknown) {
    return value;
  }
  async wait(label: string) {
    this.log.push(`${label} begins`);
    await this.gate.promise;
    this.log.push(`${label} ends`);
  }
  async early(label: string) {
    this.log.push(label);
  }
  async open() {
    this.gate.resolve();
  }
  async note(label: string) {
    this.log.push(label);
  }
  async history() {
    return this.log;
  }
  async fail(message: string) {
    throw new TypeError(message);
  }
  async fatal(message: string) {
    throw new ActorFailure(message);
  }
  async never() {
    await new Promise(() => {});
  }
  async leave() {
    this.context.stop();
    return "bye";
  }
}

class Open extends Probe {
  static override readonly reentrant = ["open", "early"];
}

describe("asks settle", () => {
  test("with the result, awaited or not a promise at all", async () => {
    const ref = await world.node("a").spawn(Probe, []);
    expect(await ref.ask.add(2, 3)).toBe(5);
    const value = { same: "object" };
    expect(await ref.ask.plain(value)).toBe(value);
  });

  test("with the method's own error; the actor lives on", async () => {
    const ref = await world.node("a").spawn(Probe, []);
    const error = await failure(ref.ask.fail("no"));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toBe("no");
    expect(await ref.ask.add(1, 1)).toBe(2);
  });

  test("with an ActorFailure, which ends the actor; what else waits gets it as the cause", async () => {
    const ref = await world.node("a").spawn(Probe, []);
    const first = failure(ref.ask.fatal("worn out"));
    const second = failure(ref.ask.add(1, 1));
    expect(await first).toBeInstanceOf(ActorFailure);
    expect(await second).toMatchObject({ code: "ACTOR_DOWN", cause: { message: "worn out" } });
  });

  test("with a timeout, by the clock that was handed in", async () => {
    const ref = await world.node("a").spawn(Probe, []);
    let settled = false;
    const late = failure(ref.with({ timeoutMs: 500 }).ask.never()).finally(() => {
      settled = true;
    });
    await world.clock.advance(499);
    expect(settled).toBe(false);
    await world.clock.advance(1);
    expect(await late).toMatchObject({
      code: "ASK_TIMEOUT",
      message: expect.stringContaining("never within 500 ms"),
    });
  });

  test("with the actor's end, in progress, waiting or too late", async () => {
    const node = world.node("a");
    const ref = await node.spawn(Probe, [], { name: "probe" });
    const asks = [failure(ref.ask.never()), failure(ref.ask.add(1, 1))];
    await world.clock.settle();
    await node.kill(ref);
    for (const ask of [...asks, failure(ref.ask.add(1, 1))]) {
      expect(await ask).toMatchObject({
        code: "ACTOR_DOWN",
        message: expect.stringContaining("probe (Probe#1)"),
      });
    }
  });

  test("for a method that does not exist, naming those that do", async () => {
    const ref = await world.node("a").spawn(Probe, []);
    const unknown = (ref as any).ask.nothing;
    expect(unknown).toBeUndefined();
    expect("onStart" in ref.ask).toBe(false);
    expect("add" in ref.ask).toBe(true);
  });
});

describe("one message at a time", () => {
  test("the next begins when the one before has settled, in the order they were sent", async () => {
    const ref = await world.node("a").spawn(Open, []);
    ref.tell.wait("1");
    ref.tell.wait("2");
    ref.tell.note("3");
    await world.clock.settle();
    ref.tell.open();
    expect(await ref.ask.history()).toEqual(["1 begins", "1 ends", "2 begins", "2 ends", "3"]);
  });

  test("reentrant methods run while a serial one waits", async () => {
    const ref = await world.node("a").spawn(Open, []);
    ref.tell.wait("1");
    ref.tell.note("3");
    ref.tell.early("2");
    ref.tell.open();
    expect(await ref.ask.history()).toEqual(["1 begins", "2", "1 ends", "3"]);
  });

  test("ten thousand tells do not overtake one another", async () => {
    const ref = await world.node("a").spawn(Probe, []);
    for (let i = 0; i < 10_000; i++) ref.tell.note(String(i));
    const history = await ref.ask.history();
    expect(history).toHaveLength(10_000);
    expect(history.every((label, i) => label === String(i))).toBe(true);
  });
});

test("actors that never stop talking do not starve timers", async () => {
  class Restless extends Actor {
    async again() {
      this.context.self.tell.again();
    }
  }
  const node = world.node("a", { clock: systemClock });
  const ref = await node.spawn(Restless, []);
  ref.tell.again();
  await systemClock.sleep(1);
  await node.kill(ref);
});

describe("the end", () => {
  class Mortal extends Actor {
    readonly told: string[];
    constructor(told: string[]) {
      super();
      this.told = told;
    }
    override async onStop(reason: DownReason) {
      this.told.push(`stop: ${reason.code}`);
    }
    async crash() {
      throw new Error("first");
    }
    async sleep() {
      await this.context.clock.sleep(100);
      this.told.push("slept");
    }
    async leave() {
      this.context.stop();
      return "bye";
    }
    async note() {
      this.told.push("noted");
    }
  }

  test("a throw in a tell crashes the actor: monitors hear the error, messages become dead letters", async () => {
    const node = world.node("a");
    const told: string[] = [];
    const ref = await node.spawn(Mortal, [told]);
    const down = Promise.withResolvers<Down>();
    node.monitor(ref, down.resolve);
    const letters: string[] = [];
    node.deadLetters.watch((letter) => letters.push(`${letter.method}: ${letter.reason}`));
    ref.tell.crash();
    ref.tell.note();
    expect((await down.promise).reason).toMatchObject({ code: "error", error: { message: "first" } });
    ref.tell.note();
    expect(told).toEqual(["stop: error"]);
    expect(letters).toHaveLength(2);
    expect(letters[1]).toContain("note: Mortal#1 is gone: it crashed while handling crash: Error: first");
  });

  test("a stop waits for the method in progress and not for what is queued", async () => {
    const node = world.node("a");
    const told: string[] = [];
    const ref = await node.spawn(Mortal, [told]);
    ref.tell.sleep();
    ref.tell.note();
    await world.clock.settle();
    const stopped = node.stop(ref);
    await world.clock.advance(100);
    await stopped;
    expect(told).toEqual(["slept", "stop: normal"]);
  });

  test("who stops itself still answers", async () => {
    const ref = await world.node("a").spawn(Mortal, [[]]);
    expect(await ref.ask.leave()).toBe("bye");
    await world.clock.settle();
    expect((await failure(ref.ask.note())).code).toBe("ACTOR_DOWN");
  });

  test("who does not stop in time is killed", async () => {
    const node = world.node("a");
    const ref = await node.spawn(Probe, []);
    const ask = failure(ref.ask.never());
    await world.clock.settle();
    const stopped = node.stop(ref);
    await world.clock.advance(5000);
    await stopped;
    expect((await ask).message).toContain("killed");
  });

  test("children end with their parent, the youngest first", async () => {
    const told: string[] = [];
    class Child extends Actor {
      readonly label: string;
      constructor(label: string) {
        super();
        this.label = label;
      }
      override onStop() {
        told.push(this.label);
      }
    }
    class Parent extends Actor {
      override async onStart() {
        await this.context.spawn(Child, ["1"]);
        await this.context.spawn(Child, ["2"]);
      }
    }
    const node = world.node("a");
    await node.stop(await node.spawn(Parent, []));
    expect(told).toEqual(["2", "1"]);
  });
});

describe("the beginning", () => {
  class Fails extends Actor {
    override async onStart() {
      throw new RangeError("no memory");
    }
  }

  test("an error in onStart is the spawn's, and the name is free again", async () => {
    const node = world.node("a");
    const error = await failure(node.spawn(Fails, [], { name: "x" }));
    expect(error).toMatchObject({
      code: "SPAWN_FAILED",
      cause: { name: "RangeError", message: "no memory" },
    });
    await node.spawn(Probe, [], { name: "x" });
  });

  test("a name belongs to one actor", async () => {
    const node = world.node("a");
    const ref = await node.spawn(Probe, [], { name: "x" });
    expect((await failure(node.spawn(Probe, [], { name: "x" }))).code).toBe("NAME_TAKEN");
    expect((await node.lookup(node.id, "x"))!.key).toBe(ref.key);
    await node.stop(ref);
    expect(await node.lookup(node.id, "x")).toBeNull();
  });

  test("a closed node starts nothing", async () => {
    const node = world.node("a");
    await node.close();
    expect((await failure(node.spawn(Probe, []))).code).toBe("NODE_CLOSED");
  });
});

describe("monitors", () => {
  class Watcher extends Actor {
    readonly downs: Down[] = [];
    async watch(ref: any) {
      this.context.monitor(ref);
    }
    async unwatch(ref: any) {
      const monitor = this.context.monitor(ref);
      this.context.demonitor(monitor);
    }
    async hang() {
      await new Promise(() => {});
    }
    override onDown(down: Down) {
      this.downs.push(down);
    }
  }

  test("fire once, also while a method is waiting", async () => {
    const node = world.node("a");
    const downs: Down[] = [];
    class Listening extends Watcher {
      override onDown(down: Down) {
        downs.push(down);
      }
    }
    const [watcher, probe] = [await node.spawn(Listening, []), await node.spawn(Probe, [])];
    await watcher.ask.watch(probe);
    watcher.tell.hang();
    await node.stop(probe);
    await world.clock.settle();
    expect(downs.map((d) => [d.ref.key, d.reason.code])).toEqual([[probe.key, "normal"]]);
  });

  test("fire at once for an actor that is gone, and not when taken back", async () => {
    const node = world.node("a");
    const probe = await node.spawn(Probe, []);
    const other = await node.spawn(Probe, []);
    await node.stop(probe);
    const downs: Down[] = [];
    node.monitor(probe, (down) => downs.push(down));
    node.monitor(other, (down) => downs.push(down)).cancel();
    await node.stop(other);
    await world.clock.settle();
    expect(downs.map((d) => [d.ref.key, d.reason.code])).toEqual([[probe.key, "noactor"]]);
  });
});
