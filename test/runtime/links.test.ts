/** Who is linked fails together, unless it traps exits; each is told once. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Actor } from "../../runtime/actor.ts";
import { child } from "../../runtime/child_spec.ts";
import type { Down } from "../../runtime/monitor.ts";
import { narrow } from "../../runtime/narrow.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { Supervisor } from "../../runtime/supervisor.ts";
import { cut, failure, World } from "./world.ts";

/** What happened, in order: "-a: reason" for an end, "a hears b: reason" for a trapped exit. */
let said: string[];

class Peer extends Actor {
  protected readonly id: string;
  constructor(id: string) {
    super();
    this.id = id;
  }
  override async onStop({ code, error }: Down["reason"]) {
    const cause = error?.cause as Error | undefined;
    said.push(`-${this.id}: ${cause ? `linked, ${cause.message}` : (error?.message ?? code)}`);
  }
  async link(ref: Ref<any>) {
    this.context.link(ref);
  }
  async unlink(ref: Ref<any>) {
    this.context.unlink(ref);
  }
  async crash() {
    throw new Error(`${this.id} is broken`);
  }
  async leave() {
    this.context.stop();
  }
  async hello() {
    return this.id;
  }
  async child(id: string): Promise<Ref<Peer>> {
    return this.context.spawnLinked(Peer, [id]);
  }
  async failingChild() {
    await this.context.spawnLinked(Stillborn, []);
  }
}

class Trapping extends Peer {
  override async onExit({ ref, reason }: Down) {
    said.push(`${this.id} hears ${ref.address.className}: ${reason.error?.message ?? reason.code}`);
  }
}

class Stillborn extends Actor {
  override async onStart() {
    throw new Error("no life");
  }
}

const world = new World();
beforeEach(() => {
  said = [];
});
afterEach(() => world.close());

async function heard(act: () => unknown): Promise<string[]> {
  said.length = 0;
  await act();
  await world.clock.settle();
  await world.clock.settle();
  return said;
}

const places: [string, (here: NodeRuntime) => Promise<NodeRuntime>][] = [
  ["on one node", async (here) => here],
  [
    "between two nodes",
    async (here) => {
      const there = world.node("there", { actors: { Peer, Trapping } });
      await here.connect(await there.listen("memory://"));
      return there;
    },
  ],
];

for (const [where, arrange] of places) {
  describe(where, () => {
    let here: NodeRuntime;
    let there: NodeRuntime;
    let a: Ref<Peer>;
    let b: Ref<Peer>;
    beforeEach(async () => {
      here = world.node("here", { actors: { Peer, Trapping } });
      there = await arrange(here);
      a = await here.spawn(Peer, ["a"]);
      b = await here.spawnOn<Peer>(there.id, "Peer", ["b"]);
    });

    test("a crash of either crashes the other, with the first real error", async () => {
      await a.ask.link(b);
      expect(await heard(() => b.tell.crash())).toEqual(["-b: b is broken", "-a: linked, b is broken"]);
    });

    test("it goes both ways whoever made the link", async () => {
      await a.ask.link(b);
      const down = new Promise<Down>((resolve) => here.monitor(b, resolve));
      expect(await heard(() => a.tell.crash())).toEqual(["-a: a is broken", "-b: linked, a is broken"]);
      expect((await down).reason.error).toMatchObject({
        code: "LINKED_EXIT",
        message: expect.stringMatching(/^the linked Peer#\d+.* is gone: it crashed while handling crash/),
        cause: { message: "a is broken" },
      });
    });

    test("a kill crashes the other; a normal end does not", async () => {
      await a.ask.link(b);
      await heard(() => here.kill(b));
      expect(said).toHaveLength(1);
      expect(said[0]).toMatch(/^-a: the linked Peer#\d+.* is gone: it was killed$/);
      const [c, d] = [await here.spawn(Peer, ["c"]), await here.spawnOn<Peer>(there.id, "Peer", ["d"])];
      await c.ask.link(d);
      expect(await heard(() => d.tell.leave())).toEqual(["-d: normal"]);
      expect(await c.ask.hello()).toBe("c");
    });

    test("who traps exits is told, once, of abnormal and normal ends, and lives on", async () => {
      const t = await here.spawn(Trapping, ["t"]);
      for (const end of ["crash", "leave"] as const) {
        const other = await here.spawnOn<Peer>(there.id, "Peer", ["other"]);
        await t.ask.link(other);
        await other.ask.link(t);
        await t.ask.link(other);
        await heard(() => other.tell[end]());
        expect(said.slice(1)).toEqual([`t hears Peer: ${end === "crash" ? "other is broken" : "normal"}`]);
      }
      expect(await t.ask.hello()).toBe("t");
    });

    test("unlinked, neither is told; unlinking takes both halves away, from either side", async () => {
      await a.ask.link(b);
      await b.ask.unlink(a);
      await world.clock.settle();
      expect(await heard(() => a.tell.crash())).toEqual(["-a: a is broken"]);
      expect(await b.ask.hello()).toBe("b");
      const c = await here.spawn(Peer, ["c"]);
      await c.ask.link(b);
      await c.ask.unlink(b);
      expect(await heard(() => b.tell.crash())).toEqual(["-b: b is broken"]);
      expect(await c.ask.hello()).toBe("c");
    });

    test("a link to one who is gone already is an exit at once", async () => {
      await here.stop(b);
      expect(await heard(() => a.ask.link(b))).toHaveLength(1);
      expect(said[0]).toMatch(/^-a: the linked .* is gone/);
      const t = await here.spawn(Trapping, ["t"]);
      expect(await heard(() => t.ask.link(b))).toEqual(["t hears Peer: noactor"]);
    });

    test("a ring of linked actors ends with each crashing once", async () => {
      const ring = [a, b, await here.spawn(Peer, ["c"]), await here.spawnOn<Peer>(there.id, "Peer", ["d"])];
      for (const [i, each] of ring.entries()) await each.ask.link(ring[(i + 1) % ring.length]!);
      await heard(() => ring[2]!.tell.crash());
      await world.clock.settle();
      expect(said.toSorted()).toEqual([
        "-a: linked, c is broken",
        "-b: linked, c is broken",
        "-c: c is broken",
        "-d: linked, c is broken",
      ]);
    });

    test("a link joins two lives: the next life of a supervised actor has none of it", async () => {
      const children = [child(Peer, ["s"], { id: "s" })];
      const supervisor = await here.spawn(Supervisor, [{ strategy: "one_for_one", children }]);
      const s = (await supervisor.ask.child("s")) as Ref<Peer>;
      const t = await here.spawnOn<Peer>(there.id, "Trapping", ["t"]);
      await s.ask.link(t);
      await heard(() => s.tell.crash());
      expect(said).toEqual(["-s: s is broken", "t hears Peer: s is broken"]);
      expect(await s.ask.hello()).toBe("s");
      expect(await heard(() => t.tell.crash())).toEqual(["-t: t is broken"]);
      expect(await s.ask.hello()).toBe("s");
    });

    test("linking to oneself means nothing, to a narrowed ref it is refused", async () => {
      await a.ask.link(a);
      const narrowed = narrow(a, ["hello"]);
      expect((await failure(b.ask.link(narrowed))).code).toBe("NARROWED");
      expect(await a.ask.hello()).toBe("a");
      expect(await b.ask.hello()).toBe("b");
    });
  });
}

describe("between nodes", () => {
  test("the loss of the connection ends either for the other", async () => {
    const there = world.node("there", { actors: { Peer } });
    const here = world.node("here", { actors: { Peer } });
    let pipeLost = () => {};
    here.onPeer((event) => event.type === "left" && pipeLost());
    await here.connect(await there.listen("memory://"));
    const a = await here.spawn(Peer, ["a"]);
    const b = await here.spawnOn<Peer>(there.id, "Peer", ["b"]);
    await a.ask.link(b);
    const lost = new Promise<void>((resolve) => {
      pipeLost = resolve;
    });
    said.length = 0;
    // Both nodes stay; only what is between them goes.
    cut(here, there);
    await lost;
    await world.clock.settle();
    expect(said.toSorted().map((line) => line.slice(0, 3))).toEqual(["-a:", "-b:"]);
    expect(said.every((line) => line.includes("the cable is cut"))).toBe(true);
  });
});

describe("spawnLinked", () => {
  test("the child's crash is the parent's", async () => {
    const parent = await world.node("a").spawn(Peer, ["parent"]);
    const child = await parent.ask.child("child");
    expect(await heard(() => child.tell.crash())).toEqual([
      "-child: child is broken",
      "-parent: linked, child is broken",
    ]);
  });

  test("so is the crash of one that does not outlive its first message", async () => {
    class Brief extends Actor {
      override onStart() {
        this.context.self.tell.crash();
      }
      crash() {
        throw new Error("too soon");
      }
    }
    class Parent extends Trapping {
      async begin() {
        await this.context.spawnLinked(Brief, []);
      }
    }
    const parent = await world.node("a").spawn(Parent, ["parent"]);
    expect(await heard(() => parent.ask.begin())).toEqual(["parent hears Brief: too soon"]);
  });

  test("a child that fails to start is the spawn's error and nothing else", async () => {
    const parent = await world.node("a").spawn(Peer, ["parent"]);
    expect(await failure(parent.ask.failingChild())).toMatchObject({
      code: "SPAWN_FAILED",
      cause: { message: "no life" },
    });
    expect(await parent.ask.hello()).toBe("parent");
  });
});

test("who unlinks after the other's end and before it is told is not told", async () => {
  class Quick extends Trapping {
    async changeItsMind(ref: Ref<any>, again: boolean) {
      this.context.link(ref);
      void this.context.node.kill(ref);
      this.context.unlink(ref);
      if (again) this.context.link(ref);
    }
  }
  const node = world.node("here");
  const a = await node.spawn(Quick, ["a"]);
  for (const again of [false, true]) {
    const b = await node.spawn(Peer, ["b"]);
    expect(await heard(() => a.ask.changeItsMind(b, again))).toEqual(again ? ["a hears Peer: noactor"] : []);
  }
});
