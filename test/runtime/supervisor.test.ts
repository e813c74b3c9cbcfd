/** A protocol: children announce themselves, one is killed, and exactly those who should announce themselves again do. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Actor } from "../../runtime/actor.ts";
import { type ChildOptions, type ChildSpec, child, type SupervisorSpec } from "../../runtime/child_spec.ts";
import type { Down } from "../../runtime/monitor.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { Supervisor } from "../../runtime/supervisor.ts";
import { failure, World } from "./world.ts";

const world = new World();
let node: NodeRuntime;
let said: string[];
/** Children that refuse to start, by id. */
let refusing: Set<string>;
beforeEach(() => {
  node = world.node("a");
  said = [];
  refusing = new Set();
});
afterEach(() => world.close());

class Announcer extends Actor {
  private readonly id: string;
  constructor(id: string) {
    super();
    this.id = id;
  }
  override async onStart() {
    if (refusing.has(this.id)) throw new Error(`${this.id} refuses`);
    said.push(`+${this.id}`);
  }
  override async onStop() {
    said.push(`-${this.id}`);
  }
  async crash() {
    throw new Error(`${this.id} is broken`);
  }
  async leave() {
    this.context.stop();
  }
  async hello(n: number) {
    return `${this.id} ${n}`;
  }
}

const announcer = (id: string, options: ChildOptions = {}) => child(Announcer, [id], { id, ...options });
const abc = (options: Record<string, ChildOptions> = {}) =>
  ["a", "b", "c"].map((id) => announcer(id, options[id]));

async function tree(children: readonly ChildSpec[], spec: Partial<SupervisorSpec> = {}) {
  const options: SupervisorSpec = {
    strategy: "one_for_one",
    intensity: 3,
    periodMs: 5000,
    children,
    ...spec,
  };
  const supervisor = await node.spawn(Supervisor, [options], { name: "top" });
  const refs: Record<string, Ref<Announcer>> = {};
  for (const { id, ref } of await supervisor.ask.children()) refs[id] = ref;
  return { supervisor, refs };
}

/** What is said from now until nothing happens any more. */
async function heard(act: () => unknown): Promise<string[]> {
  said.length = 0;
  await act();
  await world.clock.settle();
  return said;
}

test("children start in order and stop in reverse", async () => {
  const { supervisor } = await tree(abc());
  expect(said).toEqual(["+a", "+b", "+c"]);
  expect(await heard(() => node.stop(supervisor))).toEqual(["-c", "-b", "-a"]);
});

describe("strategies", () => {
  const crashed: Record<SupervisorSpec["strategy"], string[]> = {
    one_for_one: ["-b", "+b"],
    one_for_all: ["-b", "-c", "-a", "+a", "+b", "+c"],
    rest_for_one: ["-b", "-c", "+b", "+c"],
  };
  for (const [strategy, expected] of Object.entries(crashed) as [SupervisorSpec["strategy"], string[]][]) {
    test(`${strategy}: who stops and starts when b crashes`, async () => {
      const { refs } = await tree(abc(), { strategy });
      expect(await heard(() => refs.b!.tell.crash())).toEqual(expected);
    });
  }

  test("a kill is a failure too, without onStop", async () => {
    const { refs } = await tree(abc());
    expect(await heard(() => node.kill(refs.b!))).toEqual(["+b"]);
  });
});

describe("restart types", () => {
  const cases: [ChildSpec["restart"], string[], string[]][] = [
    ["permanent", ["-b", "+b"], ["-b", "+b"]],
    ["transient", ["-b", "+b"], ["-b"]],
    ["temporary", ["-b"], ["-b"]],
  ];
  for (const [restart, afterCrash, afterStop] of cases) {
    test(`${restart}: after a crash`, async () => {
      const { refs } = await tree(abc({ b: { restart } }));
      expect(await heard(() => refs.b!.tell.crash())).toEqual(afterCrash);
    });
    test(`${restart}: after a normal end`, async () => {
      const { refs } = await tree(abc({ b: { restart } }));
      expect(await heard(() => refs.b!.tell.leave())).toEqual(afterStop);
    });
  }

  test("who is not started again is forgotten and refuses what waits for it", async () => {
    const { supervisor, refs } = await tree(abc({ b: { restart: "temporary" } }));
    refs.b!.tell.crash();
    expect(await failure(refs.b!.ask.hello(1))).toMatchObject({
      code: "ACTOR_DOWN",
      cause: { message: "b is broken" },
    });
    expect((await supervisor.ask.children()).map((c) => c.id)).toEqual(["a", "c"]);
  });
});

test("ref, name and queued messages survive a restart; the message that caused it does not", async () => {
  const { refs } = await tree([announcer("a", { name: "registered" })]);
  refs.a!.tell.crash();
  expect(await refs.a!.ask.hello(1)).toBe("a 1");
  expect((await node.lookup(node.id, "registered"))!.key).toBe(refs.a!.key);
  expect(said).toEqual(["+a", "-a", "+a"]);
});

test("monitors of a child fire although it is started again", async () => {
  const { refs } = await tree(abc());
  const downs: Down[] = [];
  node.monitor(refs.a!, (down) => downs.push(down));
  await heard(() => refs.a!.tell.crash());
  await heard(() => refs.a!.tell.crash());
  expect(downs.map((d) => d.reason.error?.message)).toEqual(["a is broken"]);
});

describe("intensity", () => {
  test("too many restarts within the period, and the supervisor gives up with the real error", async () => {
    const { supervisor, refs } = await tree(abc(), { intensity: 2 });
    const downs: Down[] = [];
    node.monitor(supervisor, (down) => downs.push(down));
    for (let i = 0; i < 2; i++) await heard(() => refs.a!.tell.crash());
    expect(await heard(() => refs.a!.tell.crash())).toEqual(["-a", "-c", "-b"]);
    expect(downs[0]!.reason.message).toContain("gave up on a after 2 restarts within 5000 ms");
    expect((downs[0]!.reason.error!.cause as Error).message).toBe("a is broken");
    expect((await failure(refs.b!.ask.hello(1))).code).toBe("ACTOR_DOWN");
  });

  test("restarts further apart than the period do not add up", async () => {
    const { refs } = await tree(abc(), { intensity: 1 });
    for (let i = 0; i < 5; i++) {
      expect(await heard(() => refs.a!.tell.crash())).toEqual(["-a", "+a"]);
      await world.clock.advance(5001);
    }
  });

  test("a restart that fails counts as another failure", async () => {
    const { supervisor, refs } = await tree(abc(), { intensity: 2 });
    const downs: Down[] = [];
    node.monitor(supervisor, (down) => downs.push(down));
    refusing.add("b");
    expect(await heard(() => refs.b!.tell.crash())).toEqual(["-b", "-c", "-a"]);
    expect(downs[0]!.reason.message).toContain("b refuses");
  });

  test("a supervisor that gives up is started again by its own", async () => {
    const inner: SupervisorSpec = {
      strategy: "one_for_one",
      intensity: 0,
      periodMs: 5000,
      children: [announcer("x")],
    };
    const { supervisor } = await tree([child(Supervisor, [inner], { id: "inner" })]);
    const innerRef = (await supervisor.ask.child("inner")) as Ref<Supervisor>;
    const x = (await innerRef.ask.child("x")) as Ref<Announcer>;
    expect(await heard(() => x.tell.crash())).toEqual(["-x", "+x"]);
    const again = (await innerRef.ask.child("x")) as Ref<Announcer>;
    expect(await again.ask.hello(2)).toBe("x 2");
  });
});

test("a child that cannot start is the supervisor's spawn error; those before it are stopped", async () => {
  refusing.add("c");
  const error = await failure(tree(abc()));
  expect(error.code).toBe("SPAWN_FAILED");
  expect(error.message).toContain("c refuses");
  expect(said).toEqual(["+a", "+b", "-b", "-a"]);
});

test("a child that does not stop within its shutdown time is killed", async () => {
  class Stubborn extends Actor {
    override async onStop() {
      await new Promise(() => {});
    }
  }
  const { supervisor } = await tree([announcer("a"), child(Stubborn, [], { shutdownMs: 200 })]);
  const stopped = node.stop(supervisor);
  await world.clock.advance(199);
  expect(said).toEqual(["+a"]);
  await world.clock.advance(1);
  await stopped;
  expect(said).toEqual(["+a", "-a"]);
});

test("children are added and stopped by id", async () => {
  const { supervisor } = await tree(abc());
  const d = (await supervisor.ask.startChild(announcer("d"))) as Ref<Announcer>;
  expect(await d.ask.hello(1)).toBe("d 1");
  expect((await failure(supervisor.ask.startChild(announcer("d")))).code).toBe("NAME_TAKEN");
  expect(await heard(() => supervisor.ask.stopChild("b"))).toEqual(["-b"]);
  expect((await supervisor.ask.children()).map((c) => c.id)).toEqual(["a", "c", "d"]);
  expect((await failure(supervisor.ask.child("b"))).message).toContain('"b"');
});
