/** Nodes that find each other by multicast, on the loopback interface. */

import { afterEach, describe, expect, test } from "bun:test";
import { createSocket } from "node:dgram";
import { systemClock } from "../../../runtime/clock.ts";
import { announce, type Found, findAnnounced } from "../../../runtime/discovery/mdns.ts";
import { NodeRuntime } from "../../../runtime/node.ts";
import { tcp } from "../../../runtime/transports/tcp.ts";
import { failure } from "../world.ts";

const LOOPBACK = "127.0.0.1";
const GROUP = "224.0.0.251";

/** Whether a multicast packet sent on the loopback interface comes back; containers often forbid it. */
async function multicastWorks(): Promise<boolean> {
  const socket = createSocket({ type: "udp4", reuseAddr: true });
  try {
    const arrived = new Promise<boolean>((resolve) => {
      socket.on("message", () => resolve(true));
      socket.on("error", () => resolve(false));
    });
    await new Promise<void>((resolve) => socket.bind(0, "0.0.0.0", resolve));
    socket.addMembership(GROUP, LOOPBACK);
    socket.setMulticastInterface(LOOPBACK);
    socket.setMulticastLoopback(true);
    socket.send("hello", socket.address().port, GROUP);
    return await Promise.race([arrived, systemClock.sleep(2000).then(() => false)]);
  } catch {
    return false;
  } finally {
    socket.close();
  }
}

const works = await multicastWorks();
const on = { interface: LOOPBACK, clock: systemClock };

/** Other runs of this test may be on the same interface at the same time. */
const mine = (id: string) => `${id}-${process.pid}`;

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const advertised = (id: string, more: Partial<Found> = {}) => ({
  ...{ id: mine(id), name: id, incarnation: 1_700_000_000_000, addresses: ["tcp://127.0.0.1:4000"] },
  ...more,
});

async function announced(...args: Parameters<typeof announce>) {
  const announcement = await announce(...args);
  let closed = false;
  const close = async () => {
    if (!closed) await announcement.close();
    closed = true;
  };
  cleanups.push(close);
  return close;
}

/** Starts a search; `until` resolves with what was found once it is as it should be. */
async function searching(cluster?: string) {
  const found = new Map<string, Found>();
  const waiting = new Set<() => void>();
  const changed = () => {
    for (const check of waiting) check();
  };
  const there = (node: Found) => {
    found.set(node.id, node);
    changed();
  };
  const onGone = (id: string) => {
    found.delete(id);
    changed();
  };
  const search = await findAnnounced(there, { ...on, onGone, ...(cluster === undefined ? {} : { cluster }) });
  cleanups.push(() => search.close());
  const until = (enough: (nodes: Map<string, Found>) => boolean) =>
    new Promise<void>((resolve) => {
      const check = () => {
        if (enough(found)) resolve();
      };
      waiting.add(check);
      check();
    });
  return { found, until };
}

// Without multicast there is nothing to test against.
describe.skipIf(!works)(works ? "multicast DNS" : "multicast DNS (no multicast on loopback here)", () => {
  test("tells who is there, and who has left", async () => {
    const { found, until } = await searching();
    const close = await announced(advertised("phone", { incarnation: 42 }), { ...on, cluster: "ab:cd" });
    await until((nodes) => nodes.has(mine("phone")));
    expect(found.get(mine("phone"))).toEqual({
      ...{ id: mine("phone"), name: "phone", incarnation: 42, cluster: "ab:cd" },
      addresses: ["tcp://127.0.0.1:4000"],
    });
    await close();
    await until((nodes) => !nodes.has(mine("phone")));
  });

  test("tells clusters apart", async () => {
    const everyone = await searching();
    const ours = await searching(mine("ours"));
    await announced(advertised("theirs"), { ...on, cluster: "theirs" });
    await announced(advertised("ours"), { ...on, cluster: mine("ours") });
    await everyone.until((nodes) => ["theirs", "ours"].every((id) => nodes.has(mine(id))));
    await ours.until((nodes) => nodes.has(mine("ours")));
    expect([...ours.found.keys()]).toEqual([mine("ours")]);
  });

  test("copes with names and ids of any kind", async () => {
    const { found, until } = await searching();
    const id = `Küche.local/${"x".repeat(100)}-1a2b`;
    await announced(advertised(id, { addresses: ["tcp://127.0.0.1:1", `ws://x/${"y".repeat(300)}`] }), on);
    await until((nodes) => nodes.has(mine(id)));
    expect(found.get(mine(id))!.addresses).toEqual(["tcp://127.0.0.1:1"]);
  });

  test("is enough for two nodes to meet", async () => {
    const [a, b] = ["a", "b"].map(
      (name) => new NodeRuntime({ name, transports: [tcp()], token: "t", log: () => {} }),
    ) as [NodeRuntime, NodeRuntime];
    cleanups.push(
      () => a.close(0),
      () => b.close(0),
    );
    await a.listen("tcp://127.0.0.1:0");
    await announced(a, on);
    const { found, until } = await searching();
    await until((nodes) => nodes.has(a.id));
    expect((await b.join(found.get(a.id)!.addresses).first).id).toBe(a.id);
  });
});

test("a node that listens nowhere cannot be announced, and is told so", async () => {
  const error = await failure(announce(advertised("mute", { addresses: [] }), on));
  expect(error).toMatchObject({ code: "LISTEN_FAILED" });
  expect(error.message).toContain("mute has no address with a port to announce");
});
