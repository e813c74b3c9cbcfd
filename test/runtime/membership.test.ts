/** Links, generations and incarnations: which link two nodes use, and what is left when it ends. */

import { afterEach, describe, expect, test } from "bun:test";
import { Actor } from "../../runtime/actor.ts";
import type { LogEntry } from "../../runtime/log.ts";
import type { PeerEvent } from "../../runtime/membership.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { NodeOptions } from "../../runtime/node_options.ts";
import { seededRandom } from "../../runtime/random.ts";
import type { Ref } from "../../runtime/ref.ts";
import { memory } from "../../runtime/transports/memory.ts";
import { shaped } from "../../runtime/transports/shaped.ts";
import { Cables } from "./cables.ts";
import { failure, World } from "./world.ts";

class Diary extends Actor {
  static override readonly reentrant = ["never"];
  private readonly entries: unknown[] = [];
  async note(entry: unknown) {
    this.entries.push(entry);
  }
  async all() {
    return this.entries;
  }
  async never() {
    await new Promise(() => {});
  }
}

const world = new World();
afterEach(() => world.close());

const heartbeat = { intervalMs: 100, patienceMs: 1000 };
const node = (name: string, options: Partial<NodeOptions> = {}) =>
  world.node(name, { actors: { Diary }, heartbeat, ...options });

/** Breaks a node's link to another, as both ends notice. */
function breakLink(at: NodeRuntime, to: string): void {
  (at as any).membership.find(to).link.fail(new Error("the cable is cut"));
}

/** Closes nodes; actors in the middle of something are given up. */
async function ended(...nodes: NodeRuntime[]): Promise<void> {
  const closing = nodes.map((each) => each.close(0));
  await world.clock.advance(500);
  await Promise.all(closing);
}

const generations = (at: NodeRuntime) => at.peers().map(({ name, generation }) => `${name} ${generation}`);

describe("generations", () => {
  test("are counted at both ends alike; what waited on the old one is lost once, and refs go on", async () => {
    const there = node("there");
    const here = node("here");
    await here.listen("memory://here");
    const address = await there.listen("memory://there");
    await here.connect(address);
    const ref = await here.spawnOn<Diary>(there.id, "Diary", []);
    const down: string[] = [];
    here.monitor(ref, ({ reason }) => down.push(reason.code));
    const lost = failure(ref.ask.never());
    await ref.ask.note("first");
    expect([generations(here), generations(there)]).toEqual([["there 1"], ["here 1"]]);

    breakLink(there, here.id);
    expect(await lost).toMatchObject({ code: "NODE_LOST", node: there.id });
    await world.clock.settle();
    expect([down, generations(here), generations(there)]).toEqual([["nodelost"], [], []]);

    ref.tell.note("second");
    expect(await ref.ask.all()).toEqual(["first", "second"]);
    expect([generations(here), generations(there)]).toEqual([["there 2"], ["here 2"]]);
    expect(down).toEqual(["nodelost"]);
  });

  test("when one end has lost the link and the other has not noticed, the new one takes its place", async () => {
    // Whoever of the two decides.
    for (const [first, second] of [
      ["a", "b"],
      ["b", "a"],
    ] as const) {
      const cables = new Cables();
      const options = { transports: [cables.over(memory(world.network))] };
      const still = node(first, { id: first, ...options });
      const moving = node(second, { id: second, ...options });
      const address = await still.listen(`memory://${first}`);
      await moving.connect(address);
      const diary = await still.spawn(Diary, [], { name: "diary" });
      const waiting = failure((await still.spawnOn<Diary>(second, "Diary", [])).ask.never());
      await world.clock.settle();
      const events: PeerEvent[] = [];
      still.onPeer((event) => events.push(event));

      cables.freeze();
      breakLink(moving, first);
      await world.clock.settle();
      expect([generations(still), generations(moving)]).toEqual([[`${second} 1`], []]);

      expect((await moving.connect(address)).generation).toBe(2);
      const found = await moving.lookup<Diary>(first, "diary");
      await found!.ask.note("over the new link");
      expect(await diary.ask.all()).toEqual(["over the new link"]);
      expect(await waiting).toMatchObject({ code: "NODE_LOST", node: second });
      expect(events.map(({ type, peer }) => `${type} ${peer.generation}`)).toEqual(["left 1", "joined 2"]);
      await ended(still, moving);
    }
  });

  test("two that connect to each other in any order and timing agree on one link", async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const random = seededRandom(seed);
      const transport = shaped(memory(world.network), { clock: world.clock, jitterMs: 20, random });
      const two = ["x", "y"].map((name) => node(`${name}${seed}`, { transports: [transport], random }));
      const [x, y] = two as [NodeRuntime, NodeRuntime];
      const addresses = await Promise.all(two.map((each) => each.listen(`memory://${each.name}`)));
      for (const each of two) await each.spawn(Diary, [], { name: "diary" });
      const later = () => world.clock.sleep(random.integer(60));
      const connected = [
        later().then(() => x.connect(addresses[1]!)),
        later().then(() => y.connect(addresses[0]!)),
      ];
      await world.clock.advance(500);
      const [fromX, fromY] = await Promise.all(connected);
      expect([fromX!.id, fromY!.id]).toEqual([y.id, x.id]);
      expect([generations(x), generations(y)]).toEqual([[`${y.name} 1`], [`${x.name} 1`]]);
      // And the link that is left is one that works, both ways and in order.
      for (const [from, to] of [
        [x, y],
        [y, x],
      ] as const) {
        const looked = from.lookup<Diary>(to.id, "diary");
        await world.clock.advance(200);
        const diary = (await looked)!;
        for (let i = 0; i < 5; i++) diary.tell.note(i);
        const all = diary.ask.all();
        await world.clock.advance(200);
        expect(await all).toEqual([0, 1, 2, 3, 4]);
      }
      await ended(...two);
    }
  });

  test("one node asks for the same connection twice at once and gets one", async () => {
    const cables = new Cables();
    const there = node("there");
    const address = await there.listen("memory://there");
    const here = node("here", { transports: [cables.over(memory(world.network))] });
    const [a, b] = await Promise.all([here.connect(address), here.connect(address)]);
    expect(a).toBe(b);
    expect(cables.made).toBe(1);
  });

  test("what is sent while a node is being connected arrives in order", async () => {
    const there = node("there");
    const here = node("here");
    await here.connect(await there.listen("memory://there"));
    const ref = await here.spawnOn<Diary>(there.id, "Diary", []);
    breakLink(here, there.id);
    await world.clock.settle();
    // Also ahead of whoever sends in the very moment of the connection.
    here.onPeer(({ type }) => type === "joined" && ref.tell.note(50));
    for (let i = 0; i < 50; i++) ref.tell.note(i);
    await ref.ask.note(51);
    const notes = (await ref.ask.all()) as number[];
    expect(notes.slice(0, 50)).toEqual(Array.from({ length: 50 }, (_, i) => i));
    expect(notes.slice(50)).toEqual([51, 50]);
  });

  test("what waits for a node is bounded, and more is refused by name", async () => {
    const there = node("there");
    const endless = {
      scheme: "memory",
      listen: () => Promise.reject(new Error("only connects")),
      connect: () => new Promise<never>(() => {}),
    };
    const here = node("here");
    await here.connect(await there.listen("memory://there"));
    const ref = await here.spawnOn<Diary>(there.id, "Diary", []);
    const far = node("far", { transports: [endless] });
    const stranded = (far as any).references.decode((here as any).references.encode(ref)) as Ref<Diary>;
    for (let i = 0; i < 10_000; i++) stranded.tell.note(i);
    expect(() => stranded.tell.note("one more")).toThrow("10000 messages wait for node");
    expect(await failure(stranded.ask.all())).toMatchObject({ code: "MAILBOX_FULL", node: there.id });
    await far.close();
  });

  test("who waits for a node when its own node closes is told", async () => {
    const there = node("there");
    const here = node("here");
    await here.connect(await there.listen("memory://there"));
    const ref = await here.spawnOn<Diary>(there.id, "Diary", []);
    breakLink(here, there.id);
    await world.clock.settle();
    const asked = failure(ref.ask.all());
    void here.close();
    expect((await asked).code).toMatch(/NODE_CLOSED|NODE_LOST/);
  });
});

describe("incarnations", () => {
  test("an older one is refused by name while the newer is remembered, also after that has left", async () => {
    const seed = node("seed");
    const address = await seed.listen("memory://seed");
    const old = node("phone", { id: "phone" });
    await world.clock.advance(10);
    const young = node("phone", { id: "phone" });
    await old.connect(address);
    await young.connect(address);
    await world.clock.settle();
    expect(seed.peers().map((peer) => peer.incarnation)).toEqual([young.incarnation]);
    expect(old.peers()).toEqual([]);

    const refused = await failure(old.connect(address));
    expect(refused).toMatchObject({ code: "STALE_INCARNATION" });
    expect(refused.message).toContain(
      `incarnation ${young.incarnation} has been seen, this is ${old.incarnation}`,
    );

    await young.close();
    await world.clock.settle();
    expect(seed.departed()).toMatchObject([
      {
        id: "phone",
        incarnation: young.incarnation,
        how: "goodbye",
        reason: "phone is closing",
        generation: 2,
      },
    ]);
    expect((await failure(old.connect(address))).code).toBe("STALE_INCARNATION");
    await world.clock.advance(2 * 3_600_000);
    expect(seed.departed()).toEqual([]);
    expect((await old.connect(address)).id).toBe(seed.id);
  });

  test("the same one comes back as a new generation, and its actors are the same", async () => {
    const seed = node("seed");
    const address = await seed.listen("memory://seed");
    const phone = node("phone");
    await phone.connect(address);
    const kept = (await seed.spawnOn<Diary>(phone.id, "Diary", [], { name: "kept" })) as Ref<Diary>;
    await kept.ask.note(1);
    breakLink(seed, phone.id);
    await world.clock.settle();
    expect(seed.departed()).toMatchObject([{ id: phone.id, how: "lost", reason: "the cable is cut" }]);
    // It listens nowhere: only it can come back.
    expect((await failure(kept.ask.all())).message).toContain(
      "it left (the cable is cut) and has no address",
    );
    expect((await phone.connect(address)).generation).toBe(2);
    expect(await kept.ask.all()).toEqual([1]);
  });

  test("a ref to an earlier one is known to be dead without a connection", async () => {
    const first = node("phone", { id: "phone" });
    const here = node("here");
    const place = await first.listen("memory://phone");
    await here.connect(place);
    const ref = await here.spawnOn<Diary>("phone", "Diary", []);
    await first.close();
    await world.clock.advance(10);
    const second = node("phone", { id: "phone" });
    await here.connect(await second.listen(place));
    await second.close();
    await world.clock.settle();
    expect(here.peers()).toEqual([]);
    expect(await failure(ref.ask.all())).toMatchObject({ code: "ACTOR_DOWN", node: "phone" });
  });
});

test("a peer that has been regular and falls silent is given up when the patience is over", async () => {
  const cables = new Cables();
  const options = { transports: [cables.over(memory(world.network))] };
  const there = node("there", options);
  const here = node("here", options);
  await here.connect(await there.listen("memory://there"));
  await world.clock.advance(5000);
  const left: [string, number][] = [];
  for (const each of [here, there]) {
    each.onPeer(({ type, peer }) => type === "left" && left.push([peer.name, world.clock.now()]));
  }
  const frozenAt = world.clock.now();
  cables.freeze();
  await world.clock.advance(2000);
  expect(left.map(([name]) => name).toSorted()).toEqual(["here", "there"]);
  for (const [, at] of left) {
    // The last sign of life may have come up to an interval before.
    expect(at - frozenAt).toBeGreaterThan(heartbeat.patienceMs - heartbeat.intervalMs);
    expect(at - frozenAt).toBeLessThanOrEqual(heartbeat.patienceMs);
  }
});

test("nothing is served before the link was adopted", async () => {
  const log: LogEntry[] = [];
  const server = node("server", { id: "z", log: (entry) => log.push(entry) });
  await server.listen("memory://server");
  const rude = node("rude", { id: "a" });
  const { membership } = rude as any;
  // The decider answers the offer with a request instead of an adoption.
  const connecting = failure(rude.connect("memory://server"));
  const [arrival] =
    membership.arrivals.size > 0 ? membership.arrivals : await soon(() => membership.arrivals);
  arrival.proceed = () => arrival.link.send({ type: "lookup", id: 1, name: "diary" }, "");
  expect((await connecting).message).toContain('a message "lookup" came before the link was adopted');
  expect(log.at(-1)!.error).toMatchObject({ code: "UNEXPECTED_FRAME" });
  expect(server.peers()).toEqual([]);
});

async function soon<T>(of: () => Set<T>): Promise<Set<T>> {
  while (of().size === 0) await Promise.resolve();
  return of();
}

test("refused connections are logged a few at a time, the rest is counted", async () => {
  const log: string[] = [];
  const server = node("server", { token: "right", log: ({ message }) => log.push(message) });
  await server.listen("memory://server");
  const stranger = node("stranger", { token: "wrong" });
  for (let i = 0; i < 12; i++) await failure(stranger.connect("memory://server"));
  await world.clock.settle();
  expect(log).toHaveLength(5);
  await world.clock.advance(1000);
  expect(log.slice(5)).toEqual(["refused 7 more connections in the last second"]);
  await failure(stranger.connect("memory://server"));
  await world.clock.settle();
  expect(log).toHaveLength(7);
});

test("a stranger who opens connections and says nothing is bounded", async () => {
  const server = node("server");
  await server.listen("memory://server");
  let closed = 0;
  const mute = { onData: () => {}, onDrain: () => {}, onClose: () => void closed++ };
  for (let i = 0; i < 300; i++) await memory(world.network).connect("memory://server", () => mute);
  await world.clock.settle();
  expect(closed).toBe(44);
  await node("friend").connect("memory://server");
});

describe("what a node says of itself", () => {
  test("may fill most of a handshake's frame", async () => {
    const there = node("there", { capabilities: { models: "m".repeat(12_000) } });
    const here = node("here", { capabilities: { models: "m".repeat(12_000) } });
    const address = await there.listen("memory://there");
    expect((await here.connect(address)).capabilities).toEqual({ models: "m".repeat(12_000) });
  });

  test("is looked at when it is made, not by each it connects to", () => {
    expect(() => node("two\nlines")).toThrow(/at most 256 characters, none of them control characters/);
    expect(() => node("here", { id: "n".repeat(257) })).toThrow(/at most 256 characters/);
    expect(() => node("here", { capabilities: { models: "m".repeat(13_000) } })).toThrow(/capabilities/);
    expect(() => node("here", { token: "" })).toThrow(/token is empty/);
  });
});

test("a node that is closed while it begins to listen keeps no address", async () => {
  const early = node("early");
  const listening = failure(early.listen("memory://place"));
  await early.close();
  expect(await listening).toMatchObject({ code: "NODE_CLOSED" });
  const later = node("later");
  expect(await later.listen("memory://place")).toBe("memory://place");
});
