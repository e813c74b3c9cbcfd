import { afterEach, describe, expect, test } from "bun:test";
import { Actor, type ActorClass } from "../../runtime/actor.ts";
import type { Ref } from "../../runtime/ref.ts";
import { World } from "./world.ts";

const world = new World();
afterEach(() => world.close());

const ODD = "a name; with 'quotes', \"both\", `ticks` and \u2028";

/** A class of its own per test, since what is made for a class is made once. */
function echo() {
  return class Echo extends Actor {
    static override readonly reentrant = ["reentrant"];
    readonly heard: unknown[][] = [];
    hear(...args: unknown[]) {
      this.heard.push(args);
    }
    all(...args: unknown[]) {
      return args;
    }
    async reentrant(...args: unknown[]) {
      return args;
    }
    optional(a: number, b = 10, c?: string) {
      return [a, b, c];
    }
    [ODD](a: number) {
      return a + 1;
    }
    history() {
      return this.heard;
    }
  };
}

const ARGUMENTS: unknown[][] = [
  [],
  [undefined],
  [1],
  [1, undefined],
  [1, 2],
  [1, 2, undefined],
  [1, 2, 3],
  [[1], [2], [3], [4]],
];

async function checkAll(make: () => Promise<Ref<any>>) {
  const ref = await make();
  for (const args of ARGUMENTS) {
    expect(await ref.ask.all(...args)).toEqual(args);
    expect((await ref.ask.all(...args)).length).toBe(args.length);
    expect((await ref.ask.reentrant(...args)).length).toBe(args.length);
    ref.tell.hear(...args);
  }
  expect((await ref.ask.history()).map((args: unknown[]) => args.length)).toEqual(
    ARGUMENTS.map((a) => a.length),
  );
  expect(await ref.ask.optional(1)).toEqual([1, 10, undefined]);
  expect(await ref.ask.optional(1, 2, "x")).toEqual([1, 2, "x"]);
  expect(await ref.ask[ODD](1)).toBe(2);
}

describe("arguments arrive as they were given, as many as there were", () => {
  test("on the same node", () => checkAll(() => world.node("a").spawn(echo(), [])));

  test("where compiling code is forbidden", async () => {
    const compile = globalThis.Function;
    let refused = 0;
    try {
      globalThis.Function = function refuse() {
        refused++;
        throw new EvalError("refused by the content security policy");
      } as unknown as FunctionConstructor;
      await checkAll(() => world.node("a").spawn(echo() as ActorClass, []));
    } finally {
      globalThis.Function = compile;
    }
    expect(refused).toBeGreaterThan(0);
  });

  test("on another node", async () => {
    const [a, b] = [world.node("a"), world.node("b")];
    await a.connect(await b.listen("memory://b"));
    await b.spawn(echo(), [], { name: "echo" });
    const ref = (await a.lookup(b.id, "echo")) as Ref<any>;
    for (const args of ARGUMENTS) expect((await ref.ask.all(...args)).length).toBe(args.length);
  });
});

test("messages by direct call, by name and over a link keep their order", async () => {
  const [a, b] = [world.node("a"), world.node("b")];
  await a.connect(await b.listen("memory://b"));
  const here = await b.spawn(echo(), [], { name: "echo" });
  const cell = (here as any).target;
  for (let i = 0; i < 30; i++) {
    if (i % 3 === 0) here.tell.hear(i);
    else cell.post("hear", [i], null, i % 3 === 1 ? null : () => {});
  }
  expect((await here.ask.history()).flat()).toEqual(Array.from({ length: 30 }, (_, i) => i));
});

test("what a subclass or an instance puts in a method's place is what is called", async () => {
  class Base extends Actor {
    who() {
      return "base";
    }
    replace() {
      this.who = () => "instance";
    }
  }
  class Derived extends Base {
    override who() {
      return "derived";
    }
  }
  const node = world.node("a");
  expect(await (await node.spawn(Base, [])).ask.who()).toBe("base");
  const derived = await node.spawn(Derived, []);
  expect(await derived.ask.who()).toBe("derived");
  derived.tell.replace();
  expect(await derived.ask.who()).toBe("instance");
});

test("what the language calls by itself is no message, here and on another node", async () => {
  class Polite extends Actor {
    called = 0;
    // biome-ignore lint/suspicious/noThenProperty: that it does no harm is the point
    then() {
      this.called++;
    }
    toJSON() {
      this.called++;
    }
    override toString() {
      this.called++;
      return "polite";
    }
    count() {
      return this.called;
    }
  }
  const [here, there] = [world.node("here"), world.node("there", { actors: { Polite } })];
  await here.connect(await there.listen("memory://there"));
  for (const ref of [await here.spawn(Polite, []), await here.spawnOn<Polite>(there.id, "Polite", [])]) {
    for (const facade of [ref.ask, ref.tell]) {
      expect(await facade).toBe(facade);
      expect("toJSON" in facade).toBe(false);
      expect((facade as { then?: unknown }).then).toBeUndefined();
    }
    expect(await ref.ask.count()).toBe(0);
  }
});

test("a class of another node is what it is there, whatever has its name here", async () => {
  const hosted = (answer: number) => {
    class Shared extends Actor {}
    Object.defineProperty(Shared.prototype, `ask${answer}`, { value: () => answer });
    return Shared;
  };
  const here = world.node("here", { actors: { Shared: hosted(1) } });
  const there = world.node("there", { actors: { Shared: hosted(2) } });
  await here.connect(await there.listen("memory://there"));
  const ref = await here.spawnOn<any>(there.id, "Shared", []);
  expect(await ref.ask.ask2()).toBe(2);
});
