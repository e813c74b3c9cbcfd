/** What a peer can do to a link: bytes of a raw pipe against a node that also has an honest peer. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Codec, encodePlain } from "../../protocols/codec.ts";
import { encodeFrame, FrameKind, PROTOCOL_VERSION } from "../../protocols/frame.ts";
import { decodeClose, Handshake } from "../../protocols/handshake.ts";
import { DEFAULT_LIMITS } from "../../protocols/limits.ts";
import { toWire } from "../../protocols/messages.ts";
import { Actor } from "../../runtime/actor.ts";
import type { LogEntry } from "../../runtime/log.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import { seededRandom } from "../../runtime/random.ts";
import type { Ref } from "../../runtime/ref.ts";
import { memory } from "../../runtime/transports/memory.ts";
import type { Pipe } from "../../runtime/transports/transport.ts";
import { World } from "./world.ts";

class Echo extends Actor {
  async echo(value: unknown) {
    return value;
  }
}

const world = new World();
let server: NodeRuntime;
let honest: Ref<Echo>;
let logged: LogEntry[];
let allocated: number;

beforeEach(async () => {
  logged = [];
  allocated = 0;
  const allocate = (bytes: number) => {
    allocated += bytes;
    return new Uint8Array(bytes);
  };
  server = world.node("server", { log: (entry) => logged.push(entry), allocate });
  await server.spawn(Echo, [], { name: "echo" });
  await server.listen("memory://server");
  const friend = world.node("friend");
  const peer = await friend.connect("memory://server");
  honest = (await friend.lookup<Echo>(peer.id, "echo"))!;
});
afterEach(async () => {
  world.network.listeners.clear();
  await world.close();
});

/** A raw pipe to the server, and what comes back over it. */
class Intruder {
  pipe!: Pipe;
  readonly received: number[] = [];
  closed = false;

  static async connect(): Promise<Intruder> {
    const intruder = new Intruder();
    intruder.pipe = await memory(world.network).connect("memory://server", () => ({
      onData: (bytes) => void intruder.received.push(...bytes),
      onDrain: () => {},
      onClose: () => {
        intruder.closed = true;
      },
    }));
    return intruder;
  }

  /** Shakes hands as an honest node would. */
  async join(): Promise<this> {
    const self = { id: "intruder", name: "intruder", incarnation: 1, addresses: [], capabilities: {} };
    const handshake = new Handshake({ role: "initiator", self, nonce: new Uint8Array(32).fill(1) });
    this.send(encodeFrame(FrameKind.handshake, handshake.hello()));
    await world.clock.settle();
    const proof = await handshake.receive(Uint8Array.from(this.received.splice(0)).slice(16));
    this.send(encodeFrame(FrameKind.handshake, proof.send!));
    await world.clock.settle();
    // The smaller id decides on links, and the server has offered this one.
    const adoption = codec.encode(toWire({ type: "adopt", generation: 1 })).header;
    this.send(encodeFrame(FrameKind.message, adoption));
    await world.clock.settle();
    this.received.length = 0;
    return this;
  }

  send(bytes: Uint8Array): void {
    this.pipe.write(bytes);
  }

  /** The code in the close frame that came last. */
  complaint(): string | undefined {
    const bytes = Uint8Array.from(this.received);
    for (let at = 0; at + 16 <= bytes.length; ) {
      const length = new DataView(bytes.buffer).getUint32(at + 4, true);
      if (bytes[at + 3] === FrameKind.close) return decodeClose(bytes.slice(at + 16, at + 16 + length)).code;
      at += 16 + length;
    }
    return undefined;
  }
}

async function othersAreFine(): Promise<void> {
  expect(await honest.ask.echo("still here")).toBe("still here");
}

const codec = new Codec({ encodeRef: () => undefined, decodeRef: () => undefined }, DEFAULT_LIMITS);
const sized = (kind: number, length: number, chunk = 0): Uint8Array => {
  const bytes = encodeFrame(kind as 1, new Uint8Array(0), 1, chunk);
  new DataView(bytes.buffer).setUint32(4, length, true);
  return bytes;
};
const otherVersion = encodeFrame(FrameKind.ping);
otherVersion[2] = PROTOCOL_VERSION + 1;

describe("before the handshake", () => {
  const cases: [string, Uint8Array, string][] = [
    [
      "something that is not ours",
      new TextEncoder().encode("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
      "BAD_MAGIC",
    ],
    ["a frame of another version", otherVersion, "VERSION_MISMATCH"],
    [
      "a hello of another version",
      encodeFrame(FrameKind.handshake, encodePlain(["hello", 9])),
      "VERSION_MISMATCH",
    ],
    ["an oversized frame", sized(FrameKind.handshake, 2 ** 30), "LIMIT_EXCEEDED"],
    ["a message", encodeFrame(FrameKind.message, Uint8Array.of(0xc0)), "UNEXPECTED_FRAME"],
    ["an unknown kind", sized(200, 0), "UNEXPECTED_FRAME"],
    [
      "a handshake that is not msgpack",
      encodeFrame(FrameKind.handshake, Uint8Array.of(0xc1)),
      "MALFORMED_HEADER",
    ],
  ];
  for (const [what, bytes, code] of cases) {
    test(`${what}: ${code}, told to both, and others are untouched`, async () => {
      const intruder = await Intruder.connect();
      intruder.send(bytes);
      await world.clock.settle();
      expect(intruder.closed).toBe(true);
      expect(intruder.complaint()).toBe(code);
      expect(logged.at(-1)!.error).toMatchObject({ code });
      await othersAreFine();
    });
  }

  test("silence is not waited for without end", async () => {
    const intruder = await Intruder.connect();
    await world.clock.advance(10_000);
    expect(intruder.closed).toBe(true);
    await othersAreFine();
  });

  test("an end inside a frame is named", async () => {
    const intruder = await Intruder.connect();
    intruder.send(encodeFrame(FrameKind.handshake, new Uint8Array(50)).slice(0, 30));
    intruder.pipe.close();
    await world.clock.settle();
    expect(logged.at(-1)!.error).toMatchObject({ code: "TRUNCATED" });
    await othersAreFine();
  });
});

describe("after the handshake", () => {
  const head = (count: number, ...lengths: bigint[]) => {
    const body = new Uint8Array(4 + 8 * lengths.length + 1);
    const view = new DataView(body.buffer);
    view.setUint32(0, count, true);
    lengths.forEach((length, i) => {
      view.setBigUint64(4 + 8 * i, length, true);
    });
    return encodeFrame(FrameKind.head, body, 7);
  };
  const message = (value: unknown) => encodeFrame(FrameKind.message, codec.encode(value).header);
  const lookup = codec.encode(toWire({ type: "lookup", id: 1, name: "echo" })).header.slice();
  const anyRef = { encodeRef: () => ["nonsense"], decodeRef: () => undefined };
  const noRef = new Codec(anyRef, DEFAULT_LIMITS).encode([0, 1, "echo", [new WeakSet()]]).header;
  const cases: [string, Uint8Array, string][] = [
    ["a second handshake", encodeFrame(FrameKind.handshake, new Uint8Array(3)), "UNEXPECTED_FRAME"],
    ["a message that is too long", sized(FrameKind.message, 2 ** 31), "LIMIT_EXCEEDED"],
    ["a chunk of no message", encodeFrame(FrameKind.chunk, new Uint8Array(8), 3), "BAD_CHUNK"],
    ["a tensor of 2^60 bytes", head(1, 2n ** 60n), "LIMIT_EXCEEDED"],
    ["more segments than there are lengths", head(2, 8n), "MALFORMED_HEADER"],
    ["too many segments", head(2 ** 20), "LIMIT_EXCEEDED"],
    ["a header that is not msgpack", encodeFrame(FrameKind.message, Uint8Array.of(0xc1)), "MALFORMED_HEADER"],
    [
      "a header that nests too deep",
      encodeFrame(FrameKind.message, new Uint8Array(500).fill(0x91)),
      "MALFORMED_HEADER",
    ],
    ["a message nobody knows", message([77, 1]), "MALFORMED_HEADER"],
    ["a field of the wrong type", message([0, "one", "echo", []]), "MALFORMED_HEADER"],
    ["credit that was never spent", encodeFrame(FrameKind.credit, new Uint8Array(8).fill(1)), "BAD_CREDIT"],
    ["a tell that spends no credit", message([0, 1, "echo", []]), "BAD_CREDIT"],
    [
      "a tell at another actor's expense",
      encodeFrame(FrameKind.message, codec.encode([0, 1, "echo", []]).header, 0, 9),
      "BAD_CREDIT",
    ],
    ["a lookup that spends credit", encodeFrame(FrameKind.message, lookup, 0, 9), "BAD_CREDIT"],
    ["credit that is not made of grants", encodeFrame(FrameKind.credit, new Uint8Array(5)), "BAD_CREDIT"],
    ["chunks read that were never sent", encodeFrame(FrameKind.read, new Uint8Array(0), 5), "BAD_CREDIT"],
    ["a ref that is none", encodeFrame(FrameKind.message, noRef, 0, 2), "MALFORMED_HEADER"],
    ["a ping with a body", encodeFrame(FrameKind.ping, new Uint8Array(1)), "LIMIT_EXCEEDED"],
  ];
  for (const [what, bytes, code] of cases) {
    test(`${what}: ${code}, and others are untouched`, async () => {
      const intruder = await (await Intruder.connect()).join();
      expect(server.peers().map((p) => p.name)).toContain("intruder");
      intruder.send(bytes);
      await world.clock.settle();
      expect(intruder.closed).toBe(true);
      expect(intruder.complaint()).toBe(code);
      expect(server.peers().map((p) => p.name)).toEqual(["friend"]);
      expect(allocated).toBe(0);
      await othersAreFine();
    });
  }

  test("a peer that ignores the window is closed", async () => {
    const intruder = await (await Intruder.connect()).join();
    const charged = sized(FrameKind.head, 0, 1);
    const body = head(1, 2n ** 31n).slice(16);
    new DataView(charged.buffer).setUint32(4, body.byteLength, true);
    for (const id of [1, 2]) {
      new DataView(charged.buffer).setUint32(8, id, true);
      intruder.send(charged.slice());
      intruder.send(body);
    }
    await world.clock.settle();
    expect(intruder.complaint()).toBe("BAD_CREDIT");
    await othersAreFine();
  });
});

test("a peer that falls silent is given up when the patience is over, and not before", async () => {
  const intruder = await (await Intruder.connect()).join();
  await world.clock.advance(9_900);
  expect(intruder.closed).toBe(false);
  await world.clock.advance(1_100);
  expect(intruder.closed).toBe(true);
  expect(intruder.complaint()).toBe("LINK_SILENT");
  expect(server.peers().map((p) => p.name)).toEqual(["friend"]);
  await othersAreFine();
});

test("a monitor's callback that throws is logged and harms no link", async () => {
  const friend = server.peers()[0]!;
  const echo = (await server.lookup<Echo>(server.id, "echo"))!;
  server.monitor(echo, () => {
    throw new Error("careless");
  });
  await server.stop(echo);
  expect(logged.at(-1)!.error!.message).toBe("careless");
  expect(server.peers()).toEqual([friend]);
});

describe("any bytes whatever", () => {
  test("close that link, by name, or are an honest message", async () => {
    const random = seededRandom(11);
    const good = [
      encodeFrame(FrameKind.ping),
      encodeFrame(FrameKind.message, codec.encode(toWire({ type: "lookup", id: 1, name: "echo" })).header),
      encodeFrame(FrameKind.message, codec.encode(toWire({ type: "monitor", id: 2, to: 1 })).header),
    ];
    const codes = new Set<string>();
    for (let i = 0; i < 150; i++) {
      const intruder = await Intruder.connect();
      if (i % 3 > 0) await intruder.join();
      for (let n = 0; n < 6 && !intruder.closed; n++) {
        let bytes = random.bytes(random.integer(64));
        if (random.next() < 0.7) {
          bytes = good[random.integer(good.length)]!.slice();
          for (let flips = random.integer(3); flips > 0; flips--) {
            const at = random.integer(bytes.length);
            bytes[at] = bytes[at]! ^ (1 << random.integer(8));
          }
          if (random.next() < 0.2) bytes = bytes.slice(0, random.integer(bytes.length));
        }
        intruder.send(bytes);
      }
      intruder.pipe.close();
      await world.clock.settle();
      expect(server.peers().map((p) => p.name)).toEqual(["friend"]);
    }
    for (const { error } of logged) codes.add(String((error as { code?: unknown } | undefined)?.code));
    for (const code of codes) expect(code).toMatch(/^[A-Z_]+$/);
    expect(codes).toContain("BAD_MAGIC");
    expect(codes).toContain("MALFORMED_HEADER");
    await othersAreFine();
  });
});
