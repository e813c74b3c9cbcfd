/** Names: one actor each, found from anywhere, kept through restarts, and so is what waits for the actor. */

import { afterEach, describe, expect, test } from "bun:test";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { type Announcer, abc, announcer, gates, said, silence, tree } from "./announcers.ts";
import { failure, World } from "./world.ts";

const world = new World();
afterEach(() => {
  silence();
  return world.close();
});

const names = { a: { name: "anna" }, b: { name: "bea" } };

const senders: [string, () => Promise<[NodeRuntime, NodeRuntime]>][] = [
  [
    "on its own node",
    async () => {
      const node = world.node("home");
      return [node, node];
    },
  ],
  [
    "from another node",
    async () => {
      const [home, away] = [world.node("home"), world.node("away")];
      await away.connect(await home.listen("memory://home"));
      return [home, away];
    },
  ],
];

for (const [where, arrange] of senders) {
  describe(where, () => {
    test("names are found and listed; a free one is nobody's", async () => {
      const [home, from] = await arrange();
      const { supervisor, refs } = await tree(home, abc(names));
      expect((await from.lookup<Announcer>(home.id, "anna"))!.key).toBe(refs.a!.key);
      expect(await from.lookup(home.id, "carl")).toBeNull();
      expect(await from.names(home.id)).toEqual(["top", "anna", "bea"]);
      await home.stop(supervisor);
      expect(await from.names(home.id)).toEqual([]);
      expect(await from.lookup(home.id, "anna")).toBeNull();
    });

    test("ref, name and queued messages survive a restart, the message that caused it does not", async () => {
      const [home, from] = await arrange();
      await tree(home, [announcer("a", { name: "anna" })]);
      const ref = (await from.lookup<Announcer>(home.id, "anna"))!;
      const gate = Promise.withResolvers<void>();
      gates.set("a", gate.promise);
      ref.tell.crash();
      const before = [1, 2].map((n) => ref.ask.hello(n));
      while (!said.includes("-a")) await world.clock.settle();
      // It is down or starting now: what is sent waits, and the name is kept.
      const during = ref.ask.hello(3);
      expect((await from.lookup<Announcer>(home.id, "anna"))!.key).toBe(ref.key);
      gate.resolve();
      expect(await Promise.all([...before, during])).toEqual(["a 1", "a 2", "a 3"]);
      expect(said).toEqual(["+a", "-a", "+a"]);
    });

    test("what waits for one that is given up is refused with the first real error", async () => {
      const [home, from] = await arrange();
      await tree(home, [announcer("a", { name: "anna" })], { intensity: 0 });
      const ref = (await from.lookup<Announcer>(home.id, "anna")) as Ref<Announcer>;
      ref.tell.crash();
      const error = await failure(ref.ask.hello(1));
      expect(error).toMatchObject({ code: "ACTOR_DOWN", cause: { message: "a is broken" } });
    });
  });
}

test("a name that is taken is an error that names it, and is free when its actor is gone for good", async () => {
  const node = world.node("home");
  const { supervisor } = await tree(node, [announcer("a", { name: "anna" })]);
  const error = await failure(supervisor.ask.startChild(announcer("b", { name: "anna" })));
  expect(error).toMatchObject({ code: "NAME_TAKEN", message: expect.stringContaining('"anna"') });
  await supervisor.ask.stopChild("a");
  await supervisor.ask.startChild(announcer("b", { name: "anna" }));
});
