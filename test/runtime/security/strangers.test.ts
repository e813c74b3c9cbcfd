/** Who is refused, over real sockets, and that it costs nobody else anything. */

import { afterEach, describe, expect, test } from "bun:test";
import { connect as connectPlain, createServer, type Server, type Socket } from "node:net";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { encodePlain } from "../../../protocols/codec.ts";
import { encodeFrame, FrameKind, PROTOCOL_VERSION } from "../../../protocols/frame.ts";
import { Actor } from "../../../runtime/actor.ts";
import { systemClock, VirtualClock } from "../../../runtime/clock.ts";
import type { LogEntry } from "../../../runtime/log.ts";
import { NodeRuntime } from "../../../runtime/node.ts";
import type { NodeOptions } from "../../../runtime/node_options.ts";
import { systemRandom } from "../../../runtime/random.ts";
import { type Certificate, createCertificate } from "../../../runtime/security/certificate.ts";
import { createToken, pinned } from "../../../runtime/security/token.ts";
import { type TcpOptions, tcp } from "../../../runtime/transports/tcp.ts";
import { failure } from "../world.ts";
import { impostorClient, impostorServer } from "./impostor.ts";

class Echo extends Actor {
  async echo(value: unknown) {
    return value;
  }
}

const [ours, theirs, third] = (await Promise.all([0, 1, 2].map(createCertificate))) as [
  Certificate,
  Certificate,
  Certificate,
];
const token = createToken(systemRandom, ours.fingerprint);
/** Bun has both; the other platforms have node:net. */
const SOCKETS = process.versions.bun ? (["bun", "node"] as const) : (["node"] as const);

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface Settings extends Omit<Partial<NodeOptions>, "token"> {
  readonly token?: string | undefined;
  readonly tcp?: TcpOptions;
}

/** A node with the log of what it refused. */
function node(name: string, { tcp: sockets = {}, ...settings }: Settings = {}) {
  const logged: LogEntry[] = [];
  const options = { token, ...settings };
  const runtime = new NodeRuntime({
    ...{ name, transports: [tcp(sockets)], log: (entry: LogEntry) => logged.push(entry) },
    ...(options as NodeOptions),
  });
  cleanups.push(() => runtime.close());
  const refused = () => logged.map(({ error }) => (error as { code?: string } | undefined)?.code);
  return { runtime, logged, refused };
}

async function listening(settings: Settings = {}) {
  const made = node("desk", { tcp: { certificate: ours }, ...settings });
  const address = await made.runtime.listen("tcp://127.0.0.1:0");
  await made.runtime.spawn(Echo, [], { name: "echo" });
  return { ...made, address, port: Number(address.split(":").at(-1)) };
}

/** An honest node can join, is answered, and leaves. */
async function isFine(
  desk: Awaited<ReturnType<typeof listening>>,
  {
    certificate = theirs,
    address = desk.address,
  }: { certificate?: Certificate | null; address?: string } = {},
): Promise<void> {
  const { runtime } = node("friend", { tcp: certificate ? { certificate } : {} });
  const left = Promise.withResolvers<void>();
  const forget = desk.runtime.onPeer(({ type, peer }) => {
    if (type === "left" && peer.name === "friend") left.resolve();
  });
  const { id } = await runtime.connect(address);
  const echo = (await runtime.lookup<Echo>(id, "echo"))!;
  expect(await echo.ask.echo("hello")).toBe("hello");
  await runtime.close();
  await left.promise;
  forget();
}

async function serving(server: Server): Promise<number> {
  cleanups.push(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as { port: number }).port;
}

/** Passes bytes on between two sockets, and hands each piece to `see`. */
function relay(from: Socket, to: Socket, see: (bytes: Buffer) => void = () => {}): void {
  from.on("data", (bytes: Buffer) => {
    see(bytes);
    to.write(bytes);
  });
  from.on("close", () => to.destroy());
  from.on("error", () => to.destroy());
}

/** A server that passes everything on to a port, and what the client said. */
async function listener(port: number): Promise<{ port: number; heard: Buffer[] }> {
  const heard: Buffer[] = [];
  const server = createServer((near) => {
    const far = connectPlain({ port, host: "127.0.0.1" });
    relay(near, far, (bytes) => heard.push(bytes));
    relay(far, near);
  });
  return { port: await serving(server), heard };
}

const ended = (socket: Socket) => new Promise<void>((resolve) => socket.once("close", () => resolve()));

describe.each(SOCKETS)("with TLS (%s sockets)", (sockets) => {
  const secured = (certificate: Certificate): TcpOptions => ({ certificate, sockets });

  test("a node with the token is let in; who listens on the way reads nothing", async () => {
    const desk = await listening({ tcp: secured(ours) });
    const wire = await listener(desk.port);
    await isFine(desk, { address: `tcp://127.0.0.1:${wire.port}` });
    const heard = Buffer.concat(wire.heard).toString("latin1");
    expect(heard.length).toBeGreaterThan(500);
    expect(heard).not.toContain("friend");
    expect(heard).not.toContain("echo");
  });

  test.each([
    ["another token", createToken(systemRandom), "WRONG_TOKEN"],
    ["no token", undefined, "NO_TOKEN"],
  ])("%s is refused by name, on both sides", async (_, other, code) => {
    const desk = await listening({ tcp: secured(ours) });
    const stranger = node("stranger", { token: other, tcp: secured(theirs) });
    expect(await failure(stranger.runtime.connect(desk.address))).toMatchObject({ code });
    expect(desk.refused()).toEqual([code]);
    expect(stranger.runtime.peers()).toEqual([]);
    await isFine(desk);
  });

  test("a server with another certificate than the address names is told nothing", async () => {
    const desk = await listening({ tcp: secured(third) });
    const device = node("device", { tcp: secured(theirs) });
    const refused = await failure(device.runtime.connect(pinned(desk.address, ours.fingerprint)));
    expect(refused).toMatchObject({ code: "WRONG_CERTIFICATE" });
    expect(refused.message).toContain(desk.address);
    expect(desk.refused()).not.toContain("WRONG_TOKEN");
    const peer = await device.runtime.connect(pinned(desk.address, third.fingerprint));
    expect(peer.name).toBe("desk");
  });

  test("who shows the right certificate without having its key is refused", async () => {
    const device = node("device", { tcp: secured(theirs) });
    const port = await serving(impostorServer(ours.certificate, third.key));
    const refused = await failure(
      device.runtime.connect(pinned(`tcp://127.0.0.1:${port}`, ours.fingerprint)),
    );
    expect(refused).toMatchObject({ code: "WRONG_CERTIFICATE" });
    expect(refused.message).not.toContain("\n");
  });

  test("a client that shows a certificate without having its key is refused; with the key it is met", async () => {
    const clock = new VirtualClock(systemClock.now());
    const desk = await listening({ clock, tcp: { ...secured(third), clock } });
    await ended(impostorClient(desk.port, ours.certificate, third.key));
    expect(desk.refused()).toEqual(["WRONG_CERTIFICATE"]);
    expect(desk.logged[0]!.error!.message).not.toContain("\n");
    const honest = impostorClient(desk.port, ours.certificate, ours.key);
    await isFine(desk);
    expect(honest.closed).toBe(false);
    const gone = ended(honest);
    await clock.advance(10_000);
    await clock.advance(10_000); // it never closes its side
    await gone;
    expect(desk.refused()).toEqual(["WRONG_CERTIFICATE", "LINK_SILENT"]);
  });

  test("who ends TLS on both sides and relays the handshake is found out", async () => {
    const desk = await listening({ tcp: secured(ours) });
    const { certificate: cert, key } = third;
    const options = { cert, key, rejectUnauthorized: false };
    const between = createTlsServer({ ...options, requestCert: true }, (near) => {
      const far = connectTls({ ...options, port: desk.port, host: "127.0.0.1" });
      relay(near, far);
      relay(far, near);
    });
    const port = await serving(between);
    const device = node("device", { tcp: secured(theirs) });
    const refused = await failure(device.runtime.connect(`tcp://127.0.0.1:${port}`));
    expect(refused).toMatchObject({ code: "CHANNEL_MISMATCH" });
    expect(desk.refused()).toEqual(["CHANNEL_MISMATCH"]);
    await isFine(desk);
  });

  test("a client without a certificate, and one of another version, are refused by name", async () => {
    const desk = await listening({ tcp: secured(ours) });
    const to = { port: desk.port, host: "127.0.0.1", rejectUnauthorized: false };
    await ended(connectTls(to).on("error", () => {}));
    const { certificate: cert, key } = theirs;
    const other = connectTls({ ...to, cert, key }, () => {
      const hello = ["hello", PROTOCOL_VERSION + 1, [], new Uint8Array(32), null];
      other.write(encodeFrame(FrameKind.handshake, encodePlain(hello)));
    });
    await ended(other.resume());
    expect(desk.refused()).toEqual(["WRONG_CERTIFICATE", "VERSION_MISMATCH"]);
    await isFine(desk);
  });

  test("plain text and TLS that meet are told so in one line, on both sides and either way round", async () => {
    const desk = await listening({ tcp: secured(ours) });
    const plain = await listening({ tcp: { sockets } });
    const speaksPlain = node("plain", { tcp: { sockets } });
    const speaksTls = node("secret", { tcp: secured(theirs) });
    for (const refused of [
      await failure(speaksPlain.runtime.connect(desk.address)),
      await failure(speaksTls.runtime.connect(plain.address)),
    ]) {
      expect(refused).toMatchObject({ code: "TLS_MISMATCH" });
      expect(refused.message).toMatch(/^[^\n]* speaks (TLS|plain text) and this node [^\n]*$/);
    }
    expect(desk.refused()).toEqual(["TLS_MISMATCH"]);
    expect(plain.refused()).toEqual(["TLS_MISMATCH"]);
  });
});

test("a handshake that was recorded from plain text and is played again is refused by name", async () => {
  const desk = await listening({ tcp: {} });
  const wire = await listener(desk.port);
  await isFine(desk, { address: `tcp://127.0.0.1:${wire.port}`, certificate: null });
  const again = connectPlain({ port: desk.port, host: "127.0.0.1" });
  again.on("error", () => {});
  again.write(Buffer.concat(wire.heard));
  await ended(again.resume());
  expect(desk.refused()).toContain("REPLAYED");
  expect(desk.runtime.peers()).toEqual([]);
});

test("who says it is the coordinator has to have the certificate the token names", async () => {
  const desk = await listening({ tcp: { certificate: third } });
  const capabilities = { coordinator: true };
  const pretender = node("pretender", { tcp: { certificate: theirs }, capabilities });
  expect(await failure(pretender.runtime.connect(desk.address))).toMatchObject({ code: "WRONG_CERTIFICATE" });
  const real = node("real", { tcp: { certificate: ours }, capabilities });
  await real.runtime.connect(desk.address);
  expect(desk.runtime.peers().map(({ name }) => name)).toEqual(["real"]);
});

test.skipIf(SOCKETS.length === 1)("nodes on Bun's sockets and on node:net's talk to each other", async () => {
  for (const [here, there] of [["bun", "node"] as const, ["node", "bun"] as const]) {
    const desk = await listening({ tcp: { certificate: ours, sockets: here } });
    const board = node("board", { tcp: { certificate: theirs, sockets: there } });
    const { id } = await board.runtime.connect(desk.address);
    expect(await (await board.runtime.lookup<Echo>(id, "echo"))!.ask.echo(1)).toBe(1);
  }
});

describe.each(SOCKETS)("strangers who say nothing (%s sockets)", (sockets) => {
  test("are sent away when their time is up, whether they speak TLS or not", async () => {
    const clock = new VirtualClock(systemClock.now());
    const desk = await listening({ clock, tcp: { certificate: ours, sockets } });
    const { certificate: cert, key } = theirs;
    const to = { port: desk.port, host: "127.0.0.1" };
    const silent = connectPlain(to);
    const secured = connectTls({ ...to, cert, key, rejectUnauthorized: false });
    const gone = Promise.all([silent, secured].map((socket) => ended(socket.on("error", () => {}).resume())));
    await new Promise((resolve) => secured.once("secureConnect", resolve));
    await isFine(desk);
    expect([silent.closed, secured.closed]).toEqual([false, false]);
    await clock.advance(10_000);
    await gone;
    expect(desk.refused().filter((code) => code === "LINK_SILENT")).toHaveLength(2);
  });

  test("do not keep others out, three hundred of them, nor fill the log", async () => {
    const desk = await listening({ tcp: { certificate: ours, sockets } });
    const crowd = Array.from({ length: 300 }, () => connectPlain({ port: desk.port, host: "127.0.0.1" }));
    cleanups.push(() => crowd.map((socket) => socket.destroy()));
    await Promise.all(
      crowd.map((socket) => new Promise((resolve) => socket.on("error", () => {}).once("connect", resolve))),
    );
    await isFine(desk);
    const dropped = crowd.slice(0, 44).map((socket) => (socket.closed ? undefined : ended(socket.resume())));
    await Promise.all(dropped);
    expect(desk.logged.length).toBeLessThan(30);
  });
});
