/** Nodes with one another, the same over every transport. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Tensor } from "../../protocols/tensor.ts";
import { Actor } from "../../runtime/actor.ts";
import { systemClock } from "../../runtime/clock.ts";
import type { PeerEvent } from "../../runtime/membership.ts";
import type { Down } from "../../runtime/monitor.ts";
import { NodeRuntime } from "../../runtime/node.ts";
import type { NodeOptions } from "../../runtime/node_options.ts";
import type { Ref } from "../../runtime/ref.ts";
import { memory } from "../../runtime/transports/memory.ts";
import { tcp } from "../../runtime/transports/tcp.ts";
import { failure, World } from "./world.ts";

class Worker extends Actor {
  static override readonly reentrant = ["slow"];
  /** Each lets go of one actor in `hold`. */
  static readonly gates: (() => void)[] = [];
  private readonly start: number;
  private gate = Promise.withResolvers<void>();
  private seen: unknown[] = [];

  constructor(start = 0) {
    super();
    if (start < 0) throw new RangeError("start must not be negative");
    this.start = start;
  }
  async add(a: number) {
    return this.start + a;
  }
  async fail() {
    throw Object.assign(new TypeError("out of range"), { code: "E_RANGE" });
  }
  async sum(tensor: Tensor) {
    return tensor.f32().reduce((a, b) => a + b, 0);
  }
  async echo(value: unknown) {
    return value;
  }
  async callBack(ref: Ref<Worker>, value: number) {
    return ref.ask.add(value);
  }
  shout(): void {
    throw new Error("x".repeat(5 * 2 ** 20));
  }
  async slow() {
    await this.gate.promise;
  }
  async crash() {
    throw new Error("worker is broken");
  }
  async note(value: unknown) {
    this.seen.push(value instanceof Tensor ? value.bytes.byteLength : value);
  }
  async notes() {
    return this.seen;
  }
  async nothing() {}
  async hold() {
    await new Promise<void>((resolve) => Worker.gates.push(resolve));
  }
  async unencodable() {
    return new Map();
  }
  async newWorker(start: number) {
    return this.context.spawn(Worker, [start]);
  }
}

const cases = [
  {
    transport: "memory",
    listen: "memory://",
    options: (world: World) => ({ transports: [memory(world.network)] }),
  },
  {
    transport: "TCP",
    listen: "tcp://127.0.0.1:0",
    options: () => ({ transports: [tcp()], clock: systemClock }),
  },
];

for (const { transport, listen, options } of cases) {
  describe(`two nodes over ${transport}`, () => {
    const world = new World();
    const open: NodeRuntime[] = [];
    const node = (name: string, more: Partial<NodeOptions> = {}) => {
      const made = world.node(name, { actors: { Worker }, ...options(world), ...more });
      open.push(made);
      return made;
    };
    let here: NodeRuntime;
    let there: NodeRuntime;
    let address: string;
    beforeEach(async () => {
      there = node("there");
      address = await there.listen(listen);
      here = node("here");
    });
    afterEach(async () => {
      if (transport === "memory") return world.close();
      for (const each of open.splice(0).reverse()) await each.close(0);
    });

    test("say who they are; connecting twice gives the same peer", async () => {
      const peer = await here.connect(address);
      expect(peer).toMatchObject({ id: there.id, name: "there", addresses: [address] });
      expect(await here.connect(address)).toEqual(peer);
      expect(here.peers()).toHaveLength(1);
      expect(await here.lookup(there.id, "nobody")).toBeNull();
      expect(there.peers().map((p) => p.id)).toEqual([here.id]);
    });

    test("start, find and ask actors of each other", async () => {
      await here.connect(address);
      const ref = await here.spawnOn<Worker>(there.id, "Worker", [10], { name: "w" });
      expect(await ref.ask.add(5)).toBe(15);
      const found = await here.lookup<Worker>(there.id, "w");
      expect(found!.key).toBe(ref.key);
      expect(await here.lookup(there.id, "nobody")).toBeNull();
      expect(await ref.ask.nothing()).toBeUndefined();
      const back = await there.spawnOn<Worker>(here.id, "Worker", [1]);
      expect(await back.ask.add(1)).toBe(2);
    });

    test("say what is wrong with a spawn", async () => {
      await here.connect(address);
      const unknown = await failure(here.spawnOn(there.id, "Baker", []));
      expect(unknown).toMatchObject({
        code: "UNKNOWN_CLASS",
        message: "there hosts no Baker; it hosts Worker",
      });
      const failed = await failure(here.spawnOn(there.id, "Worker", [-1]));
      expect(failed).toMatchObject({ code: "SPAWN_FAILED", cause: { name: "RangeError" } });
      await here.spawnOn(there.id, "Worker", [], { name: "w" });
      expect((await failure(here.spawnOn(there.id, "Worker", [], { name: "w" }))).code).toBe("NAME_TAKEN");
      expect((await failure(here.spawnOn("nowhere", "Worker", []))).message).toContain(
        "connected are there-",
      );
    });

    test("pass on the first real error with its stack", async () => {
      await here.connect(address);
      const ref = await here.spawnOn<Worker>(there.id, "Worker", []);
      const error = await failure(ref.ask.fail());
      expect(error).toMatchObject({ name: "TypeError", message: "out of range", code: "E_RANGE" });
      expect(error.stack).toContain("node.test.ts");
      expect((await failure(ref.ask.unencodable())).message).toContain("a Map has no form on the wire");
      expect((await failure((ref as any).ask.echo(() => 1))).code).toBe("UNENCODABLE");
      expect(await ref.ask.add(1)).toBe(1);
    });

    test("send tensors of 8 MiB both ways, intact, into memory of the receiver's choice", async () => {
      const sizes: number[] = [];
      const chooser = node("chooser", {
        allocate: (bytes) => {
          sizes.push(bytes);
          return new Uint8Array(new SharedArrayBuffer(bytes));
        },
      });
      await chooser.connect(address);
      const ref = await chooser.spawnOn<Worker>(there.id, "Worker", []);
      const data = Float32Array.from({ length: 2 ** 21 }, (_, i) => i % 1000);
      const tensor = Tensor.f32([2 ** 21], data);
      const results = (await ref.ask.echo([tensor, "and", tensor])) as [Tensor, string, Tensor];
      expect(sizes).toEqual([2 ** 23, 2 ** 23]);
      expect(results[0].bytes.buffer).toBeInstanceOf(SharedArrayBuffer);
      expect(results[0].shape).toEqual([2 ** 21]);
      expect(Buffer.compare(results[2].bytes, tensor.bytes)).toBe(0);
    });

    test("keep the order of tells, with and without tensors, through a narrow window", async () => {
      const narrow = node("narrow", { limits: { windowBytes: 4096 } });
      const other = node("other", { limits: { windowBytes: 4096 } });
      await narrow.connect(await other.listen(listen));
      const ref = await narrow.spawnOn<Worker>(other.id, "Worker", []);
      const expected: number[] = [];
      for (let i = 0; i < 60; i++) {
        const value = i % 3 === 0 ? Tensor.zeros("u8", [5000 + i]) : i;
        ref.tell.note(value);
        expected.push(i % 3 === 0 ? 5000 + i : i);
      }
      expect(await ref.ask.notes()).toEqual(expected);
    });

    test("a small ask does not wait for another actor's tensors", async () => {
      await here.connect(address);
      const [bulk, quick] = [
        await here.spawnOn<Worker>(there.id, "Worker", []),
        await here.spawnOn<Worker>(there.id, "Worker", []),
      ];
      const order: string[] = [];
      const large = bulk.ask.sum(Tensor.zeros("f32", [2 ** 23])).then(() => order.push("bulk"));
      await quick.ask.add(1).then(() => order.push("quick"));
      await large;
      expect(order).toEqual(["quick", "bulk"]);
    });

    test("refs travel in messages and lead to a third node, connected on demand", async () => {
      const third = node("third");
      const thirdAddress = await third.listen(listen);
      await here.connect(address);
      await here.connect(thirdAddress);
      const target = await here.spawnOn<Worker>(third.id, "Worker", [100]);
      const middle = await here.spawnOn<Worker>(there.id, "Worker", []);
      expect(there.peers().map((p) => p.name)).toEqual(["here"]);
      expect(await middle.ask.callBack(target, 7)).toBe(107);
      expect(there.peers().map((p) => p.name)).toEqual(["here", "third"]);
      const own = await here.spawn(Worker, [1000]);
      expect(await middle.ask.callBack(own, 1)).toBe(1001);
      const made = (await middle.ask.newWorker(5)) as Ref<Worker>;
      expect(await made.ask.add(1)).toBe(6);
      expect(await middle.ask.echo(own)).toBe(own);
    });

    test("refs to classes only the other node knows work too", async () => {
      const plain = node("plain", { actors: {} });
      await plain.connect(address);
      const ref = await plain.spawnOn<Worker>(there.id, "Worker", [3]);
      expect(await ref.ask.add(4)).toBe(7);
      const unknown = await failure((ref as any).ask.nonsense());
      expect(unknown).toMatchObject({
        code: "UNKNOWN_METHOD",
        message: expect.stringContaining("add, fail, sum"),
      });
    });

    test("monitor each other's actors: a stop, a crash, one that is gone already", async () => {
      await here.connect(address);
      const downs: string[] = [];
      const settled: Promise<unknown>[] = [];
      const watch = (ref: Ref<Worker>) => {
        const fired = Promise.withResolvers<void>();
        settled.push(fired.promise);
        here.monitor(ref, ({ reason }) => {
          downs.push(`${reason.code}: ${reason.error?.message ?? "-"}`);
          fired.resolve();
        });
      };
      const [stopped, crashed] = [
        await here.spawnOn<Worker>(there.id, "Worker", []),
        await here.spawnOn<Worker>(there.id, "Worker", []),
      ];
      watch(stopped);
      await here.stop(stopped);
      watch(crashed);
      crashed.tell.crash();
      await settled[1];
      watch(stopped);
      await Promise.all(settled);
      expect(downs).toEqual(["normal: -", "error: worker is broken", "noactor: -"]);
    });

    test("an actor whose last words are too long for the wire ends all the same, and that is told", async () => {
      await here.connect(address);
      const ref = await here.spawnOn<Worker>(there.id, "Worker", []);
      const down = Promise.withResolvers<Down>();
      here.monitor(ref, down.resolve);
      ref.tell.shout();
      const { code, message } = (await down.promise).reason;
      expect(code).toBe("error");
      expect(message).toMatch(/^it crashed while handling shout: Error: x+$/);
      await here.stop(ref);
    });

    test("when one leaves, asks are rejected and monitors fire, naming it", async () => {
      await here.connect(address);
      const events: PeerEvent[] = [];
      here.onPeer((event) => events.push(event));
      const ref = await here.spawnOn<Worker>(there.id, "Worker", []);
      const down = Promise.withResolvers<Down>();
      here.monitor(ref, down.resolve);
      const ask = failure(ref.ask.slow());
      await ref.ask.add(1);
      await here.close();
      expect(await ask).toMatchObject({ code: "NODE_LOST", node: there.id });
      expect((await down.promise).reason).toMatchObject({ code: "nodelost", node: there.id });
      expect((await down.promise).reason.message).toContain(`node there (${there.id}) is lost`);
      expect(events.map((e) => e.type)).toEqual(["left"]);
      expect((await failure(ref.ask.add(1))).code).toBe("NODE_LOST");
    });

    test("when the other leaves in good order, its words are passed on", async () => {
      await here.connect(address);
      const left = Promise.withResolvers<PeerEvent>();
      here.onPeer(left.resolve);
      await there.close();
      expect(await left.promise).toMatchObject({ type: "left", reason: "there is closing" });
      expect((await left.promise) as object).not.toHaveProperty("error");
    });

    test("tokens: the same is let in, another or none is refused by name on both sides", async () => {
      const guarded = node("guarded", { token: "right" });
      const guardedAddress = await guarded.listen(listen);
      await node("friend", { token: "right" }).connect(guardedAddress);
      const wrong = await failure(node("stranger", { token: "wrong" }).connect(guardedAddress));
      expect(wrong).toMatchObject({ code: "WRONG_TOKEN" });
      expect(wrong.message).toContain("stranger has another join token than guarded");
      expect((await failure(here.connect(guardedAddress))).code).toBe("NO_TOKEN");
      expect(guarded.peers().map((p) => p.name)).toEqual(["friend"]);
    });

    test("a node started anew is another incarnation: its old actors are gone, and that is said", async () => {
      const first = node("phone", { id: "phone" });
      const place = await first.listen(listen);
      await here.connect(place);
      const ref = await here.spawnOn<Worker>("phone", "Worker", []);
      await first.close();
      if (transport === "memory") await world.clock.advance(10);
      else await systemClock.sleep(2);
      const second = node("phone", { id: "phone" });
      await here.connect(await second.listen(place));
      expect((await failure(ref.ask.add(1))).message).toContain("started anew");
    });

    test("nobody there, no transport, and itself are errors that say so", async () => {
      const dead = listen.startsWith("tcp") ? "tcp://127.0.0.1:1" : "memory://nobody";
      expect(await failure(here.connect(dead))).toMatchObject({ code: "CONNECT_FAILED" });
      expect((await failure(here.connect("carrier-pigeon://roof"))).message).toContain("no transport");
      expect((await failure(there.connect(address))).message).toContain("itself");
    });

    test("two that connect to each other at the same moment both end up connected", async () => {
      const back = await here.listen(listen);
      const [a, b] = await Promise.all([here.connect(address), there.connect(back)]);
      expect([a.id, b.id]).toEqual([there.id, here.id]);
      const ref = await here.spawnOn<Worker>(there.id, "Worker", [1]);
      expect(await ref.ask.add(1)).toBe(2);
      const other = await there.spawnOn<Worker>(here.id, "Worker", [2]);
      expect(await other.ask.add(1)).toBe(3);
    });
  });
}

test("a node that listens on all interfaces is known by the address it was seen at", async () => {
  const quiet = { transports: [tcp({ plaintext: "everywhere" })], log: () => {} };
  const [wide, near, third] = ["wide", "near", "third"].map(
    (name) => new NodeRuntime({ name, actors: { Worker }, ...quiet }),
  ) as [NodeRuntime, NodeRuntime, NodeRuntime];
  try {
    const port = (await wide.listen("tcp://0.0.0.0:0")).split(":").at(-1);
    const peer = await near.connect(`tcp://127.0.0.1:${port}`);
    expect(peer.addresses).toEqual([`tcp://127.0.0.1:${port}`]);
    const onWide = await near.spawnOn<Worker>(wide.id, "Worker", [1]);
    await near.connect(await third.listen("tcp://127.0.0.1:0"));
    const onThird = await near.spawnOn<Worker>(third.id, "Worker", []);
    expect(await onThird.ask.callBack(onWide, 1)).toBe(2);
  } finally {
    for (const node of [near, third, wide]) await node.close(0);
  }
});

describe("time", () => {
  const world = new World();
  afterEach(() => world.close());

  test("an ask that times out while it waits for credit is never sent", async () => {
    const there = world.node("there", { actors: { Worker }, limits: { windowBytes: 1000 } });
    const here = world.node("here", { limits: { windowBytes: 1000 } });
    await here.connect(await there.listen("memory://"));
    const ref = await here.spawnOn<Worker>(there.id, "Worker", []);
    ref.tell.hold();
    ref.tell.note(Tensor.zeros("u8", [2000]));
    const late = failure(ref.with({ timeoutMs: 5 }).ask.note("late"));
    await world.clock.advance(5);
    expect((await late).code).toBe("ASK_TIMEOUT");
    const notes = ref.ask.notes();
    Worker.gates.splice(0).forEach((open) => {
      open();
    });
    expect(await notes).toEqual([2000]);
  });

  test("a peer that is silent for longer than the patience is lost", async () => {
    const heartbeat = { intervalMs: 100, patienceMs: 1000 };
    const there = world.node("there", { actors: { Worker }, heartbeat });
    const here = world.node("here", { heartbeat });
    await here.connect(await there.listen("memory://there"));
    await world.clock.advance(60_000);
    expect(here.peers()).toHaveLength(1);
  });
});
