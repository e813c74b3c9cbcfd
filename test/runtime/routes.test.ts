/** The table of routes, and what a node makes of it. */

import { afterEach, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NodeRuntime } from "../../runtime/node.ts";
import type { NodeOptions } from "../../runtime/node_options.ts";
import { machineId } from "../../runtime/platform/machine.ts";
import { inOrder, isLoopback, nearerRoute, routeOf, seenFrom } from "../../runtime/routes.ts";
import { memory } from "../../runtime/transports/memory.ts";
import { shm, shmUnavailable } from "../../runtime/transports/shm/shm.ts";
import { tcp } from "../../runtime/transports/tcp.ts";
import type { Transport } from "../../runtime/transports/transport.ts";
import { failure, World } from "./world.ts";

const ALL = ["relay", "webrtc", "ws", "wss", "tcp", "shm", "worker", "memory"];
const addresses = [
  "relay://hub/x",
  "webrtc://x",
  "ws://10.0.0.7:80",
  "tcp://127.0.0.1:4000",
  "tcp://10.0.0.7:4000",
  "shm://x",
];

describe("the order of addresses", () => {
  test("on one machine: shared memory, loopback, network, browser's ways, relay", () => {
    expect(inOrder(addresses, { schemes: ALL, here: "m", there: "m" })).toEqual([
      ...["shm://x", "tcp://127.0.0.1:4000", "tcp://10.0.0.7:4000"],
      ...["ws://10.0.0.7:80", "webrtc://x", "relay://hub/x"],
    ]);
  });

  test("between machines: what only works on one is left out", () => {
    expect(inOrder(addresses, { schemes: ALL, here: "m", there: "n" })).toEqual([
      ...["tcp://10.0.0.7:4000", "ws://10.0.0.7:80", "webrtc://x", "relay://hub/x"],
    ]);
  });

  test("where the machine is not known, loopback comes after the network's address", () => {
    expect(inOrder(addresses, { schemes: ALL, here: "m", there: undefined })).toEqual([
      ...["shm://x", "tcp://10.0.0.7:4000", "tcp://127.0.0.1:4000"],
      ...["ws://10.0.0.7:80", "webrtc://x", "relay://hub/x"],
    ]);
  });

  test("only what this node speaks, each once, and an unknown scheme before the relay", () => {
    const many = [...addresses, ...addresses, "pigeon://roof"];
    expect(inOrder(many, { schemes: ["relay", "ws", "pigeon"], here: undefined, there: undefined })).toEqual([
      ...["ws://10.0.0.7:80", "pigeon://roof", "relay://hub/x"],
    ]);
  });

  test("a nearer route is one on this machine", () => {
    const here = { schemes: ALL, here: "m", there: "m" };
    expect(nearerRoute("tcp", addresses, here)).toBe("shm://x");
    expect(nearerRoute("shm", addresses, here)).toBeUndefined();
    expect(nearerRoute("relay", addresses, { ...here, there: "n" })).toBeUndefined();
  });
});

test("relays are relayed, all else is direct", () => {
  expect(ALL.filter((scheme) => routeOf(scheme) === "relayed")).toEqual(["relay"]);
});

test("loopback is told apart", () => {
  const local = ["tcp://127.0.0.1:1", "tcp://127.8.8.8:1", "ws://localhost:80/x", "tcp://[::1]:9"];
  const other = ["tcp://10.0.0.1:1", "tcp://128.0.0.1:1", "ws://localhost.example:1", "shm://127.0.0.1x"];
  expect([...local, ...other].filter(isLoopback)).toEqual(local);
});

test("an address of all interfaces becomes the one that was seen", () => {
  expect(seenFrom("tcp://0.0.0.0:4000", "tcp://10.0.0.7:51000")).toBe("tcp://10.0.0.7:4000");
  expect(seenFrom("ws://[::]:80/x", "ws://[fe80::1]:51000")).toBe("ws://[fe80::1]:80/x");
  expect(seenFrom("tcp://10.0.0.9:4000", "tcp://10.0.0.7:51000")).toBe("tcp://10.0.0.9:4000");
});

describe("nodes", () => {
  const world = new World();
  afterEach(() => world.close());

  /** The memory network under another scheme; its addresses are the memory's behind it. */
  function disguised(scheme: string, broken = false): Transport {
    const inner = memory(world.network);
    const under = (address: string) => address.replace(`${scheme}://`, "memory://");
    return {
      scheme,
      async listen(address, accept) {
        const listener = await inner.listen(under(address), accept);
        return { ...listener, address: listener.address.replace("memory://", `${scheme}://`) };
      },
      async connect(address, handlers) {
        if (broken) throw new Error(`${scheme} does not work today`);
        return inner.connect(under(address), handlers);
      },
    };
  }
  const node = (name: string, transports: Transport[], options: Partial<NodeOptions> = {}) =>
    world.node(name, { transports, ...options });

  /** Nodes "near" and "far" that speak tcp and shm, met over tcp. */
  async function met(machines: [string | undefined, string | undefined], broken = false) {
    const [far, near] = ["far", "near"].map((name, i) => {
      const transports = [disguised("tcp"), disguised("shm", broken && name === "near")];
      const machine = machines[i];
      return node(name, transports, machine === undefined ? {} : { machine });
    });
    const address = await far!.listen("tcp://far-over-tcp");
    await far!.listen("shm://far-over-shm");
    return { far: far!, near: near!, info: await near!.connect(address), address };
  }

  test("on one machine that met over TCP use shared memory, and have one link", async () => {
    const { far, near, info, address } = await met(["m", "m"]);
    expect(info).toMatchObject({ transport: "shm", route: "direct", generation: 1 });
    await world.clock.settle();
    expect(far.peers()).toMatchObject([{ name: "near", transport: "shm", generation: 1 }]);
    expect(near.peers()).toHaveLength(1);
    expect(await near.connect(address)).toBe(info);
    await world.clock.advance(60_000);
    expect(near.peers()).toHaveLength(1);
  });

  test("that meet over TCP from both sides at once agree on one link through shared memory", async () => {
    const both = ["a", "b"].map((name) => {
      return node(name, [disguised("tcp"), disguised("shm")], { machine: "m" });
    });
    for (const each of both) {
      await each.listen(`tcp://${each.name}-over-tcp`);
      await each.listen(`shm://${each.name}-over-shm`);
    }
    const [a, b] = both as [(typeof both)[0], (typeof both)[0]];
    await Promise.all([a.connect("tcp://b-over-tcp"), b.connect("tcp://a-over-tcp")]);
    await world.clock.advance(30_000);
    for (const each of both) expect(each.peers()).toMatchObject([{ transport: "shm", generation: 1 }]);
    expect((a as any).membership.arrivals.size + (b as any).membership.arrivals.size).toBe(0);
  });

  test("on one machine where shared memory fails stay with TCP", async () => {
    const { far, info } = await met(["m", "m"], true);
    expect(info.transport).toBe("tcp");
    await world.clock.settle();
    expect(far.peers()).toMatchObject([{ transport: "tcp" }]);
  });

  test("on different machines stay with TCP", async () => {
    expect((await met(["m", "n"])).info.transport).toBe("tcp");
  });

  test("follow a ref by the nearest address that works", async () => {
    const tried: string[] = [];
    const spy = (transport: Transport): Transport => ({
      ...transport,
      connect: (address, handlers) => {
        tried.push(address);
        return transport.connect(address, handlers);
      },
    });
    const far = node("far", [disguised("relay"), disguised("tcp"), disguised("ws")], { machine: "m" });
    for (const address of ["relay://a", "ws://b", "tcp://c"]) await far.listen(address);
    const near = node("near", [spy(disguised("relay")), spy(disguised("tcp", true)), spy(disguised("ws"))]);
    await near.connect("relay://a");
    expect(near.peers()).toMatchObject([{ transport: "relay", route: "relayed" }]);
    (near as any).membership.find(far.id).link.fail(new Error("the relay is gone"));
    await world.clock.settle();
    tried.length = 0;
    const address = { node: far.id, incarnation: far.incarnation, actor: 1, className: "A", addresses: [] };
    const found = await new Promise<any>((resolve) => (near as any).membership.reach(address, resolve));
    expect(tried).toEqual(["tcp://c", "ws://b"]);
    expect(found.info.transport).toBe("ws");
  });

  test("say why none of the addresses works", async () => {
    const near = node("near", [disguised("tcp", true)]);
    const joining = await failure(near.connect("tcp://c"));
    expect(joining.message).toBe("tcp does not work today");
  });
});

test.skipIf(shmUnavailable() !== null)(
  "real nodes of one machine that meet over TCP talk through shared memory",
  async () => {
    const folder = await mkdtemp(join(tmpdir(), "troupe-routes-"));
    const machine = machineId();
    const [near, far] = ["near", "far"].map((name) => {
      const transports = [tcp(), shm({ folder })];
      return new NodeRuntime({ name, token: "t", machine, transports, log: () => {} });
    }) as [NodeRuntime, NodeRuntime];
    try {
      const address = await far.listen("tcp://127.0.0.1:0");
      await far.listen("shm://");
      expect(await near.connect(address)).toMatchObject({ id: far.id, transport: "shm", route: "direct" });
      expect(await near.lookup(far.id, "nobody")).toBeNull();
      expect(far.peers()).toMatchObject([{ id: near.id, transport: "shm" }]);
    } finally {
      await near.close(0);
      await far.close(0);
      await rm(folder, { recursive: true });
    }
  },
);
