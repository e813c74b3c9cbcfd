/** A protocol: children announce themselves, one is killed, and exactly those who should announce themselves again do. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Actor } from "../../runtime/actor.ts";
import { type ChildSpec, child, type SupervisorSpec } from "../../runtime/child_spec.ts";
import type { LogEntry } from "../../runtime/log.ts";
import type { Down } from "../../runtime/monitor.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { Supervisor } from "../../runtime/supervisor.ts";
import * as announcers from "./announcers.ts";
import { Announcer, abc, announcer, gates, refuseOnce, refusing, said, silence } from "./announcers.ts";
import { failure, World } from "./world.ts";

const world = new World();
let node: NodeRuntime;
let log: LogEntry[];
beforeEach(() => {
  silence();
  log = [];
  node = world.node("a", { log: (entry) => log.push(entry) });
});
afterEach(() => world.close());

const tree = (children: readonly ChildSpec[], spec?: Partial<SupervisorSpec>) =>
  announcers.tree(node, children, spec);
const heard = (act: () => unknown) => announcers.heard(world, act);

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

test("a monitor placed on a child between its last life and its burial fires", async () => {
  class Slow extends Actor {
    override onStop = () => this.context.clock.sleep(100);
  }
  const { refs } = await tree([announcer("a"), child(Slow, [])], { intensity: 0 });
  refs.a!.tell.crash();
  await world.clock.advance(50); // The supervisor has given up and waits for its slow child.
  const downs: Down[] = [];
  node.monitor(refs.a!, (down) => downs.push(down));
  await world.clock.advance(100);
  expect(downs.map(({ reason }) => reason.code)).toEqual(["noactor"]);
});

test("a child that cannot start is the supervisor's spawn error; those before it are stopped", async () => {
  refusing.add("c");
  const error = await failure(tree(abc()));
  expect(error.code).toBe("SPAWN_FAILED");
  expect(error).toMatchObject({
    message: expect.stringContaining("c refuses"),
    cause: { message: "c refuses" },
  });
  expect(said).toEqual(["+a", "+b", "-b", "-a"]);
});

test("however deep the tree, the spawn error's cause is the real error", async () => {
  refusing.add("x");
  const inner: SupervisorSpec = { strategy: "one_for_one", children: [announcer("y"), announcer("x")] };
  const error = await failure(tree([announcer("a"), child(Supervisor, [inner])]));
  expect(error).toMatchObject({ code: "SPAWN_FAILED", cause: { message: "x refuses" } });
  expect(said).toEqual(["+a", "+y", "-y", "-a"]);
});

class Stubborn extends Announcer {
  override async onStop() {
    await new Promise(() => {});
  }
}

describe("stopping", () => {
  test("a child that does not stop within its shutdown time is killed", async () => {
    const stubborn = child(Stubborn, ["s"], { shutdownMs: 200 });
    const { supervisor } = await tree([announcer("a"), stubborn, announcer("b")]);
    said.length = 0;
    const stopped = node.stop(supervisor);
    await world.clock.advance(199);
    expect(said).toEqual(["-b"]);
    await world.clock.advance(1);
    await stopped;
    expect(said).toEqual(["-b", "-a"]);
  });

  test("a shutdown time of 0 kills at once", async () => {
    const { supervisor } = await tree([announcer("a"), child(Stubborn, ["s"], { shutdownMs: 0 })]);
    expect(await heard(() => node.stop(supervisor))).toEqual(["-a"]);
  });

  test("the supervisor waits for its children as long as each of them may take", async () => {
    const slow = ["1", "2", "3"].map((id) => child(Stubborn, [id], { id, shutdownMs: 4000 }));
    const { supervisor } = await tree([announcer("a"), ...slow]);
    said.length = 0;
    const stopped = node.stop(supervisor);
    await world.clock.advance(11_999);
    expect(said).toEqual([]);
    await world.clock.advance(1);
    await stopped;
    expect(said).toEqual(["-a"]);
  });

  test("an onStop that fails is logged and keeps nobody else from stopping", async () => {
    class Clumsy extends Announcer {
      override async onStop() {
        throw new Error("dropped it");
      }
    }
    const { supervisor } = await tree([announcer("a"), child(Clumsy, ["clumsy"]), announcer("b")]);
    expect(await heard(() => node.stop(supervisor))).toEqual(["-b", "-a"]);
    expect(log.filter((entry) => entry.error?.message === "dropped it")).toHaveLength(1);
  });

  test("an onStop that fails during a restart does not keep the child from its next life", async () => {
    class Clumsy extends Announcer {
      override async onStop() {
        throw new Error("dropped it");
      }
    }
    const { refs } = await tree([announcer("a"), child(Clumsy, ["b"], { id: "b" })], {
      strategy: "one_for_all",
    });
    expect(await heard(() => refs.a!.tell.crash())).toEqual(["-a", "+a", "+b"]);
  });

  test("who ends while the supervisor stops is not started again", async () => {
    const { supervisor, refs } = await tree([announcer("a"), child(Stubborn, ["s"], { shutdownMs: 200 })]);
    said.length = 0;
    const stopped = node.stop(supervisor);
    await world.clock.settle();
    await node.kill(refs.a!);
    await world.clock.advance(200);
    await stopped;
    expect(said).toEqual([]);
  });

  test("a killed supervisor takes its children and theirs with it, at once, and nobody starts again", async () => {
    const inner: SupervisorSpec = {
      strategy: "one_for_one",
      children: [announcer("x"), child(Stubborn, ["s"])],
    };
    const { supervisor, refs } = await tree([announcer("a"), child(Supervisor, [inner], { id: "inner" })]);
    const x = await (refs.inner as unknown as Ref<Supervisor>).ask.child("x");
    const downs: string[] = [];
    for (const ref of [refs.a!, x]) node.monitor(ref, (down) => downs.push(down.reason.code));
    expect(await heard(() => node.kill(supervisor))).toEqual([]);
    expect(downs.toSorted()).toEqual(["killed", "killed"]);
    expect((await failure(x.ask.hello(1))).code).toBe("ACTOR_DOWN");
  });

  test("a supervisor killed during a restart leaves nobody behind, not even who was just starting", async () => {
    const { supervisor, refs } = await tree(abc(), { strategy: "one_for_all" });
    const gate = Promise.withResolvers<void>();
    gates.set("b", gate.promise);
    await heard(() => refs.a!.tell.crash());
    expect(said).toEqual(["-a", "-c", "-b", "+a"]);
    await node.kill(supervisor);
    const restarts = log.length;
    expect(await heard(() => gate.resolve())).toEqual(["+b"]); // what ran on has no effect:
    for (const ref of Object.values(refs)) expect((await failure(ref.ask.hello(1))).code).toBe("ACTOR_DOWN");
    expect(log.slice(restarts).filter((entry) => entry.message.includes("restarts"))).toEqual([]);
  });

  test("a supervisor stopped during a restart stops who is starting and ends", async () => {
    const { supervisor, refs } = await tree(abc({ b: { shutdownMs: 300 } }), { strategy: "one_for_all" });
    gates.set("b", new Promise(() => {}));
    await heard(() => refs.a!.tell.crash());
    said.length = 0;
    const stopped = node.stop(supervisor);
    await world.clock.advance(300);
    await stopped;
    expect(said).toEqual(["-a"]);
  });
});

describe("ends at odd moments", () => {
  test("a child that ends while its younger siblings start is started again when all have", async () => {
    const gate = Promise.withResolvers<void>();
    gates.set("b", gate.promise);
    class Brief extends Announcer {
      static lives = 0;
      override async onStart() {
        await super.onStart();
        if (Brief.lives++ === 0) this.context.self.tell.crash();
      }
    }
    const starting = tree([child(Brief, ["brief"], { id: "brief" }), announcer("b")]);
    await world.clock.settle();
    expect(said).toEqual(["+brief", "-brief"]);
    gate.resolve();
    const { refs } = await starting;
    expect(await refs.brief!.ask.hello(1)).toBe("brief 1");
    expect(said).toEqual(["+brief", "-brief", "+b", "+brief"]);
  });

  test("two that crash at the same moment are each started again once", async () => {
    const { refs } = await tree(abc());
    expect(
      await heard(() => {
        refs.a!.tell.crash();
        refs.c!.tell.crash();
      }),
    ).toEqual(["-a", "-c", "+a", "+c"]);
  });

  test("one_for_all with two that crash at the same moment is one restart", async () => {
    const { refs } = await tree(abc(), { strategy: "one_for_all" });
    const started = await heard(() => {
      refs.a!.tell.crash();
      refs.c!.tell.crash();
    });
    expect(started.filter((line) => line.startsWith("+"))).toEqual(["+a", "+b", "+c"]);
  });

  test("temporary siblings of one_for_all end with the group and stay away", async () => {
    const { supervisor, refs } = await tree(abc({ c: { restart: "temporary" } }), {
      strategy: "one_for_all",
    });
    expect(await heard(() => refs.a!.tell.crash())).toEqual(["-a", "-c", "-b", "+a", "+b"]);
    expect((await supervisor.ask.children()).map((c) => c.id)).toEqual(["a", "b"]);
  });

  test("one_for_all that gets stuck half way stops in reverse who has started, and tries again", async () => {
    const { refs } = await tree(abc(), { strategy: "one_for_all" });
    refuseOnce("c");
    const expected = ["-a", "-c", "-b", "+a", "+b", "-b", "-a", "+a", "+b", "+c"];
    expect(await heard(() => refs.a!.tell.crash())).toEqual(expected);
  });

  test("rest_for_one goes on from the child that did not start", async () => {
    const { refs } = await tree(abc(), { strategy: "rest_for_one", intensity: 2 });
    refuseOnce("b");
    expect(await heard(() => refs.a!.tell.crash())).toEqual(["-a", "-c", "-b", "+a", "+b", "+c"]);
  });
});

test("every restart is logged with the child, the reason and the count", async () => {
  const { refs } = await tree(abc());
  for (let i = 0; i < 2; i++) await heard(() => refs.b!.tell.crash());
  const messages = log.filter(({ level }) => level === "warn").map(({ message }) => message);
  expect(messages).toEqual(
    [1, 2].map(
      (count) =>
        `top (Supervisor#1) restarts b (restart ${count} of at most 3 within 5000 ms): it crashed while handling crash: Error: b is broken`,
    ),
  );
});

describe("significant children", () => {
  const significant = { restart: "transient", significant: true } as const;

  test("any_significant: the supervisor stops when one has ended of its own accord", async () => {
    const spec = { autoShutdown: "any_significant" } as const;
    const { refs } = await tree(abc({ a: significant, b: significant }), spec);
    expect(await heard(() => refs.b!.tell.crash())).toEqual(["-b", "+b"]);
    expect(await heard(() => refs.c!.tell.leave())).toEqual(["-c", "+c"]);
    expect(await heard(() => refs.b!.tell.leave())).toEqual(["-b", "-c", "-a"]);
  });

  test("all_significant: when the last has", async () => {
    const spec = { autoShutdown: "all_significant" } as const;
    const { refs } = await tree(abc({ a: significant, b: significant }), spec);
    expect(await heard(() => refs.a!.tell.leave())).toEqual(["-a"]);
    expect(await heard(() => refs.b!.tell.leave())).toEqual(["-b", "-c"]);
  });

  test("cannot be permanent", async () => {
    const error = await failure(tree([announcer("a", { significant: true })]));
    expect(error.message).toContain("permanent and cannot be significant");
  });
});
