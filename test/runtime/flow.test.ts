/** Flow on a link: who waits for whom, what is bounded, and whose memory it is. */

import { afterEach, expect, test } from "bun:test";
import { Tensor } from "../../protocols/tensor.ts";
import { Actor } from "../../runtime/actor.ts";
import type { PeerEvent } from "../../runtime/membership.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { NodeOptions } from "../../runtime/node_options.ts";
import type { Ref } from "../../runtime/ref.ts";
import { memory } from "../../runtime/transports/memory.ts";
import type { Pipe, PipeHandlers, Transport } from "../../runtime/transports/transport.ts";
import { Host } from "../sim/host.ts";
import { failure, World } from "./world.ts";

const world = new World();
afterEach(async () => {
  world.network.listeners.clear();
  await world.close();
});

/** Handles nothing after its first message until it is let go. */
class Slow extends Actor {
  static readonly gate = { open: Promise.withResolvers<void>() };
  async take(_: Tensor | string) {
    await Slow.gate.open.promise;
  }
}

class Quick extends Actor {
  async echo<T>(value: T) {
    return value;
  }
}

async function pair(
  options: Partial<NodeOptions> = {},
): Promise<{ server: NodeRuntime; slow: Ref<Slow>; quick: Ref<Quick> }> {
  Slow.gate.open = Promise.withResolvers();
  const server = world.node("server", options);
  await server.spawn(Slow, [], { name: "slow" });
  await server.spawn(Quick, [], { name: "quick" });
  await server.listen(options.transports ? "pass://server" : "memory://server");
  const client = world.node("client", options);
  const peer = await client.connect(options.transports ? "pass://server" : "memory://server");
  const slow = (await client.lookup<Slow>(peer.id, "slow"))!;
  const quick = (await client.lookup<Quick>(peer.id, "quick"))!;
  return { server, slow, quick };
}

test("an actor that handles nothing holds up its own messages, and no other actor's", async () => {
  const { slow, quick } = await pair({ limits: { windowBytes: 2 ** 19 } });
  for (let i = 0; i < 30; i++) slow.tell.take(Tensor.zeros("u8", [2 ** 16]));
  for (let i = 0; i < 5; i++) expect(await quick.ask.echo(i)).toBe(i);
  const tensor = Tensor.zeros("u8", [2 ** 20]);
  expect(((await quick.ask.echo(tensor)) as Tensor).bytes.byteLength).toBe(2 ** 20);
  Slow.gate.open.resolve();
});

test("what waits for a peer is bounded in bytes, and one too many is refused aloud", async () => {
  const { slow, quick } = await pair({ limits: { windowBytes: 2 ** 20, queueBytes: 8 * 2 ** 20 } });
  let sent = 0;
  const send = () => {
    for (; sent < 100; sent++) slow.tell.take(Tensor.zeros("u8", [2 ** 20]));
  };
  expect(send).toThrow("bytes may");
  expect(sent).toBeLessThan(12);
  const refused = await failure(slow.ask.take(Tensor.zeros("u8", [2 ** 20])));
  expect(refused.code).toBe("MAILBOX_FULL");
  expect(await quick.ask.echo("others")).toBe("others"); // small, and at once
  Slow.gate.open.resolve();
});

test("a peer that is heard and reads nothing is given up when the patience is over", async () => {
  const { server } = await pair({ heartbeat: { intervalMs: 1000, patienceMs: 100_000 } });
  const { transport, clog } = clogging();
  const other = world.node("other", { transports: [transport] });
  await other.listen("memory://other");
  const lost: string[] = [];
  other.onPeer((event) => {
    if (event.type === "left") lost.push(event.reason);
  });
  await server.connect("memory://other");
  clog();
  await world.clock.advance(9_000);
  expect(lost).toEqual([]);
  await world.clock.advance(5_000);
  expect(lost).toHaveLength(1);
  expect(lost[0]).toContain("has read nothing for 10000 ms");
});

test("a peer that has stood still is not given up for what it could not read meanwhile", async () => {
  const machine = new Host("server", world.clock);
  const { server } = await pair({ clock: machine, heartbeat: { intervalMs: 1000, patienceMs: 100_000 } });
  const { transport, clog } = clogging();
  const other = world.node("other", { transports: [transport] });
  await other.listen("memory://other");
  const lost: string[] = [];
  other.onPeer((event) => event.type === "left" && lost.push(event.reason));
  await server.connect("memory://other");
  clog();
  machine.freeze();
  await world.clock.advance(8_000);
  machine.thaw();
  await world.clock.advance(9_000);
  expect(lost).toEqual([]);
  await world.clock.advance(3_000);
  expect(lost[0]).toContain("has read nothing for 10000 ms");
});

test("answers that a peer does not read are bounded; beyond that it is lost", async () => {
  const { transport, clog } = clogging();
  const other = world.node("other", { transports: [transport], limits: { windowBytes: 2 ** 28 } });
  await other.spawn(Quick, [], { name: "quick" });
  await other.listen("memory://other");
  const left = Promise.withResolvers<PeerEvent>();
  other.onPeer((event) => event.type === "left" && left.resolve(event));
  const client = world.node("client");
  const peer = await client.connect("memory://other");
  const quick = (await client.lookup<Quick>(peer.id, "quick"))!;
  clog();
  const text = "x".repeat(2 ** 16);
  const asks = Array.from({ length: 1100 }, () => failure(quick.ask.echo(text)));
  await world.clock.settle();
  expect(await left.promise).toMatchObject({ error: { code: "LIMIT_EXCEEDED" } });
  const codes = new Set((await Promise.all(asks)).map(({ code }) => code));
  expect([...codes]).toEqual(["NODE_LOST"]);
});

test("a tensor given to a tell passes to the receiver with its memory, where the pipe passes memory on", async () => {
  const received: Tensor[] = [];
  class Keep extends Actor {
    async keep(tensor: Tensor) {
      received.push(tensor);
    }
    async give() {
      return received[0];
    }
    async look(tensor: Tensor) {
      received.push(tensor);
      return tensor.elements;
    }
  }
  const { server } = await pair({ transports: [passing()] });
  await server.spawn(Keep, [], { name: "keep" });
  const client = world.node("second", { transports: [passing()] });
  const peer = await client.connect("pass://server");
  const keep = (await client.lookup<Keep>(peer.id, "keep"))!;
  const tensor = Tensor.f32([2 ** 20], new Float32Array(2 ** 20).fill(7));
  keep.tell.keep(tensor);
  await world.clock.settle();
  expect(tensor.bytes.byteLength).toBe(0); // gone
  expect(received[0]!.f32()[2 ** 20 - 1]).toBe(7);
  expect(() => keep.tell.keep(tensor)).toThrow("given to a tell");

  const back = (await keep.ask.give())!;
  expect(back.f32()[0]).toBe(7);
  expect(received[0]!.bytes.byteLength).toBe(0); // a result is given away as well

  const lent = Tensor.f32([2 ** 20], new Float32Array(2 ** 20).fill(8));
  expect(await keep.ask.look(lent)).toBe(2 ** 20);
  expect(lent.f32()[5]).toBe(8); // an ask only lends
  const part = Tensor.f32([10], new Float32Array(20).subarray(0, 10));
  keep.tell.keep(part);
  await world.clock.settle();
  expect(part.bytes.byteLength).toBe(40); // its memory holds more than the tensor
});

test("within a node nothing is copied: arguments and results pass by reference", async () => {
  const node = world.node("alone");
  const quick = await node.spawn(Quick, []);
  const tensor = Tensor.f32([2], [1, 2]);
  expect((await quick.ask.echo(tensor)) as Tensor).toBe(tensor);
});

/** A transport whose listening end takes nothing more from some moment on, though what is sent to it still arrives. */
function clogging(): { transport: Transport; clog(): void } {
  let clogged = false;
  const inner = memory(world.network);
  const transport: Transport = {
    scheme: "memory",
    connect: inner.connect,
    listen: (address, accept) =>
      inner.listen(address, (pipe) =>
        accept(
          new Proxy(pipe, {
            get(target, key) {
              if (key === "write") return (bytes: Uint8Array) => (clogged ? 0 : target.write(bytes));
              return Reflect.get(target, key, target);
            },
            set: (target, key, value) => Reflect.set(target, key, value, target),
          }),
        ),
      ),
  };
  const clog = () => {
    clogged = true;
  };
  return { transport, clog };
}

/** Pipes that pass owned memory on, as threads do: the giver's view of it is detached. */
const places = new Map<string, (pipe: Pipe) => PipeHandlers>();
function passing(): Transport {
  class End implements Pipe {
    handlers!: PipeHandlers;
    other!: End;
    readonly chunkBytes = Number.POSITIVE_INFINITY;
    readonly peer = "pass://";
    private open = true;
    write(bytes: Uint8Array, owned = false): number {
      if (!this.open) return 0;
      const moved = owned
        ? structuredClone(bytes, { transfer: [bytes.buffer as ArrayBuffer] })
        : bytes.slice();
      queueMicrotask(() => this.other.open && this.other.handlers.onData(moved, true));
      return moved.byteLength;
    }
    close(error?: Error): void {
      if (!this.open) return;
      this.open = false;
      queueMicrotask(() => {
        this.handlers.onClose(error);
        this.other.close();
      });
    }
  }
  return {
    scheme: "pass",
    async listen(address, accept) {
      places.set(address, accept);
      return {
        address,
        async close() {
          places.delete(address);
        },
      };
    },
    async connect(address, handlers) {
      const [near, far] = [new End(), new End()];
      near.other = far;
      far.other = near;
      near.handlers = handlers(near);
      far.handlers = places.get(address)!(far);
      return near;
    },
  };
}
