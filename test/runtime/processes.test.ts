/** Two real processes over TCP, and what is left when one is killed or stopped. */

import { afterEach, expect, test } from "bun:test";
import { Tensor } from "../../protocols/tensor.ts";
import type { PeerEvent } from "../../runtime/membership.ts";
import type { Down } from "../../runtime/monitor.ts";
import { NodeRuntime } from "../../runtime/node.ts";
import { tcp } from "../../runtime/transports/tcp.ts";
import { heartbeat, Remote } from "./process_node.ts";
import { failure } from "./world.ts";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function childProcess() {
  const child = Bun.spawn([process.execPath, `${import.meta.dir}/process_node.ts`], {
    stdout: "pipe",
    stderr: "inherit",
  });
  cleanups.push(async () => {
    child.kill("SIGKILL");
    await child.exited;
  });
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  reader.releaseLock();
  return { child, address: new TextDecoder().decode(value).trim() };
}

test("an actor in another process is asked, then killed: monitors fire and asks reject, naming its node", async () => {
  const { child, address } = await childProcess();
  const node = new NodeRuntime({ name: "parent", transports: [tcp()], token: "t", log: () => {} });
  cleanups.push(() => node.close());
  const peer = await node.connect(address);
  const ref = await node.spawnOn<Remote>(peer.id, "Remote", []);
  expect(await ref.ask.processId()).toBe(child.pid);

  const data = Float32Array.from({ length: 2 ** 20 }, (_, i) => i);
  const doubled = (await ref.ask.twice(Tensor.f32([2 ** 20], data))) as Tensor;
  expect(doubled.f32()[2 ** 20 - 1]).toBe(2 * (2 ** 20 - 1));
  expect(data[1]).toBe(1);

  const down = Promise.withResolvers<Down>();
  const left = Promise.withResolvers<string>();
  node.monitor(ref, down.resolve);
  node.onPeer((event) => event.type === "left" && left.resolve(event.peer.name));
  const asks = [failure(ref.ask.never()), failure(ref.ask.twice(Tensor.zeros("f32", [2 ** 24])))];
  await ref
    .with({ timeoutMs: 5 })
    .ask.never()
    .catch(() => {});
  child.kill("SIGKILL");
  for (const ask of asks) {
    const { code, node: lost, message } = await ask;
    expect([code, lost]).toEqual(["NODE_LOST", peer.id]);
    expect(message).toContain(`node child (${peer.id}) is lost`);
  }
  const { reason } = await down.promise;
  expect(reason).toMatchObject({ code: "nodelost", node: peer.id });
  expect(await left.promise).toBe("child");
  expect(node.peers()).toEqual([]);
});

test("a process stopped for longer than the patience is lost, and comes back as a new generation", async () => {
  const { child, address } = await childProcess();
  const node = new NodeRuntime({
    ...{ name: "parent", actors: { Remote }, transports: [tcp()], token: "t", log: () => {}, heartbeat },
  });
  cleanups.push(() => node.close(0));
  const peer = await node.connect(address);
  const ref = await node.spawnOn<Remote>(peer.id, "Remote", []);
  await ref.ask.askInVain(await node.spawn(Remote, []));
  const ends: string[] = [];
  const waiting = ref.ask.never().catch(({ code }) => void ends.push(code));
  const left = Promise.withResolvers<PeerEvent>();
  const down = Promise.withResolvers<void>();
  node.onPeer((event) => event.type === "left" && left.resolve(event));
  node.monitor(ref, ({ reason }) => {
    ends.push(`down: ${reason.code}`);
    down.resolve();
  });
  await ref.ask.processId();

  child.kill("SIGSTOP");
  const { error, peer: stopped } = (await left.promise) as Extract<PeerEvent, { type: "left" }>;
  expect(error).toMatchObject({ code: "LINK_SILENT" });
  expect(stopped).toMatchObject({ id: peer.id, generation: 1 });
  await Promise.all([waiting, down.promise]);

  child.kill("SIGCONT");
  expect(await ref.ask.processId()).toBe(child.pid);
  expect(node.peers()).toMatchObject([{ id: peer.id, incarnation: peer.incarnation, generation: 2 }]);
  // On both sides what waited on the old generation was answered once.
  expect(ends.toSorted()).toEqual(["NODE_LOST", "down: nodelost"]);
  expect((await ref.ask.howItEnded()).toSorted()).toEqual(["NODE_LOST", "asked", "down: nodelost"]);
});

test("a port that is in use is one clear error", async () => {
  const { address } = await childProcess();
  const node = new NodeRuntime({ name: "second", transports: [tcp()], log: () => {} });
  cleanups.push(() => node.close());
  const error = await failure(node.listen(address));
  expect(error).toMatchObject({ code: "LISTEN_FAILED" });
  expect(error.message).toBe(
    `cannot listen on ${address}: the port is in use; choose another, or 0 for a free one`,
  );
});
