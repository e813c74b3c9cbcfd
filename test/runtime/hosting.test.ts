/** Actors started for other nodes: who may have what, and for how long. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Actor } from "../../runtime/actor.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { PeerInfo } from "../../runtime/peer.ts";
import type { Ref } from "../../runtime/ref.ts";
import { memory } from "../../runtime/transports/memory.ts";
import { Cables } from "./cables.ts";
import { failure, World } from "./world.ts";

/** Actors that live, by the name they were given. */
const alive = new Set<string>();
const gates: (() => void)[] = [];

class Tenant extends Actor {
  private readonly title: string;
  constructor(title: string) {
    super();
    this.title = title;
  }
  override async onStart() {
    if (this.title === "slow") await new Promise<void>((resolve) => gates.push(resolve));
    alive.add(this.title);
  }
  override onStop() {
    alive.delete(this.title);
  }
  async hello() {
    return this.title;
  }
}

class Owner extends Actor {
  async hire(node: string, title: string) {
    return this.context.node.spawnOn<Tenant>(node, "Tenant", [title], { owner: this.context.self });
  }
  async fail() {
    return this.context.stop();
  }
}

const heartbeat = { intervalMs: 100, patienceMs: 1000 };
const world = new World();
const cables = new Cables();
let host: NodeRuntime;
let asker: NodeRuntime;

beforeEach(async () => {
  alive.clear();
  const admit = ([title]: readonly unknown[], peer: PeerInfo) => {
    if (typeof title !== "string") throw new TypeError(`a title is a string, got ${typeof title}`);
    if (title === "king" && peer.name !== "palace") throw new RangeError("kings live in the palace");
  };
  const transports = [cables.over(memory(world.network))];
  host = world.node("host", { actors: { Tenant: { actor: Tenant, admit } }, transports, heartbeat });
  asker = world.node("asker", { transports, heartbeat });
  await asker.connect(await host.listen("memory://"));
});
afterEach(() => world.close());

describe("arguments and askers", () => {
  test("are looked at before anything is started, and what is wrong is the cause", async () => {
    const wrong = await failure(asker.spawnOn(host.id, "Tenant", [7]));
    expect(wrong).toMatchObject({ code: "SPAWN_REFUSED", cause: { name: "TypeError" } });
    expect(wrong.message).toContain("host does not start a Tenant for asker");
    expect(wrong.message).toContain("a title is a string, got number");
    expect((await failure(asker.spawnOn(host.id, "Tenant", ["king"]))).code).toBe("SPAWN_REFUSED");
    expect(await (await asker.spawnOn<Tenant>(host.id, "Tenant", ["me"])).ask.hello()).toBe("me");
    // The node itself may start what it likes.
    await host.spawnOn(host.id, "Tenant", ["king"]);
    expect([...alive]).toEqual(["me", "king"]);
  });

  test("names of Object's own are no classes", async () => {
    expect((await failure(asker.spawnOn(host.id, "toString", []))).code).toBe("UNKNOWN_CLASS");
    expect((await failure(asker.spawnOn(host.id, "__proto__", []))).code).toBe("UNKNOWN_CLASS");
  });
});

describe("an actor on another node", () => {
  const lose = async () => {
    cables.freeze();
    await world.clock.advance(3000);
  };

  test("without an owner outlives its asker", async () => {
    await asker.spawnOn(host.id, "Tenant", ["free"], { name: "free" });
    await lose();
    expect([...alive]).toEqual(["free"]);
    expect(await host.lookup(host.id, "free")).not.toBeNull();
  });

  test("owned by a node ends when that is lost, or says goodbye", async () => {
    await asker.spawnOn(host.id, "Tenant", ["owned"], { owner: "node" });
    expect([...alive]).toEqual(["owned"]);
    await lose();
    expect([...alive]).toEqual([]);

    await asker.connect(host.addresses[0]!);
    await asker.spawnOn(host.id, "Tenant", ["again"], { owner: "node" });
    await asker.close();
    await world.clock.settle();
    expect([...alive]).toEqual([]);
  });

  test("owned by an actor ends when that ends, or its node is lost", async () => {
    const owner = await asker.spawn(Owner, []);
    const hired = (await owner.ask.hire(host.id, "hired")) as Ref<Tenant>;
    expect(await hired.ask.hello()).toBe("hired");
    await asker.stop(owner);
    await world.clock.settle();
    expect([...alive]).toEqual([]);

    await (await asker.spawn(Owner, [])).ask.hire(host.id, "second");
    expect([...alive]).toEqual(["second"]);
    await lose();
    expect([...alive]).toEqual([]);
  });

  test("whose owner was gone when it was ready ends at once", async () => {
    const owner = await asker.spawn(Owner, []);
    const hiring = failure(owner.ask.hire(host.id, "slow"));
    await world.clock.settle();
    await asker.kill(owner);
    expect((await hiring).code).toBe("ACTOR_DOWN");
    gates.splice(0).forEach((open) => {
      open();
    });
    await world.clock.settle();
    expect([...alive]).toEqual([]);
  });

  test("whose asker was lost before it was told of it ends, unless it can be found by name", async () => {
    const nameless = failure(asker.spawnOn(host.id, "Tenant", ["slow"]));
    await world.clock.settle();
    await lose();
    expect(await nameless).toMatchObject({ code: "NODE_LOST", node: host.id });
    gates.splice(0).forEach((open) => {
      open();
    });
    await world.clock.settle();
    expect([...alive]).toEqual([]);

    await asker.connect(host.addresses[0]!);
    const named = failure(asker.spawnOn(host.id, "Tenant", ["slow"], { name: "slow" }));
    await world.clock.settle();
    await lose();
    expect((await named).code).toBe("NODE_LOST");
    gates.splice(0).forEach((open) => {
      open();
    });
    await world.clock.settle();
    expect([...alive]).toEqual(["slow"]);
  });

  test("that has ended by itself leaves nothing with its owner", async () => {
    const ref = await asker.spawnOn<Tenant>(host.id, "Tenant", ["brief"], { owner: "node" });
    const peer = (host as any).membership.find(asker.id);
    expect(peer.lossWatchers.size).toBe(1);
    await asker.stop(ref);
    expect(peer.lossWatchers.size).toBe(0);
  });
});
