/** Nodes that are connected to a third one and reach each other through it: WebRTC and relay between processes. */

import { afterEach, describe, expect, test } from "bun:test";
import { Tensor } from "../../../protocols/tensor.ts";
import { systemClock } from "../../../runtime/clock.ts";
import type { Down } from "../../../runtime/monitor.ts";
import { NodeRuntime } from "../../../runtime/node.ts";
import { RELAY_WINDOW_BYTES } from "../../../runtime/transports/relay/messages.ts";
import { relay } from "../../../runtime/transports/relay/relay.ts";
import { tcp } from "../../../runtime/transports/tcp.ts";
import { webrtc } from "../../../runtime/transports/webrtc/webrtc.ts";
import { ws } from "../../../runtime/transports/websocket/websocket.ts";
import { failure } from "../world.ts";
import type { Far } from "./third_node.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

for (const { scheme, make, route } of [
  { scheme: "webrtc", make: () => webrtc(), route: "direct" },
  { scheme: "relay", make: () => relay(), route: "relayed" },
] as const) {
  describe(`over ${scheme}://`, () => {
    /** A coordinator and a node here, and one in a process of its own that both reach. */
    async function meet(patienceMs = 10_000) {
      const options = { token: "t", log: () => {}, heartbeat: { intervalMs: 200, patienceMs } };
      const between = new NodeRuntime({ name: "between", transports: [tcp(), ws()], ...options });
      const here = new NodeRuntime({ name: "here", transports: [ws(), make()], ...options });
      cleanups.push(
        () => between.close(0),
        () => here.close(0),
      );
      const address = await between.listen("tcp://127.0.0.1:0");
      await here.connect(await between.listen("ws://127.0.0.1:0/troupe"));
      const child = Bun.spawn([process.execPath, `${import.meta.dir}/third_node.ts`, address, scheme], {
        ...{ stdin: "pipe", stdout: "pipe", stderr: "inherit" },
      });
      cleanups.push(async () => {
        child.kill("SIGKILL");
        await child.exited;
      });
      const { value } = await child.stdout.getReader().read();
      const id = new TextDecoder().decode(value).trim();
      const peer = await here.connect(`${scheme}://${id}`);
      return { between, here, child, id, peer };
    }

    test("tensors cross both ways, and the way is told; everyone leaves in good order", async () => {
      const { here, child, id, peer } = await meet();
      expect(peer).toMatchObject({ id, transport: scheme, route });
      const ref = await here.spawnOn<Far>(id, "Far", []);
      const data = Float32Array.from({ length: 2 ** 19 }, (_, i) => i);
      const doubled = (await ref.ask.twice(Tensor.f32([2 ** 19], data))) as Tensor;
      expect(Bun.hash(doubled.bytes)).toBe(Bun.hash(data.map((x) => 2 * x)));
      const left = Promise.withResolvers<unknown>();
      here.onPeer((event) => event.type === "left" && event.peer.id === id && left.resolve(event.error));
      child.stdin.write("close\n");
      child.stdin.flush();
      expect(await left.promise).toBeUndefined();
      expect(await child.exited).toBe(0); // by itself: nothing is left open
    });

    test("a process that is stopped takes its window, and all that was told once it goes on", async () => {
      const { between, here, child, id } = await meet();
      const ref = await here.spawnOn<Far>(id, "Far", []);
      child.kill("SIGSTOP");
      const tensor = Tensor.zeros("u8", [2 ** 20]);
      for (let i = 0; i < 16; i++) ref.tell.note(tensor);
      await systemClock.sleep(50);
      expect(between.status().relayed.bytes).toBeLessThanOrEqual(RELAY_WINDOW_BYTES);
      child.kill("SIGCONT");
      expect(await ref.ask.noted()).toBe(16 * 2 ** 20);
    });

    test("two that connect to each other at the same moment are connected once", async () => {
      const options = { token: "t", log: () => {} };
      const [between, a, b] = ["between", "a", "b"].map((name) => {
        const node = new NodeRuntime({ name, transports: [tcp(), make()], ...options });
        cleanups.push(() => node.close(0));
        return node;
      }) as [NodeRuntime, NodeRuntime, NodeRuntime];
      const address = await between.listen("tcp://127.0.0.1:0");
      for (const node of [a, b]) {
        await node.connect(address);
        await node.listen(`${scheme}://`);
      }
      await Promise.all([a.connect(`${scheme}://${b.id}`), b.connect(`${scheme}://${a.id}`)]);
      const seen = (node: NodeRuntime) => node.peers().map(({ name, transport }) => `${name} ${transport}`);
      expect([seen(a), seen(b)]).toEqual([
        ["between tcp", `b ${scheme}`],
        ["between tcp", `a ${scheme}`],
      ]);
    });

    test("a killed process is a lost node: asks reject and monitors fire", async () => {
      const { here, child, id } = await meet(2000);
      const ref = await here.spawnOn<Far>(id, "Far", []);
      const down = Promise.withResolvers<Down>();
      here.monitor(ref, down.resolve);
      const asked = failure(ref.ask.never());
      child.kill("SIGKILL");
      expect(await asked).toMatchObject({ code: "NODE_LOST", node: id });
      expect((await down.promise).reason).toMatchObject({ code: "nodelost", node: id });
    });
  });
}
