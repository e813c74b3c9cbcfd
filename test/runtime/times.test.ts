/** One number says how long everything waits for whoever is silent, and on every transport it means what it says. */

import { afterEach, describe, expect, test } from "bun:test";
import { VirtualClock } from "../../runtime/clock.ts";
import { shmUnavailable } from "../../runtime/index.ts";
import { NodeRuntime } from "../../runtime/node.ts";
import type { Times } from "../../runtime/times.ts";
import { timesOf } from "../../runtime/times.ts";
import { MemoryNetwork, memory } from "../../runtime/transports/memory.ts";
import { type Cable, severed } from "../../runtime/transports/severed.ts";
import { shm } from "../../runtime/transports/shm/shm.ts";
import { tcp } from "../../runtime/transports/tcp.ts";
import type { Transport } from "../../runtime/transports/transport.ts";
import { ws } from "../../runtime/transports/websocket/websocket.ts";

describe("all times", () => {
  const all = (patienceMs: number) => Object.entries(timesOf(patienceMs)) as [keyof Times, number][];

  test("grow with the patience", () => {
    const longer = timesOf(200_000);
    for (const [name, ms] of all(100_000)) expect([name, longer[name]]).toEqual([name, 2 * ms]);
  });

  test("become less with it, but those that computers and people take all the same", () => {
    const less = timesOf(100);
    const least = all(10_000).flatMap(([name, ms]) => (less[name] < ms ? [] : [name]));
    expect(least).toEqual(["connectMs", "routeMs", "explainMs", "graceMs"]);
  });

  test("are a node's own", () => {
    const heartbeat = { intervalMs: 100, patienceMs: 3000 };
    expect(new NodeRuntime({ name: "a", heartbeat }).times).toEqual(timesOf(3000));
  });
});

const TRANSPORTS: Readonly<
  Record<string, { transport(): Transport; address: string; skip?: string | null }>
> = {
  memory: { transport: () => memory(network), address: "memory://there" },
  tcp: { transport: () => tcp(), address: "tcp://127.0.0.1:0" },
  ws: { transport: () => ws(), address: "ws://127.0.0.1:0" },
  shm: { transport: () => shm(), address: "shm://", skip: shmUnavailable() },
};
const network = new MemoryNetwork();

describe("a peer whose link stands and that falls silent", () => {
  let nodes: NodeRuntime[] = [];
  afterEach(async () => {
    await Promise.all(nodes.map((node) => node.close(0)));
    nodes = [];
  });

  test.each(Object.entries(TRANSPORTS))(
    "is given up when the patience is over, and not before: %s",
    async (_, on) => {
      if (on.skip) return;
      const heartbeat = { intervalMs: 20, patienceMs: 200 };
      const cable: Cable = { cut: false };
      const clock = new VirtualClock(1_000_000);
      const own = { heartbeat, token: "t", log: () => {} };
      const there = new NodeRuntime({ ...own, name: "there", transports: [on.transport()] });
      // Its time goes by when this test says so, whatever the machine is busy with.
      const here = new NodeRuntime({
        ...{ ...own, name: "here", clock, transports: [severed(on.transport(), cable)] },
      });
      nodes = [here, there];
      await here.connect(await there.listen(on.address));
      const lost = Promise.withResolvers<string>();
      here.onPeer(({ type, reason }: any) => type === "left" && lost.resolve(reason));
      cable.cut = true;
      await clock.advance(199);
      expect(here.peers()).toHaveLength(1);
      await clock.advance(1);
      expect(here.peers()).toEqual([]);
      expect(await lost.promise).toMatch(/ has been silent for 200 ms$/);
    },
  );
});
