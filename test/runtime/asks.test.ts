/** Every ask settles, and with the first real error: one case per way in which an ask can end. */

import { afterEach, describe, expect, test } from "bun:test";
import { Actor } from "../../runtime/actor.ts";
import { child } from "../../runtime/child_spec.ts";
import { systemClock } from "../../runtime/clock.ts";
import { ActorFailure } from "../../runtime/errors.ts";
import { MAILBOX_CAPACITY } from "../../runtime/mailbox.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { Supervisor } from "../../runtime/supervisor.ts";
import { failure, World } from "./world.ts";

const world = new World();
afterEach(() => world.close());

class Subject extends Actor {
  static override readonly reentrant: readonly string[] = ["meanwhile", "open"];
  #gate = Promise.withResolvers<void>();

  value() {
    return 1;
  }
  async later() {
    return 2;
  }
  thenable() {
    // biome-ignore lint/suspicious/noThenProperty: anything with a then counts as a promise.
    return { then: (resolve: (value: number) => void) => resolve(3) } as unknown as Promise<number>;
  }
  fails(): number {
    throw new TypeError("first");
  }
  async failsLater(): Promise<number> {
    throw new TypeError("first");
  }
  throwsText(): number {
    throw "just text";
  }
  fatal(): number {
    throw new ActorFailure("worn out");
  }
  async wait() {
    await this.#gate.promise;
    return "waited";
  }
  async meanwhile(): Promise<string> {
    await this.#gate.promise;
    return "meanwhile";
  }
  open() {
    this.#gate.resolve();
  }
  crash() {
    throw new RangeError("the real one");
  }
  async killSelf(): Promise<void> {
    void this.context.node.kill(this.context.self);
    await new Promise(() => {});
  }
  async stopSelf() {
    this.context.stop();
    return "bye";
  }
  async askSelf(): Promise<number> {
    return this.context.self.with({ timeoutMs: 50 }).ask.value();
  }
}

const REAL = { code: "ACTOR_DOWN", cause: { name: "RangeError", message: "the real one" } };
const GONE = { code: "ACTOR_DOWN" };

interface Case {
  readonly what: string;
  /** The ask, and whatever ends it. */
  readonly act: (ref: Ref<Subject>, node: NodeRuntime) => Promise<unknown>;
  readonly value?: unknown;
  readonly error?: object;
  /** Milliseconds that have to pass; none by default. */
  readonly after?: number;
}

const CASES: readonly Case[] = [
  { what: "a reply that is there at once", act: (ref) => ref.ask.value(), value: 1 },
  { what: "a reply that comes later", act: (ref) => ref.ask.later(), value: 2 },
  { what: "a reply by something that has a then", act: (ref) => ref.ask.thenable(), value: 3 },
  { what: "an error at once", act: (ref) => ref.ask.fails(), error: { name: "TypeError", message: "first" } },
  {
    what: "an error later",
    act: (ref) => ref.ask.failsLater(),
    error: { name: "TypeError", message: "first" },
  },
  {
    what: "something thrown that is no error",
    act: (ref) => ref.ask.throwsText(),
    error: { message: "just text" },
  },
  {
    what: "an ActorFailure",
    act: (ref) => ref.ask.fatal(),
    error: { code: "ACTOR_FAILURE", message: "worn out" },
  },
  {
    what: "a timeout while in progress",
    act: (ref) => ref.with({ timeoutMs: 100 }).ask.wait(),
    error: { code: "ASK_TIMEOUT", message: expect.stringContaining("it is still handling wait") },
    after: 100,
  },
  {
    what: "a timeout while it waits in the queue",
    act: (ref) => {
      ref.tell.wait();
      return ref.with({ timeoutMs: 100 }).ask.value();
    },
    error: { code: "ASK_TIMEOUT", message: expect.stringContaining("wait and 1 message waits") },
    after: 100,
  },
  {
    what: "a method that asks its own actor: the ask's timeout ends the wait and names the method",
    act: (ref) => ref.ask.askSelf(),
    error: { code: "ASK_TIMEOUT", message: expect.stringContaining("it is still handling askSelf") },
    after: 50,
  },
  {
    what: "the crash of a message before it in the queue",
    act: (ref) => {
      ref.tell.crash();
      return ref.ask.value();
    },
    error: REAL,
  },
  {
    what: "the crash of another message while it is in progress and reentrant",
    act: (ref) => {
      const asked = ref.ask.meanwhile();
      ref.tell.crash();
      return asked;
    },
    error: REAL,
  },
  {
    what: "a stop while it waits in the queue",
    act: (ref, node) => {
      ref.tell.wait();
      const asked = ref.ask.value();
      void node.stop(ref);
      ref.tell.open();
      return asked;
    },
    error: { ...GONE, message: expect.stringContaining("it stopped") },
  },
  {
    what: "a stop while it is in progress: it is answered",
    act: (ref, node) => {
      const asked = ref.ask.wait();
      ref.tell.open();
      queueMicrotask(() => void node.stop(ref));
      return asked;
    },
    value: "waited",
  },
  {
    what: "a stop by its own method: it is answered",
    act: (ref) => ref.ask.stopSelf(),
    value: "bye",
  },
  {
    what: "a stop while it is in progress and does not settle: the shutdown time ends it",
    act: (ref, node) => {
      const asked = ref.ask.wait();
      queueMicrotask(() => void node.stop(ref));
      return asked;
    },
    error: { ...GONE, message: expect.stringContaining("it was killed") },
    after: 5000,
  },
  {
    what: "a kill while it is in progress",
    act: async (ref, node) => {
      const asked = ref.ask.wait();
      queueMicrotask(() => void node.kill(ref));
      return asked;
    },
    error: { ...GONE, message: expect.stringContaining("it was killed") },
  },
  {
    what: "a kill while it is in progress and reentrant",
    act: async (ref, node) => {
      const asked = ref.ask.meanwhile();
      queueMicrotask(() => void node.kill(ref));
      return asked;
    },
    error: GONE,
  },
  {
    what: "a kill while it waits in the queue",
    act: (ref, node) => {
      const asked = ref.ask.value();
      void node.kill(ref);
      return asked;
    },
    error: GONE,
  },
  { what: "a kill by its own method", act: (ref) => ref.ask.killSelf(), error: GONE },
  {
    what: "the node's close while it waits in the queue",
    act: (ref, node) => {
      ref.tell.wait();
      const asked = ref.ask.value();
      queueMicrotask(() => void node.close(200));
      return asked;
    },
    error: GONE,
    after: 200,
  },
  {
    what: "the node's close while it is in progress",
    act: (ref, node) => {
      const asked = ref.ask.wait();
      queueMicrotask(() => void node.close(200));
      return asked;
    },
    error: GONE,
    after: 200,
  },
  {
    what: "an actor that is dead already",
    act: async (ref, node) => {
      await node.stop(ref);
      return ref.ask.value();
    },
    error: GONE,
  },
  {
    what: "an actor that crashed before",
    act: async (ref) => {
      ref.tell.crash();
      await world.clock.settle();
      return ref.ask.value();
    },
    error: REAL,
  },
  {
    what: "a drain that began before",
    act: (ref, node) => {
      ref.tell.wait();
      void node.stop(ref, { drain: true });
      const asked = ref.ask.value();
      return asked;
    },
    error: { ...GONE, message: expect.stringContaining("it ends once it has handled what came before") },
  },
  {
    what: "a drain that begins after: it is answered",
    act: (ref, node) => {
      const asked = ref.ask.later();
      void node.stop(ref, { drain: true });
      return asked;
    },
    value: 2,
  },
  {
    what: "a full mailbox",
    act: (ref) => {
      ref.tell.wait();
      for (let i = 1; i < MAILBOX_CAPACITY; i++) ref.tell.value();
      expect(() => ref.tell.value()).toThrow("messages wait already; value is refused");
      return ref.ask.value();
    },
    error: { code: "MAILBOX_FULL" },
  },
];

describe("an ask settles once, with", () => {
  for (const { what, act, value, error, after = 0 } of CASES) {
    test(what, async () => {
      const node = world.node("a");
      const ref = await node.spawn(Subject, []);
      let settled = 0;
      const asked = act(ref, node).then(
        (result) => {
          settled++;
          return { result };
        },
        (thrown) => {
          settled++;
          return { thrown };
        },
      );
      await world.clock.settle();
      if (after > 0) {
        expect(settled).toBe(0);
        await world.clock.advance(after - 1);
        expect(settled).toBe(0);
        await world.clock.advance(1);
      }
      expect(settled).toBe(1);
      if (error) expect((await asked) as { thrown: Error }).toMatchObject({ thrown: error });
      else expect((await asked) as object).toEqual({ result: value });
      await node.kill(ref);
      await world.clock.advance(10_000);
      expect(settled).toBe(1);
    });
  }

  test("a method that does not exist, by whoever calls it by name, naming those that do", async () => {
    const [a, b] = [world.node("a"), world.node("b", { actors: { Subject } })];
    await a.connect(await b.listen("memory://b"));
    const here = await b.spawn(Subject, [], { name: "subject" });
    const there = (await a.lookup(b.id, "subject")) as Ref<any>;
    const error = await failure(there.ask.nothing());
    expect(error).toMatchObject({ code: "UNKNOWN_METHOD", message: expect.stringContaining("value, later") });
    expect(await here.ask.value()).toBe(1);
  });

  test("the supervisor's giving up, while it waits for a restart", async () => {
    class Fragile extends Actor {
      #starts: { n: number };
      constructor(starts: { n: number }) {
        super();
        this.#starts = starts;
      }
      override async onStart() {
        if (this.#starts.n++ > 0) throw new RangeError("no second life");
      }
      crash() {
        throw new TypeError("first");
      }
      value() {
        return 1;
      }
    }
    const spec = { strategy: "one_for_one", intensity: 1, periodMs: 1000 } as const;
    const supervisor = await world
      .node("a")
      .spawn(Supervisor, [{ ...spec, children: [child(Fragile, [{ n: 0 }], { id: "x" })] }]);
    const x = (await supervisor.ask.child("x")) as Ref<Fragile>;
    x.tell.crash();
    const error = await failure(x.ask.value());
    expect(error.code).toBe("ACTOR_DOWN");
    expect(error.cause?.message).toBe("no second life");
  });

  test("the reply, after a restart it waited through", async () => {
    const spec = { strategy: "one_for_one", intensity: 1, periodMs: 1000 } as const;
    const supervisor = await world
      .node("a")
      .spawn(Supervisor, [{ ...spec, children: [child(Subject, [], { id: "x" })] }]);
    const x = (await supervisor.ask.child("x")) as Ref<Subject>;
    x.tell.crash();
    expect(await x.ask.value()).toBe(1);
  });

  test("a timeout somewhere in a circle of asks, which frees all of it", async () => {
    class Circle extends Actor {
      next!: Ref<Circle>;
      lead(to: Ref<any>) {
        this.next = to;
      }
      async around(steps: number): Promise<string> {
        if (steps === 0) return "never reached";
        return this.next.with({ timeoutMs: 10 + steps }).ask.around(steps - 1);
      }
    }
    const node = world.node("a");
    const [one, two] = [await node.spawn(Circle, []), await node.spawn(Circle, [])];
    one.tell.lead(two);
    two.tell.lead(one);
    const error = failure(one.ask.around(2));
    await world.clock.advance(11);
    expect(await error).toMatchObject({
      code: "ASK_TIMEOUT",
      message: expect.stringContaining("it is still handling around"),
    });
  });

  test("the actor's end for every one of many, in progress and waiting, none forgotten", async () => {
    const node = world.node("a");
    const ref = await node.spawn(Subject, []);
    const asked = [ref.ask.wait(), ...Array.from({ length: 50 }, () => ref.ask.meanwhile()), ref.ask.value()];
    await world.clock.settle();
    void node.kill(ref);
    const codes = await Promise.all(asked.map(async (each) => (await failure(each)).code));
    expect(new Set(codes)).toEqual(new Set(["ACTOR_DOWN"]));
  });
});

test("an ask that may take for ever, or for longer than timers can count, is not given up at once", async () => {
  const node = world.node("a", { clock: systemClock, askTimeoutMs: 10_000 });
  class Slow extends Actor {
    async answer() {
      await this.context.clock.sleep(5);
      return "at last";
    }
  }
  const ref = await node.spawn(Slow, []);
  for (const timeoutMs of [Number.POSITIVE_INFINITY, 2 ** 31, 2 ** 40]) {
    expect(await ref.with({ timeoutMs }).ask.answer()).toBe("at last");
  }
});
