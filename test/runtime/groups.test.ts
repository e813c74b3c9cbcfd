/** Groups: who is a member where, through ends, losses and new connections; and that there are no ghosts. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Actor } from "../../runtime/actor.ts";
import { child } from "../../runtime/child_spec.ts";
import type { GroupEvent } from "../../runtime/groups.ts";
import { narrow } from "../../runtime/narrow.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { Supervisor } from "../../runtime/supervisor.ts";
import { cut, World } from "./world.ts";

class Worker extends Actor {
  readonly id: string;
  constructor(id: string, group?: string) {
    super();
    this.id = id;
    this.group = group;
  }
  private readonly group: string | undefined;
  override onStart() {
    if (this.group) this.context.node.groups.join(this.group, this.context.self);
  }
  async who() {
    return this.id;
  }
  async crash() {
    throw new Error(`${this.id} is broken`);
  }
}

const world = new World();
afterEach(() => world.close());

/** The ids of a group's members as a node sees them, in alphabetical order. */
async function seen(node: NodeRuntime, group = "workers"): Promise<string> {
  await world.clock.settle();
  await world.clock.settle();
  const ids = await Promise.all(node.groups.members<Worker>(group).map((ref) => ref.ask.who()));
  return ids.toSorted().join(" ");
}

const worker = (node: NodeRuntime, id: string, group?: string) => node.spawn(Worker, [id, group]);

describe("on one node", () => {
  let node: NodeRuntime;
  let events: GroupEvent[];
  beforeEach(() => {
    node = world.node("a");
    events = [];
    node.groups.subscribe((event) => events.push(event));
  });

  test("actors join, once each, and leave; an empty group is none", async () => {
    const [a, b] = [await worker(node, "a"), await worker(node, "b")];
    for (const ref of [a, b, a]) node.groups.join("workers", ref);
    node.groups.join("night shift", b);
    expect(await seen(node)).toBe("a b");
    expect(node.groups.names()).toEqual(["workers", "night shift"]);
    node.groups.leave("workers", a);
    node.groups.leave("workers", a);
    node.groups.leave("night shift", b);
    expect(await seen(node)).toBe("b");
    expect(node.groups.names()).toEqual(["workers"]);
    expect(events.map(({ type, group, ref }) => `${type} ${group} ${ref}`)).toEqual([
      "joined workers Worker#1",
      "joined workers Worker#2",
      "joined night shift Worker#2",
      "left workers Worker#1",
      "left night shift Worker#2",
    ]);
  });

  test("who ends has left, with the reason; one who is gone already does not stay", async () => {
    const [a, b, c] = [await worker(node, "a"), await worker(node, "b"), await worker(node, "c")];
    await node.stop(c);
    for (const ref of [a, b, c]) node.groups.join("workers", ref);
    a.tell.crash();
    await node.kill(b);
    expect(await seen(node)).toBe("");
    const left = events.flatMap((e) => (e.type === "left" ? [`${e.ref} ${e.reason?.code}`] : []));
    expect(left.toSorted()).toEqual(["Worker#1 error", "Worker#2 killed", "Worker#3 noactor"]);
  });

  test("a restarted actor is a member again when it joins in onStart", async () => {
    const spec = { strategy: "one_for_one", children: [child(Worker, ["a", "workers"])] } as const;
    await node.spawn(Supervisor, [spec]);
    expect(await seen(node)).toBe("a");
    node.groups.members<Worker>("workers")[0]!.tell.crash();
    expect(await seen(node)).toBe("a");
    expect(events.map((e) => e.type)).toEqual(["joined", "left", "joined"]);
  });

  test("picks any of the members, and none of an empty group", async () => {
    for (const id of ["a", "b", "c"]) await worker(node, id, "workers");
    const picked = new Set<string>();
    for (let i = 0; i < 200; i++) picked.add(await node.groups.pick<Worker>("workers")!.ask.who());
    expect([...picked].toSorted()).toEqual(["a", "b", "c"]);
    expect(node.groups.pick("nobody")).toBeNull();
  });
});

describe("over nodes", () => {
  let a: NodeRuntime;
  let b: NodeRuntime;
  let c: NodeRuntime;
  const connect = async (from: NodeRuntime, to: NodeRuntime) => {
    await from.connect(to.addresses[0]!);
    await world.clock.settle();
  };
  const part = async (from: NodeRuntime, to: NodeRuntime) => {
    const parted = new Promise<void>((resolve) => {
      to.onPeer((event) => event.type === "left" && event.peer.id === from.id && resolve());
    });
    cut(from, to);
    await parted;
  };
  beforeEach(async () => {
    [a, b, c] = ["a", "b", "c"].map((name) => world.node(name)) as [NodeRuntime, NodeRuntime, NodeRuntime];
    for (const node of [a, b, c]) await node.listen("memory://");
  });

  test("members from before and after a connection are seen on all sides, and can be asked", async () => {
    await worker(a, "a1", "workers");
    await worker(b, "b1", "workers");
    await connect(a, b);
    const b2 = await worker(b, "b2", "workers");
    await connect(c, a);
    await connect(c, b);
    await worker(c, "c1", "workers");
    for (const node of [a, b, c]) expect(await seen(node)).toBe("a1 b1 b2 c1");
    expect(a.groups.localMembers("workers")).toHaveLength(1);
    const reasons: unknown[] = [];
    for (const node of [a, c]) node.groups.subscribe((e) => reasons.push(e.type === "left" && e.reason));
    b2.tell.crash();
    await world.clock.settle();
    for (const node of [a, b, c]) expect(await seen(node)).toBe("a1 b1 c1");
    const broken = { code: "error", message: expect.stringContaining("b2 is broken") };
    expect(reasons).toEqual([broken, broken]);
  });

  test("hundreds of members are told of in several messages", async () => {
    for (let i = 0; i < 600; i++) a.groups.join(`group ${i % 3}`, await worker(a, `a${i}`));
    await connect(a, b);
    await world.clock.settle();
    for (const group of a.groups.names()) expect(b.groups.members(group)).toHaveLength(200);
  });

  test("a partition ends both sides' view of the other at once; a new connection brings what is true then", async () => {
    const stays = await worker(a, "stays", "workers");
    const ends = await worker(b, "ends", "workers");
    await worker(b, "leaves", "workers");
    await connect(a, b);
    const events: GroupEvent[] = [];
    a.groups.subscribe((event) => events.push(event));
    await part(a, b);
    expect(await seen(a)).toBe("stays");
    expect(await seen(b)).toBe("ends leaves");
    expect(events.map((e) => e.type === "left" && e.reason?.code)).toEqual(["nodelost", "nodelost"]);
    await b.stop(ends);
    await worker(b, "new", "workers");
    await connect(b, a);
    for (const node of [a, b]) expect(await seen(node)).toBe("leaves new stays");
    for (let i = 0; i < 3; i++) {
      await part(a, b);
      await connect(a, b);
    }
    for (const node of [a, b]) expect(await seen(node)).toBe("leaves new stays");
    await a.stop(stays);
    expect(await seen(b)).toBe("leaves new");
  });

  test("a node that closes or starts anew leaves nobody behind", async () => {
    const phone = world.node("phone", { id: "phone" });
    const place = await phone.listen("memory://phone");
    await worker(phone, "old", "workers");
    await a.connect(place);
    expect(await seen(a)).toBe("old");
    await phone.close();
    expect(await seen(a)).toBe("");
    await world.clock.advance(10);
    const anew = world.node("phone", { id: "phone" });
    await anew.listen(place);
    await worker(anew, "new", "workers");
    await a.connect(place);
    expect(await seen(a)).toBe("new");
  });

  test("nothing is passed on for a third node", async () => {
    await worker(a, "a1", "workers");
    await connect(a, b);
    await connect(b, c);
    expect(await seen(b)).toBe("a1");
    expect(await seen(c)).toBe("");
  });

  test("an actor joins on its own node; a narrowed ref is all that others see", async () => {
    await connect(a, b);
    const one = await worker(a, "a1");
    a.groups.join("workers", narrow(one, ["who"]));
    expect(await seen(b)).toBe("a1");
    const [ref] = b.groups.members("workers") as [Ref<any>];
    expect("crash" in ref.tell).toBe(false);
    expect(() => b.groups.join("others", ref)).toThrow("on its own node");
    expect(() => b.groups.leave("workers", ref)).toThrow("on its own node");
  });
});
