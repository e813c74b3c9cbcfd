/**
 * What users' code may do at its worst: throw what is no error, return what is hardly a promise, fail in a log or a
 * listener. It harms nobody else, every ask settles, and nothing escapes that would end the process.
 */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { inspect } from "node:util";
import { Actor } from "../../runtime/actor.ts";
import type { LogEntry } from "../../runtime/log.ts";
import { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { failure, World } from "./world.ts";

const bare = Object.create(null);
const unshowable = {
  toString() {
    throw new Error("not even this");
  },
};

class Thrower extends Actor {
  static thrown: unknown;
  now() {
    throw Thrower.thrown;
  }
  later() {
    return Promise.reject(Thrower.thrown);
  }
  async hello() {
    return "hello";
  }
}

const world = new World();
let node: NodeRuntime;
let logged: LogEntry[];
beforeEach(() => {
  logged = [];
  node = world.node("a", { log: (entry) => logged.push(entry) });
});
afterEach(() => world.close());

describe("what is thrown is the error of an ask and the crash of a tell, whatever it is:", () => {
  const thrown: [string, unknown, string][] = [
    ["a string", "so it is", "so it is"],
    ["nothing", undefined, "undefined"],
    ["a symbol", Symbol("sign"), "Symbol(sign)"],
    ["an error of another realm", { name: "RangeError", message: "too far" }, "too far"],
    ["an error whose name is none", Object.assign(new Error("odd"), { name: 5 }), "odd"],
    ["an error whose message is none", Object.assign(new Error(), { message: 5 }), "5"],
    ["an object that nothing can be made of", bare, "something was thrown that cannot be shown"],
    ["an object that fails to show itself", unshowable, "something was thrown that cannot be shown"],
  ];
  for (const [what, value, message] of thrown) {
    for (const method of ["now", "later"] as const) {
      test(`${what}, ${method}`, async () => {
        Thrower.thrown = value;
        const there = world.node("b", { actors: { Thrower } });
        await node.connect(await there.listen("memory://"));
        const remote = await node.spawnOn<Thrower>(there.id, "Thrower", []);
        expect((await failure(remote.ask[method]())).message).toBe(message);
        const ref = await node.spawn(Thrower, []);
        const error = await failure(ref.ask[method]());
        expect(error).toBeInstanceOf(Error);
        expect(error.message).toBe(message);
        expect(error.cause as unknown).toBe(value);
        expect(await ref.ask.hello()).toBe("hello");
        ref.tell[method]();
        expect(await failure(ref.ask.hello())).toMatchObject({ code: "ACTOR_DOWN", cause: { message } });
      });
    }
  }

  for (const hook of ["constructor", "onStart", "onStop", "onDown"] as const) {
    test(`also in ${hook}`, async () => {
      class Hooks extends Actor {
        constructor() {
          super();
          if (hook === "constructor") throw bare;
        }
        override onStart() {
          if (hook === "onStart") throw bare;
        }
        override onStop() {
          if (hook === "onStop") throw bare;
        }
        override onDown() {
          throw bare;
        }
        watch(ref: Ref<any>) {
          this.context.monitor(ref);
        }
      }
      if (hook === "constructor" || hook === "onStart") {
        expect((await failure(node.spawn(Hooks, []))).code).toBe("SPAWN_FAILED");
        expect(node.status().actors).toBe(0);
        return;
      }
      const ref = await node.spawn(Hooks, []);
      const other = await node.spawn(Thrower, []);
      await ref.ask.watch(other);
      await node.stop(hook === "onDown" ? other : ref);
      await world.clock.settle();
      expect(logged.map(({ error }) => error?.message)).toEqual([
        "something was thrown that cannot be shown",
      ]);
    });
  }
});

type Done = (value: unknown) => void;
const THEN = "then";
const thenable = (then: PropertyDescriptor, on: object = {}) => Object.defineProperty(on, THEN, then);
const broken = () => {
  throw new Error("broken");
};

/** Thenables that break the rules: each settles the ask by its first word, as `await` would. */
const thenables: [string, () => unknown, unknown][] = [
  ["one that answers at once", () => thenable({ value: (done: Done) => done(1) }), 1],
  ["a function", () => thenable({ value: (done: Done) => done(2) }, () => {}), 2],
  ["one that answers twice", () => thenable({ value: (done: Done) => [3, 4].map(done) }), 3],
  ["one that throws", () => thenable({ value: broken }), new Error("broken")],
  ["one whose then cannot be read", () => thenable({ get: broken }), new Error("broken")],
  [
    "one that gives another",
    () => thenable({ value: (done: Done) => done(thenable({ value: (inner: Done) => inner(5) })) }),
    5,
  ],
];

class Lazy extends Actor {
  static make: () => unknown;
  thenable() {
    return Lazy.make();
  }
  async slow() {
    await this.context.clock.sleep(10);
    return "slow";
  }
}

describe("a method may return a thenable of any kind:", () => {
  for (const [what, make, expected] of thenables) {
    test(what, async () => {
      Lazy.make = make;
      const ref = await node.spawn(Lazy, []);
      const asked = ref.ask.thenable();
      // What it says later is not taken for the answer of another method.
      const slow = ref.ask.slow();
      if (expected instanceof Error) expect((await failure(asked)).message).toBe(expected.message);
      else expect(await asked).toBe(expected);
      await world.clock.advance(10);
      expect(await slow).toBe("slow");
    });
  }

  test("any number in a row do not use up the stack", async () => {
    Lazy.make = thenables[0]![1];
    const ref = await node.spawn(Lazy, []);
    for (let i = 0; i < 20_000; i++) ref.tell.thenable();
    expect(await ref.ask.thenable()).toBe(1);
  });

  test("so may onStart and onStop", async () => {
    class Hooks extends Actor {
      override onStart(): any {
        return thenables[4]![1]();
      }
    }
    expect(await failure(node.spawn(Hooks, []))).toMatchObject({
      code: "SPAWN_FAILED",
      cause: { message: "broken" },
    });
    expect(node.status().actors).toBe(0);
  });
});

describe("what fails beside the actors does not harm them:", () => {
  test("a log", async () => {
    const quiet = console.error;
    const said: string[] = [];
    console.error = (line: string) => said.push(line);
    try {
      const careless = world.node("careless", {
        log: () => {
          throw new Error("no more space");
        },
      });
      Thrower.thrown = new Error("broken");
      const ref = await careless.spawn(Thrower, []);
      ref.tell.now();
      expect((await failure(ref.ask.hello())).code).toBe("ACTOR_DOWN");
    } finally {
      console.error = quiet;
    }
    expect(said).toEqual([
      "Thrower#1 crashed while handling now: Error: broken",
      "the node's log failed: Error: no more space",
    ]);
  });

  test("a listener to dead letters", async () => {
    node.deadLetters.watch(() => {
      throw new Error("cannot count");
    });
    const ref = await node.spawn(Thrower, []);
    const told: string[] = [];
    node.monitor(ref, ({ reason }) => told.push(reason.code));
    for (let i = 0; i < 3; i++) ref.tell.hello();
    await node.kill(ref);
    ref.tell.hello();
    expect(told).toEqual(["killed"]);
    expect(logged.map(({ message }) => message)).toEqual(Array(4).fill("a listener to dead letters failed"));
  });
});

test("spawning what is no actor, or without an array of arguments, says what is expected", async () => {
  const node = new NodeRuntime({ name: "careless", log: () => {} });
  const spawn = node.spawn.bind(node) as (...args: unknown[]) => Promise<unknown>;
  class Fine extends Actor {}
  for (const wrong of [[Fine], [() => 1, []], [class {}, []], [undefined, []], [Fine, "text"]]) {
    await expect(spawn(...wrong)).rejects.toThrow(
      "a class that extends Actor and its constructor's arguments",
    );
  }
  expect(inspect(await node.spawn(Fine, []))).toMatch(/^Ref<Fine#\d+>$/);
  await node.close();
  expect(() => new NodeRuntime({} as never)).toThrow("a node has a name");
});
