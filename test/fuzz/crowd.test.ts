/**
 * Strangers in numbers: each is refused with the name of what was wrong with it, and together they cost no more
 * memory than a bounded waiting room. The others, with real sockets and certificates, are in
 * test/runtime/security/strangers.test.ts.
 */

import { afterEach, expect, test } from "bun:test";
import { encodeFrame, FRAME_HEADER_BYTES, FrameKind, PROTOCOL_VERSION } from "../../protocols/frame.ts";
import { decodeClose, Handshake } from "../../protocols/handshake.ts";
import { HANDSHAKE_BYTES } from "../../protocols/limits.ts";
import { Actor } from "../../runtime/actor.ts";
import { VirtualClock } from "../../runtime/clock.ts";
import { NodeRuntime } from "../../runtime/node.ts";
import { seededRandom } from "../../runtime/random.ts";
import { MemoryNetwork, memory } from "../../runtime/transports/memory.ts";
import type { Pipe } from "../../runtime/transports/transport.ts";
import { grown, holdings } from "../sim/leaks.ts";
import { framesOf } from "./corpus.ts";
import { Tap } from "./tap.ts";

const TOKEN = "the token of the house";
const CROWD = 3000;
/** 256 may wait at once (see membership.ts), each with a handshake's bytes and a link that is not ready. */
const MOST_BYTES = 256 * 64 * 1024;

const clock = new VirtualClock(1_000_000);
const random = seededRandom(1);
const transport = memory(new MemoryNetwork());
const nodes: NodeRuntime[] = [];
afterEach(async () => {
  for (const node of nodes.splice(0).reverse()) {
    const closed = node.close();
    await clock.advance(10_000);
    await closed;
  }
});

class Echo extends Actor {
  async echo(value: unknown): Promise<unknown> {
    return value;
  }
}

function node(name: string, through = transport): NodeRuntime {
  const made = new NodeRuntime({
    ...{ name, id: name, clock, random, token: TOKEN, transports: [through], log: () => {} },
  });
  nodes.push(made);
  return made;
}

const frame = (body: Uint8Array) => encodeFrame(FrameKind.handshake, body);
const handshake = (token: string | undefined) =>
  new Handshake({
    ...{ role: "initiator", token, nonce: random.bytes(32) },
    self: { id: "stranger", name: "stranger", incarnation: 1, addresses: [], capabilities: {} },
  });

/** Says what it has to say and goes on with a handshake if it has one. Returns the code it was refused with. */
async function stranger(address: string, says: readonly Uint8Array[], speaker?: Handshake) {
  let code: string | undefined;
  let pipe: Pipe | undefined;
  const heard = (bytes: Uint8Array) => {
    for (const each of framesOf([bytes])) {
      const body = each.subarray(FRAME_HEADER_BYTES);
      if (each[3] === FrameKind.close) code = decodeClose(body).code;
      else if (speaker) {
        const { send } = speaker.receive(body);
        if (send) pipe!.write(frame(send));
      }
    }
  };
  pipe = await transport.connect(address, () => ({ onData: heard, onDrain() {}, onClose() {} }));
  for (const bytes of says) pipe.write(bytes);
  await clock.settle();
  return () => code;
}

/** What a real session said, for somebody else to say again. */
async function overheard(address: string): Promise<readonly Uint8Array[]> {
  const tap = new Tap(transport, true);
  const friend = node("friend", tap.transport);
  await friend.connect(address);
  const said = framesOf(tap.sent);
  const closed = friend.close();
  await clock.advance(10_000);
  await closed;
  return said;
}

/** Each kind of stranger, and the name of its fault. */
async function kinds(address: string) {
  const replay = await overheard(address);
  const hello = (token: string | undefined) => {
    const speaker = handshake(token);
    return { says: [frame(speaker.hello())], speaker };
  };
  const later = frame(handshake(TOKEN).hello());
  later[2] = PROTOCOL_VERSION + 1;
  const half = frame(new Uint8Array(HANDSHAKE_BYTES)).subarray(0, HANDSHAKE_BYTES / 2);
  const large = new Uint8Array(FRAME_HEADER_BYTES);
  large.set(frame(new Uint8Array(HANDSHAKE_BYTES + 1)).subarray(0, FRAME_HEADER_BYTES));
  return [
    { code: "NO_TOKEN", make: () => hello(undefined) },
    { code: "WRONG_TOKEN", make: () => hello("another token") },
    { code: "REPLAYED", make: () => ({ says: replay }) },
    { code: "VERSION_MISMATCH", make: () => ({ says: [later] }) },
    { code: "BAD_MAGIC", make: () => ({ says: [new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n")] }) },
    { code: "LIMIT_EXCEEDED", make: () => ({ says: [large] }) },
    { code: "UNEXPECTED_FRAME", make: () => ({ says: [encodeFrame(FrameKind.message)] }) },
    { code: "MALFORMED_HEADER", make: () => ({ says: [frame(Uint8Array.of(0xc1))] }) },
    { code: "LINK_SILENT", make: () => ({ says: [half] }) },
    { code: "LINK_SILENT", make: () => ({ says: [] as Uint8Array[] }) },
  ] as readonly { code: string; make(): { says: readonly Uint8Array[]; speaker?: Handshake } }[];
}

test("each stranger is told by name why it is refused", async () => {
  const address = await node("desk").listen("memory://desk");
  for (const { code, make } of await kinds(address)) {
    const { says, speaker } = make();
    const told = await stranger(address, says, speaker);
    await clock.advance(30_000);
    expect([code, told()]).toEqual([code, code]);
  }
});

test(`${CROWD} strangers who never leave cost a bounded room, and nobody else notices`, async () => {
  const desk = node("desk");
  const address = await desk.listen("memory://desk");
  await desk.spawn(Echo, [], { name: "echo" });
  const all = await kinds(address);
  const friend = node("colleague");
  await friend.connect(address);
  const echo = (await friend.lookup<Echo>("desk", "echo"))!;
  const before = holdings(desk);
  const heap = heapBytes();
  for (let i = 0; i < CROWD; i++) {
    const { says, speaker } = all[i % all.length]!.make();
    await stranger(address, says, speaker);
    if (i % 100 === 0) expect(await echo.ask.echo(i)).toBe(i);
  }
  expect(heapBytes() - heap).toBeLessThan(MOST_BYTES);
  await clock.advance(30_000);
  expect(grown(before, holdings(desk))).toEqual([]);
  expect(await echo.ask.echo("still here")).toBe("still here");
});

function heapBytes(): number {
  Bun.gc(true);
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
