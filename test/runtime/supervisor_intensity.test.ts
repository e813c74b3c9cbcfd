/** How often children are started again before a supervisor, and at last the tree, gives up. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { type ChildSpec, child, type SupervisorSpec } from "../../runtime/child_spec.ts";
import { RestartWindow } from "../../runtime/intensity.ts";
import type { LogEntry } from "../../runtime/log.ts";
import type { Down } from "../../runtime/monitor.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { Supervisor } from "../../runtime/supervisor.ts";
import * as announcers from "./announcers.ts";
import { type Announcer, abc, announcer, refusing, said, silence } from "./announcers.ts";
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

test("a window counts what lies within its period", () => {
  const window = new RestartWindow({ intensity: 2, periodMs: 100 });
  expect([0, 50, 99, 150, 151, 400].map((at) => window.count(at))).toEqual([1, 2, 3, 2, 3, 1]);
});

describe("of a child", () => {
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

  test("each child has its own, by default its supervisor's", async () => {
    const patient = { c: { intensity: { intensity: 3, periodMs: 5000 } } };
    const { supervisor, refs } = await tree(abc(patient), { intensity: 1 });
    for (const id of ["a", "b", "c", "c", "c"]) {
      expect(await heard(() => refs[id]!.tell.crash())).toEqual([`-${id}`, `+${id}`]);
    }
    expect((await supervisor.ask.children()).map((c) => c.restarts)).toEqual([1, 1, 3]);
    expect(await heard(() => refs.a!.tell.crash())).toEqual(["-a", "-c", "-b"]);
  });

  test("without one it is OTP's: once within five seconds", async () => {
    const supervisor = await node.spawn(Supervisor, [
      { strategy: "one_for_one", children: [announcer("a")] },
    ]);
    const a = (await supervisor.ask.child("a")) as Ref<Announcer>;
    expect(await heard(() => a.tell.crash())).toEqual(["-a", "+a"]);
    expect(await heard(() => a.tell.crash())).toEqual(["-a"]);
  });
});

/** A supervisor within a supervisor …, with one announcer at the bottom. */
function nested(depth: number, bottom: ChildSpec, spec: Partial<SupervisorSpec> = {}): ChildSpec {
  if (depth === 0) return bottom;
  const inner: SupervisorSpec = {
    strategy: "one_for_one",
    intensity: 3,
    periodMs: 5000,
    children: [nested(depth - 1, bottom, spec)],
    ...spec,
  };
  return child(Supervisor, [inner], { id: `level-${depth}` });
}

async function bottom(supervisor: Ref<Supervisor>): Promise<Ref<Announcer>> {
  for (let at = supervisor; ; ) {
    const { id, ref } = (await at.ask.children())[0]!;
    if (!id.startsWith("level")) return ref!;
    at = ref!;
  }
}

describe("of a tree", () => {
  test("a supervisor that gives up is started again by its own", async () => {
    const { supervisor } = await tree([nested(1, announcer("x"), { intensity: 0 })]);
    expect(await heard(async () => (await bottom(supervisor)).tell.crash())).toEqual(["-x", "+x"]);
    expect(await (await bottom(supervisor)).ask.hello(2)).toBe("x 2");
  });

  test("a storm at the bottom of a deep tree ends in as many restarts as its cap allows", async () => {
    const cap = { intensity: 10, periodMs: 60_000 };
    const { supervisor } = await tree([nested(3, announcer("x")), announcer("a")], { cap });
    const downs: Down[] = [];
    node.monitor(supervisor, (down) => downs.push(down));
    said.length = 0;
    while (downs.length === 0) {
      const x = await bottom(supervisor).catch(() => undefined);
      x?.tell.crash();
      await world.clock.settle();
    }
    expect(said.filter((line) => line === "+x").length).toBeLessThanOrEqual(10);
    expect(log.filter(({ message }) => message.includes(" restarts "))).toHaveLength(10);
    expect(said.at(-1)).toBe("-a");
    const { message, error } = downs[0]!.reason;
    expect(message).toContain("after 10 restarts of its tree within 60000 ms");
    expect(error).toMatchObject({ code: "TOO_MANY_RESTARTS", cause: { message: "x is broken" } });
  });

  test("a child that never starts again is tried no more often than that", async () => {
    const { supervisor } = await tree([nested(3, announcer("x"))], {
      cap: { intensity: 10, periodMs: 60_000 },
    });
    const x = await bottom(supervisor);
    refusing.add("x");
    await heard(() => x.tell.crash());
    expect(log.filter(({ message }) => message.includes(" restarts "))).toHaveLength(10);
    expect((await failure(supervisor.ask.children())).code).toBe("ACTOR_DOWN");
  });

  test("restarts further apart than the cap's period do not add up", async () => {
    const { supervisor } = await tree([nested(2, announcer("x"))], { cap: { intensity: 1, periodMs: 1000 } });
    for (let i = 0; i < 5; i++) {
      expect(await heard(async () => (await bottom(supervisor)).tell.crash())).toEqual(["-x", "+x"]);
      await world.clock.advance(6000);
    }
  });

  test("a nested supervisor's own cap ends its subtree only", async () => {
    const own = { intensity: 5, cap: { intensity: 1, periodMs: 60_000 } };
    const { supervisor } = await tree([nested(1, announcer("x"), own), announcer("a")]);
    const crash = () => heard(async () => (await bottom(supervisor)).tell.crash());
    expect(await crash()).toEqual(["-x", "+x"]);
    expect(await crash()).toEqual(["-x", "+x"]); // the subtree as a whole, by its supervisor
    expect((await supervisor.ask.children()).map((c) => c.restarts)).toEqual([1, 0]);
  });
});
