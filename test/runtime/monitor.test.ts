/** A monitor fires exactly once for the life it was placed in, wherever the actor lives. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Actor } from "../../runtime/actor.ts";
import { child } from "../../runtime/child_spec.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { Supervisor } from "../../runtime/supervisor.ts";
import { cut, World } from "./world.ts";

class Target extends Actor {
  async crash() {
    throw new Error("broken");
  }
  async hello() {
    return "hello";
  }
}

const world = new World();
let downs: string[];
beforeEach(() => {
  downs = [];
});
afterEach(() => world.close());

const settle = async () => {
  for (let i = 0; i < 3; i++) await world.clock.settle();
};

const places: [string, () => Promise<[NodeRuntime, NodeRuntime]>][] = [
  [
    "on one node",
    async () => {
      const node = world.node("a");
      return [node, node];
    },
  ],
  [
    "from another node",
    async () => {
      const [here, there] = [world.node("here"), world.node("there")];
      await here.connect(await there.listen("memory://there"));
      return [here, there];
    },
  ],
];

for (const [where, arrange] of places) {
  describe(where, () => {
    let here: NodeRuntime;
    let there: NodeRuntime;
    const watch = (ref: Ref<any>, label = "") =>
      here.monitor(ref, ({ reason }) => downs.push(`${label}${reason.code}`));
    /** A supervised target, as `here` knows it. */
    const target = async (restart: "permanent" | "temporary" = "permanent"): Promise<Ref<Target>> => {
      const spec = {
        strategy: "one_for_one",
        children: [child(Target, [], { name: "target", restart })],
      } as const;
      await there.spawn(Supervisor, [{ ...spec, intensity: 10 }]);
      return (await here.lookup<Target>(there.id, "target"))!;
    };
    beforeEach(async () => {
      [here, there] = await arrange();
    });

    test("once for each life it was placed in", async () => {
      const ref = await target();
      watch(ref, "first ");
      watch(ref, "second ");
      ref.tell.crash();
      await settle();
      expect(downs).toEqual(["first error", "second error"]);
      ref.tell.crash();
      await settle();
      expect(downs).toHaveLength(2);
      watch(ref, "third ");
      await here.kill(ref);
      await settle();
      expect(downs).toEqual(["first error", "second error", "third killed"]);
      expect(await ref.ask.hello()).toBe("hello");
    });

    test("at once for one that is gone", async () => {
      const ref = await target("temporary");
      ref.tell.crash();
      await settle();
      watch(ref);
      await settle();
      expect(downs).toEqual(["noactor"]);
    });

    test("not at all once it is taken back, even when the end is under way", async () => {
      const [a, b] = [
        await there.spawn(Target, [], { name: "a" }),
        await there.spawn(Target, [], { name: "b" }),
      ];
      const [seenA, seenB] = [(await here.lookup(there.id, "a"))!, (await here.lookup(there.id, "b"))!];
      const [first, second] = [watch(seenA, "a "), watch(seenB, "b ")];
      await settle();
      first.cancel();
      first.cancel();
      await there.stop(a);
      const stopped = there.stop(b);
      second.cancel();
      await stopped;
      await settle();
      expect(downs.filter((down) => down.startsWith("a"))).toEqual([]);
      if (here !== there) expect(downs).toEqual([]);
    });
  });
}

describe("the loss of a node", () => {
  test("is one end, whatever becomes of the actor; a monitor placed after the return is another", async () => {
    const [here, there] = [world.node("here"), world.node("there")];
    const address = await there.listen("memory://there");
    await here.connect(address);
    const own = await there.spawn(Target, [], { name: "target" });
    const ref = (await here.lookup<Target>(there.id, "target"))!;
    const watch = () => here.monitor(ref, ({ reason }) => downs.push(`${reason.code} ${reason.node ?? ""}`));
    watch();
    await settle();
    cut(here, there);
    await settle();
    expect(downs).toEqual([`nodelost ${there.id}`]);
    await here.connect(address);
    await there.kill(own);
    await settle();
    expect(downs).toHaveLength(1);
    watch();
    await settle();
    expect(downs).toEqual([`nodelost ${there.id}`, "noactor "]);
  });
});

test("one that is taken back after the end and before it is told of does not fire", async () => {
  class Watcher extends Actor {
    changeItsMind(ref: Ref<any>) {
      const monitor = this.context.monitor(ref);
      void this.context.node.kill(ref);
      this.context.demonitor(monitor);
    }
    override onDown() {
      downs.push("told");
    }
  }
  const node = world.node("a");
  const watcher = await node.spawn(Watcher, []);
  await watcher.ask.changeItsMind(await node.spawn(Target, []));
  await settle();
  expect(downs).toEqual([]);
});

for (const [where, arrange] of places) {
  test(`one may take back another that waits for the same end, ${where}`, async () => {
    const [here, there] = await arrange();
    const ref = await there.spawn(Target, [], { name: "target" });
    const seen = (await here.lookup<Target>(there.id, "target"))!;
    here.monitor(seen, () => {
      downs.push("first");
      second.cancel();
    });
    const second = here.monitor(seen, () => downs.push("second"));
    await settle();
    if (here === there) await there.kill(ref);
    else cut(here, there);
    await settle();
    expect(downs).toEqual(["first"]);
  });
}

test("a peer that gives two monitors one number loses its link, and what it watched is let go", async () => {
  const [here, there] = [world.node("here"), world.node("there")];
  await here.connect(await there.listen("memory://there"));
  const ref = await there.spawn(Target, [], { name: "target" });
  const target = (await here.lookup<Target>(there.id, "target")) as any;
  const peer = (here as any).membership.find(there.id);
  const lost: string[] = [];
  there.onPeer((event) => event.type === "left" && lost.push((event.error as { code?: string }).code ?? ""));
  for (let i = 0; i < 2; i++) peer.send({ type: "monitor", id: 1000, to: target.address.actor }, "");
  await settle();
  expect(lost).toEqual(["MALFORMED_HEADER"]);
  expect(await ref.ask.hello()).toBe("hello");
});
