/** Nodes in threads of one process: started, connected, moved tensors to, blocked, broken and closed. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { Tensor } from "../../../../protocols/tensor.ts";
import { systemClock, VirtualClock } from "../../../../runtime/clock.ts";
import type { Down } from "../../../../runtime/monitor.ts";
import { NodeRuntime } from "../../../../runtime/node.ts";
import type { Ref } from "../../../../runtime/ref.ts";
import { startWorkerNode, type WorkerNodeOptions } from "../../../../runtime/transports/worker/host.ts";
import { WorkerNetwork, worker } from "../../../../runtime/transports/worker/network.ts";
import { PortPipe } from "../../../../runtime/transports/worker/pipe.ts";
import type { InThread } from "./thread.ts";

const MODULE = new URL("./thread.ts", import.meta.url);
const cleanups: (() => unknown)[] = [];
let network: WorkerNetwork;
let node: NodeRuntime;

beforeEach(() => {
  network = new WorkerNetwork();
  node = new NodeRuntime({
    ...{ name: "main", token: "t", transports: [worker(network)], log: () => undefined },
    // Much less than a thread will be silent for.
    heartbeat: { intervalMs: 5, patienceMs: 20 },
  });
  cleanups.push(() => node.close());
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function thread(options: WorkerNodeOptions = {}) {
  const started = await startWorkerNode(network, MODULE, { token: "t", ...options });
  cleanups.push(() => started.close());
  const { id, name } = await node.connect(started.address);
  const ref: Ref<InThread> = await node.spawnOn<InThread>(id, "InThread", []);
  return { started, id, name, ref };
}

test("actors in a thread are asked like any other; tensors come and go whole", async () => {
  const { started, name, ref } = await thread({ name: "calculator" });
  expect(started.address).toMatch(/^worker:\/\/calculator-/);
  expect(name).toBe("calculator");
  expect(await ref.ask.add(2)).toBe(2);
  const data = Float32Array.from({ length: 2 ** 20 }, (_, i) => i % 7);
  const back = (await ref.ask.echo(Tensor.f32([2 ** 20], data))) as Tensor;
  expect(back.f32()).toEqual(data);
  expect(data[8]).toBe(1); // an ask only lends
  expect(await ref.ask.sum(Tensor.f32([2], Float32Array.of(1, 2)))).toBe(3);
});

test("threads talk to one another through ports of their own", async () => {
  const [one, two] = [await thread(), await thread()];
  expect(await one.ref.ask.addThere(two.ref, 5)).toBe(5);
  expect(await two.ref.ask.add(1)).toBe(6);
  // The one's end is told to the other, not only to this thread.
  const asked = one.ref.ask.addThere(two.ref, 1);
  await asked;
  await two.ref.ask.breakThread();
  await two.started.ended;
  await expect(one.ref.ask.addThere(two.ref, 1)).rejects.toThrow();
});

test("a thread that computes is silent, not dead", async () => {
  const { ref } = await thread();
  const left: string[] = [];
  node.onPeer((event) => left.push(event.type));
  expect(await ref.ask.compute(200)).toBe(200);
  expect(await ref.ask.add(1)).toBe(1);
  expect(left).toEqual([]);
});

for (const how of ["breakThread", "rejectUnseen"] as const) {
  test(`an error that nobody catches ends the thread, and is what everyone is told (${how})`, async () => {
    const { started, id, ref } = await thread();
    const text = how === "breakThread" ? "the thread is broken" : "nobody saw this";
    const down = Promise.withResolvers<Down>();
    node.monitor(ref, down.resolve);
    ref.tell[how]();
    const waiting = ref.ask.wait();
    waiting.catch(() => undefined);
    const error = await started.ended;
    expect(error).toMatchObject({
      code: "NODE_LOST",
      message: expect.stringContaining(`RangeError: ${text}`),
    });
    expect((error!.cause as Error).stack).toContain("thread.ts");
    expect((await down.promise).reason).toMatchObject({ code: "nodelost", node: id });
    await expect(waiting).rejects.toThrow(text);
  });
}

test("a module that fails, or is no node, is an error of the start with its words", async () => {
  const failing = new URL(`data:text/javascript,${encodeURIComponent('throw new TypeError("bad module")')}`);
  await expect(startWorkerNode(network, failing)).rejects.toMatchObject({
    code: "SPAWN_FAILED",
    message: expect.stringContaining("bad module"),
  });
  const clock = new VirtualClock();
  const idle = new URL(`data:text/javascript,${encodeURIComponent("setTimeout(() => {}, 60000)")}`);
  const started = startWorkerNode(network, idle, { clock });
  started.catch(() => undefined);
  await clock.advance(60_000);
  await expect(started).rejects.toThrow("did not call workerNode");
});

test("a thread with another token is refused", async () => {
  const started = await startWorkerNode(network, MODULE, { token: "another" });
  cleanups.push(() => started.close());
  // Not expect().rejects: Bun's waits in a loop of its own, in which a port gets no messages.
  const error = await node.connect(started.address).catch((refused) => refused);
  expect(error).toMatchObject({ code: "WRONG_TOKEN" });
});

test("closing ends the thread, even one that never comes back; its address is nobody's", async () => {
  const { started, ref } = await thread();
  const channel = new BroadcastChannel(started.address);
  cleanups.push(() => channel.close());
  const begun = new Promise((resolve) => channel.addEventListener("message", resolve));
  const asked = ref.ask.compute(60_000, started.address);
  asked.catch(() => undefined);
  await begun;
  await started.close(20);
  await started.close();
  expect(await started.ended).toBeUndefined();
  await expect(asked).rejects.toMatchObject({ code: "NODE_LOST" });
  await expect(node.connect(started.address)).rejects.toMatchObject({
    code: "CONNECT_FAILED",
    message: expect.stringContaining("nobody listens there"),
  });
});

// --- the pipe ----------------------------------------------------------------------------------------------------

/** Two ends of a channel in this thread; what arrives is kept. */
function channel() {
  const { port1, port2 } = new MessageChannel();
  const got: { bytes: Uint8Array; owned: boolean | undefined }[] = [];
  let drains = 0;
  let tell: (() => void) | undefined;
  const make = (port: MessagePort) => {
    const pipe = new PortPipe(port, "there", systemClock, () => undefined);
    pipe.handlers = {
      onData: (bytes, owned) => {
        got.push({ bytes, owned });
        tell?.();
      },
      onDrain: () => {
        drains++;
        tell?.();
      },
      onClose: () => undefined,
    };
    cleanups.push(() => pipe.close());
    return pipe;
  };
  const [near, far] = [make(port1), make(port2)];
  near.start();
  const until = async (condition: () => boolean) => {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        tell = resolve;
      });
    }
  };
  return { near, far, got, until, drains: () => drains };
}

test("what is given away is passed on, what is lent is copied; both are the receiver's", async () => {
  const { near, far, got, until } = channel();
  far.start();
  const given = Uint8Array.of(1, 2, 3);
  const lent = Uint8Array.of(4, 5);
  const shared = new Uint8Array(new SharedArrayBuffer(2));
  const part = new Uint8Array(8).subarray(2, 4);
  near.write(given, true);
  near.write(lent);
  near.write(shared, true);
  near.write(part, true);
  await until(() => got.length === 4);
  expect(given.byteLength).toBe(0); // it is there now
  expect([lent.byteLength, shared.byteLength, part.buffer.byteLength]).toEqual([2, 2, 8]);
  expect(got.map(({ bytes }) => [...bytes])).toEqual([
    [1, 2, 3],
    [4, 5],
    [0, 0],
    [0, 0],
  ]);
  for (const { bytes, owned } of got) {
    expect(owned).toBe(true);
    expect(bytes.buffer).toBeInstanceOf(ArrayBuffer);
    expect(bytes.buffer.byteLength).toBe(bytes.byteLength);
  }
});

test("memory that cannot be passed on is copied", async () => {
  const { near, far, got, until } = channel();
  far.start();
  const heap = new Uint8Array(new WebAssembly.Memory({ initial: 1 }).buffer);
  heap[7] = 7;
  expect(near.write(heap, true)).toBe(heap.byteLength);
  await until(() => got.length === 1);
  expect([heap[7], got[0]!.bytes[7], got[0]!.bytes.byteLength]).toEqual([7, 7, 65_536]);
});

test("a thread that reads nothing bounds what is posted to it; a drain follows when it reads", async () => {
  const { near, far, got, until, drains } = channel();
  const piece = new Uint8Array(2 ** 20);
  let accepted = 0;
  for (let i = 0; i < 100; i++) accepted += near.write(piece);
  expect(accepted).toBe(32 * 2 ** 20);
  const kept = new Uint8Array(16);
  expect(near.write(kept, true)).toBe(0);
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect([kept.byteLength, drains()]).toEqual([16, 0]); // still the writer's
  far.start();
  await until(() => drains() === 1);
  expect(near.write(kept, true)).toBe(16);
  await until(() => got.at(-1)?.bytes.byteLength === 16);
});
