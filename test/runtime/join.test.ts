/** Connections that are kept, and clusters that form from one address. */

import { afterEach, describe, expect, test } from "bun:test";
import { backoffMs } from "../../runtime/backoff.ts";
import type { LogEntry } from "../../runtime/log.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { NodeOptions } from "../../runtime/node_options.ts";
import { seededRandom } from "../../runtime/random.ts";
import { timesOf } from "../../runtime/times.ts";
import { memory } from "../../runtime/transports/memory.ts";
import { Cables } from "./cables.ts";
import { failure, World } from "./world.ts";

const world = new World();
afterEach(() => world.close());

let seeds = 0;
const node = (name: string, options: Partial<NodeOptions> = {}) =>
  world.node(name, { random: seededRandom(++seeds), ...options });
const names = (at: NodeRuntime) =>
  at
    .peers()
    .map(({ name }) => name)
    .toSorted();
const breakLink = (at: NodeRuntime, to: NodeRuntime) =>
  (at as any).membership.find(to.id).link.fail(new Error("the cable is cut"));

describe("the pauses between attempts", () => {
  test("double up to three times the patience, and between half of it and all of it is chance", () => {
    const times = timesOf(10_000);
    const least = { next: () => 0 } as any;
    const most = { next: () => 1 - 1e-12 } as any;
    const pauses = (random: any) =>
      [0, 1, 2, 6, 7, 1000].map((attempt) => Math.round(backoffMs(attempt, random, times)));
    expect(pauses(most)).toEqual([250, 500, 1000, 16_000, 30_000, 30_000]);
    expect(pauses(least)).toEqual([125, 250, 500, 8000, 15_000, 15_000]);
  });
});

describe("joining", () => {
  test("waits for a node that is not there yet, and finds it", async () => {
    const here = node("here");
    const joining = here.join("memory://seed");
    await world.clock.advance(5000);
    expect(here.peers()).toEqual([]);
    const seed = node("seed");
    await seed.listen("memory://seed");
    await world.clock.advance(30_000);
    expect(await joining.first).toMatchObject({ id: seed.id });
    expect(names(seed)).toEqual(["here"]);
  });

  test("connects again after a loss, and after a restart of the other, as the node it is now", async () => {
    const first = node("seed", { id: "seed" });
    await first.listen("memory://seed");
    const here = node("here");
    await here.join("memory://seed").first;
    breakLink(here, first);
    await world.clock.advance(1000);
    expect(here.peers()).toMatchObject([{ id: "seed", generation: 2 }]);

    await first.close();
    await world.clock.advance(10_000);
    expect(here.peers()).toEqual([]);
    const second = node("seed", { id: "seed" });
    await second.listen("memory://seed");
    await world.clock.advance(30_000);
    expect(here.peers()).toMatchObject([{ id: "seed", incarnation: second.incarnation }]);
  });

  test("tries ever more seldom", async () => {
    const cables = new Cables();
    cables.refuse(true);
    const here = node("here", { transports: [cables.over(memory(world.network))] });
    const joining = here.join("memory://nobody");
    await world.clock.advance(60_000);
    expect(cables.made).toBeGreaterThanOrEqual(8);
    expect(cables.made).toBeLessThanOrEqual(11);
    joining.stop();
    const stopped = await failure(joining.first);
    expect(stopped.message).toContain("stopped before it had connected");
  });

  test("takes the first of several addresses that answers", async () => {
    const seed = node("seed");
    await seed.listen("memory://b");
    const here = node("here");
    expect((await here.join(["memory://a", "memory://b"]).first).id).toBe(seed.id);
  });

  test("once stopped it is left alone: the connection stays and its loss is final", async () => {
    const seed = node("seed");
    await seed.listen("memory://seed");
    const here = node("here");
    const joining = here.join("memory://seed");
    await joining.first;
    joining.stop();
    joining.stop();
    expect(names(here)).toEqual(["seed"]);
    breakLink(here, seed);
    await world.clock.advance(60_000);
    expect(names(here)).toEqual([]);
  });

  test("gives up, and says so, what no second attempt can heal", async () => {
    const log: LogEntry[] = [];
    const seed = node("seed", { token: "right" });
    await seed.listen("memory://seed");
    const here = node("here", { token: "wrong", log: (entry) => log.push(entry) });
    expect((await failure(here.join("memory://seed").first)).code).toBe("WRONG_TOKEN");
    expect(log.at(-1)).toMatchObject({ level: "error", message: "will not try to join memory://seed again" });
  });

  test("leaves no timer behind when the node closes", async () => {
    const here = node("here");
    const joining = here.join("memory://nobody", { mesh: true });
    await world.clock.advance(1000);
    await here.close();
    await world.clock.settle();
    expect(world.clock.pending).toBe(0);
    expect((await failure(joining.first)).code).toBe("CONNECT_FAILED");
  });
});

describe("introductions", () => {
  test("a node tells whom it is connected to, without who asks", async () => {
    const seed = node("seed");
    const address = await seed.listen("memory://seed");
    const [a, b] = [node("a", { machine: "m" }), node("b")];
    await a.listen("memory://a");
    await a.connect(address);
    await b.connect(address);
    expect(await b.discover(seed.id)).toEqual([
      { id: a.id, name: "a", incarnation: a.incarnation, addresses: ["memory://a"], machine: "m" },
    ]);
    expect(await a.discover(seed.id)).toEqual([
      { id: b.id, name: "b", incarnation: b.incarnation, addresses: [] },
    ]);
    expect((await failure(a.discover(b.id))).code).toBe("NODE_LOST");
  });

  test("a cluster forms from one address, with one link between any two", async () => {
    const seed = node("seed");
    await seed.listen("memory://seed");
    const members: NodeRuntime[] = [];
    for (const name of ["a", "b", "c", "d", "e"]) {
      const member = node(name);
      await member.listen(`memory://${name}`);
      member.join("memory://seed", { mesh: true });
      members.push(member);
    }
    const guest = node("guest"); // listens nowhere
    guest.join("memory://seed", { mesh: true });
    await world.clock.advance(2000);
    const all = ["a", "b", "c", "d", "e", "guest", "seed"];
    for (const member of [...members, guest, seed]) {
      expect(names(member)).toEqual(all.filter((name) => name !== member.name));
    }
    for (const member of members) for (const peer of member.peers()) expect(peer.generation).toBe(1);
  });

  test("a link inside the mesh that breaks is made again; a member that is gone is forgotten", async () => {
    const seed = node("seed");
    await seed.listen("memory://seed");
    const [a, b] = [node("a"), node("b")];
    for (const member of [a, b]) {
      await member.listen(`memory://${member.name}`);
      member.join("memory://seed", { mesh: true });
    }
    await world.clock.advance(1000);
    breakLink(a, b);
    await world.clock.settle();
    expect(names(a)).toEqual(["seed"]);
    await world.clock.advance(5000);
    expect(names(a)).toEqual(["b", "seed"]);

    const cables = new Cables();
    const c = node("c", { transports: [cables.over(memory(world.network))] });
    c.join("memory://seed", { mesh: true });
    await world.clock.advance(1000);
    expect(names(c)).toEqual(["a", "b", "seed"]);
    const made = cables.made;
    await b.close();
    await world.clock.advance(120_000);
    expect(names(c)).toEqual(["a", "seed"]);
    expect(cables.made).toBe(made);
  });
});
