/** Children that come and go while their supervisor runs. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { child } from "../../runtime/child_spec.ts";
import { DynamicSupervisor } from "../../runtime/dynamic_supervisor.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { Supervisor } from "../../runtime/supervisor.ts";
import * as announcers from "./announcers.ts";
import { Announcer, abc, announcer, refusing, silence } from "./announcers.ts";
import { failure, World } from "./world.ts";

const world = new World();
let node: NodeRuntime;
beforeEach(() => {
  silence();
  node = world.node("a");
});
afterEach(() => world.close());

const heard = (act: () => unknown) => announcers.heard(world, act);

test("a child is added after the others and stops before them", async () => {
  const { supervisor } = await announcers.tree(node, abc());
  const d = (await supervisor.ask.startChild(announcer("d"))) as Ref<Announcer>;
  expect(await d.ask.hello(1)).toBe("d 1");
  expect(await heard(() => d.tell.crash())).toEqual(["-d", "+d"]);
  expect((await failure(supervisor.ask.startChild(announcer("d")))).code).toBe("NAME_TAKEN");
  expect(await heard(() => node.stop(supervisor))).toEqual(["-d", "-c", "-b", "-a"]);
});

test("one that does not start is the caller's error and leaves no trace", async () => {
  const { supervisor } = await announcers.tree(node, abc());
  refusing.add("d");
  const error = await failure(supervisor.ask.startChild(announcer("d", { name: "dora" })));
  expect(error).toMatchObject({ code: "SPAWN_FAILED", cause: { message: "d refuses" } });
  refusing.clear();
  expect((await supervisor.ask.children()).map((c) => c.id)).toEqual(["a", "b", "c"]);
  await supervisor.ask.startChild(announcer("d", { name: "dora" }));
});

test("a stopped child keeps its place, refuses what waits, and is started there again", async () => {
  const { supervisor, refs } = await announcers.tree(node, abc({ b: { name: "bea" } }));
  expect(await heard(() => supervisor.ask.stopChild("b"))).toEqual(["-b"]);
  expect((await failure(refs.b!.ask.hello(1))).code).toBe("ACTOR_DOWN");
  expect((await failure(supervisor.ask.child("b"))).message).toContain("restartChild");
  expect(await node.lookup(node.id, "bea")).toBeNull();
  expect((await supervisor.ask.children())[1]).toEqual({ id: "b", ref: null, running: false, restarts: 0 });
  const again = (await supervisor.ask.restartChild("b")) as Ref<Announcer>;
  expect(await again.ask.hello(2)).toBe("b 2");
  expect((await node.lookup(node.id, "bea"))!.key).toBe(again.key);
  expect((await supervisor.ask.children()).map((c) => c.id)).toEqual(["a", "b", "c"]);
  expect(await heard(() => again.tell.crash())).toEqual(["-b", "+b"]);
});

test("so is one that ended of its own accord; a temporary one is forgotten", async () => {
  const { supervisor, refs } = await announcers.tree(
    node,
    abc({ a: { restart: "transient" }, b: { restart: "temporary" } }),
  );
  await heard(() => refs.a!.tell.leave());
  await heard(() => refs.b!.tell.leave());
  expect((await supervisor.ask.children()).map((c) => c.running)).toEqual([false, true]);
  expect(await heard(() => supervisor.ask.restartChild("a"))).toEqual(["+a"]);
  expect((await failure(supervisor.ask.restartChild("b"))).code).toBe("UNKNOWN_CHILD");
});

test("a restart of the whole group starts those too that had ended, as in OTP", async () => {
  const spec = { strategy: "one_for_all" } as const;
  const { refs } = await announcers.tree(node, abc({ b: { restart: "transient" } }), spec);
  expect(await heard(() => refs.b!.tell.leave())).toEqual(["-b"]);
  expect(await heard(() => refs.a!.tell.crash())).toEqual(["-a", "-c", "+a", "+b", "+c"]);
});

test("a restart by hand that fails keeps the place; a running child cannot be restarted or deleted", async () => {
  const { supervisor } = await announcers.tree(node, abc());
  await supervisor.ask.stopChild("b");
  refusing.add("b");
  expect((await failure(supervisor.ask.restartChild("b"))).cause!.message).toBe("b refuses");
  refusing.clear();
  await supervisor.ask.restartChild("b");
  expect((await failure(supervisor.ask.restartChild("b"))).code).toBe("CHILD_RUNNING");
  expect((await failure(supervisor.ask.deleteChild("b"))).code).toBe("CHILD_RUNNING");
  await supervisor.ask.stopChild("b");
  await supervisor.ask.deleteChild("b");
  const unknown = await failure(supervisor.ask.child("b"));
  expect(unknown).toMatchObject({ code: "UNKNOWN_CHILD", message: expect.stringContaining("are a, c") });
});

test("they are counted", async () => {
  const inner = { strategy: "one_for_one", children: [] } as const;
  const { supervisor } = await announcers.tree(node, [...abc(), child(Supervisor, [inner])]);
  await supervisor.ask.stopChild("b");
  expect(await supervisor.ask.countChildren()).toEqual({ specs: 4, active: 3, supervisors: 1, workers: 3 });
});

describe("a dynamic supervisor", () => {
  test("starts any number of its kind, forgets who ends, and stops the rest with itself", async () => {
    const template = child(Announcer, [] as unknown as [string], { id: "worker", restart: "temporary" });
    const pool = (await node.spawn(DynamicSupervisor, [{ template }])) as Ref<DynamicSupervisor<Announcer>>;
    const workers: Ref<Announcer>[] = [];
    for (const id of ["1", "2", "3"]) workers.push(await pool.ask.start(id));
    expect(await workers[1]!.ask.hello(0)).toBe("2 0");
    expect(await heard(() => workers[1]!.tell.crash())).toEqual(["-2"]);
    expect((await pool.ask.children()).map((c) => c.id)).toEqual(["worker-1", "worker-3"]);
    expect(await heard(() => node.stop(pool))).toEqual(["-3", "-1"]);
  });
});
