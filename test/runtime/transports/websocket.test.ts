/** WebSockets keep the contract of transports, plain and encrypted, and let in only whom they should. */

import { afterEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { connect as connectTcp, createServer, type Socket } from "node:net";
import { generate } from "selfsigned";
import { systemClock } from "../../../runtime/clock.ts";
import { createCertificate, fingerprintOf, shortFingerprint } from "../../../runtime/security/certificate.ts";
import { pinned } from "../../../runtime/security/token.ts";
import type { Pipe, PipeHandlers, Transport } from "../../../runtime/transports/transport.ts";
import { originAllowed } from "../../../runtime/transports/websocket/origin.ts";
import { type WebSocketOptions, ws, wss } from "../../../runtime/transports/websocket/websocket.ts";
import { transportContract } from "../../contract/transport.contract.ts";

const certificate = await makeCertificate();

transportContract({
  name: "WebSocket",
  make: () => ws(),
  anyAddress: "ws://127.0.0.1:0/troupe",
  deadAddress: "ws://127.0.0.1:1/troupe",
});

transportContract({
  name: "encrypted WebSocket",
  make: () => pinning(wss({ certificate })),
  anyAddress: "wss://127.0.0.1:0/troupe",
  deadAddress: "wss://127.0.0.1:1/troupe",
});

/** One that names the address, as Deno demands. */
async function makeCertificate() {
  const altNames = [{ type: 7, ip: "127.0.0.1" } as const];
  const extensions = [{ name: "subjectAltName", altNames } as const];
  const made = await generate([{ name: "commonName", value: "troupe" }], { extensions, algorithm: "sha256" });
  return { certificate: made.cert, key: made.private, fingerprint: fingerprintOf(made.cert) };
}

/** Connects only to whoever has the certificate. */
function pinning(transport: Transport): Transport {
  const { fingerprint } = certificate;
  return { ...transport, connect: (address, made) => transport.connect(pinned(address, fingerprint), made) };
}

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** Handlers that note how the pipe ended. */
function noting(over: Partial<PipeHandlers> = {}) {
  const closed = Promise.withResolvers<Error | undefined>();
  const handlers: PipeHandlers = { onData() {}, onDrain() {}, onClose: closed.resolve, ...over };
  return { handlers, closed: closed.promise };
}

async function listen(options: WebSocketOptions = {}, over: Partial<PipeHandlers> = {}) {
  const accepted = Promise.withResolvers<Pipe>();
  const { handlers, closed } = noting(over);
  const listener = await ws(options).listen("ws://127.0.0.1:0/troupe", (pipe) => {
    cleanups.push(() => pipe.close());
    accepted.resolve(pipe);
    return handlers;
  });
  cleanups.push(() => listener.close());
  return { address: listener.address, accepted: accepted.promise, closed };
}

describe("a WebSocket server", () => {
  const upgrade = { connection: "upgrade", upgrade: "websocket", "sec-websocket-version": "13" };
  const ask = (address: string, path: string, headers: Record<string, string> = {}) =>
    fetch(new URL(path, address.replace("ws:", "http:")), { headers });

  test("answers what is not for it clearly", async () => {
    const { address } = await listen();
    const plain = await ask(address, "/troupe");
    expect([plain.status, await plain.text()]).toEqual([426, expect.stringContaining("WebSocket endpoint")]);
    const elsewhere = await ask(address, "/other");
    expect([elsewhere.status, await elsewhere.text()]).toEqual([404, expect.stringContaining("/troupe")]);
    const elsewhereUpgrade = await ask(address, "/other", upgrade);
    expect(elsewhereUpgrade.status).toBe(404);
    const bad = await ask(address, "/troupe", upgrade); // without a key
    expect(bad.status).toBe(400);
  });

  test("hands other paths to fetch", async () => {
    const { address } = await listen({ fetch: (request) => new Response(new URL(request.url).pathname) });
    expect(await (await ask(address, "/x")).text()).toBe("/x");
  });

  test("refuses pages of strangers and lets in those that are named", async () => {
    const { address } = await listen({ origins: ["https://example.org"] });
    const key = { ...upgrade, "sec-websocket-key": btoa("0123456789abcdef") };
    const refused = await ask(address, "/troupe", { ...key, origin: "https://evil.example" });
    expect([refused.status, await refused.text()]).toEqual([403, expect.stringContaining("evil.example")]);
    const { host } = new URL(address);
    expect(originAllowed("https://example.org", host, ["https://example.org"])).toBe(true);
    expect(originAllowed(`http://${host}`, host, [])).toBe(true);
    expect(originAllowed("http://127.0.0.1:1", host, [])).toBe(false);
    // A stranger's name that points here: Host and Origin agree, and that proves nothing.
    expect(originAllowed("http://evil.example:80", "evil.example:80", [])).toBe(false);
    expect(originAllowed("null", host, [])).toBe(false);
    expect(originAllowed(null, host, [])).toBe(true);
  });

  test("closes a pipe on which text comes", async () => {
    const { address, closed } = await listen();
    const socket = new WebSocket(address);
    cleanups.push(() => socket.close());
    socket.onopen = () => socket.send("hello");
    expect(await closed).toMatchObject({ code: "BAD_MAGIC" });
  });

  test("closes a pipe whose messages are longer than ours ever are", async () => {
    const { address, closed } = await listen();
    const socket = new WebSocket(address);
    cleanups.push(() => socket.close());
    socket.onopen = () => socket.send(new Uint8Array(300 * 1024));
    const { code } = (await closed) as Error & { code: string };
    expect(["NODE_LOST", "LIMIT_EXCEEDED"]).toContain(code);
  });
});

test("addresses that are malformed or beyond this machine in plain text are refused", async () => {
  const refused = (address: string) => ws().listen(address, () => noting().handlers);
  for (const address of ["ws://127.0.0.1", "ws://127.0.0.1:99999/", "ws://127.0.0.1:1/a?b"]) {
    await expect(refused(address)).rejects.toThrow("expected ws://host:port/path");
  }
  await expect(refused("ws://0.0.0.0:0/")).rejects.toThrow("only for loopback");
  await expect(ws().connect("ws://192.0.2.1:1/", () => noting().handlers)).rejects.toThrow(
    "only for loopback",
  );
  const noCertificate = wss().listen("wss://127.0.0.1:0/", () => noting().handlers);
  await expect(noCertificate).rejects.toThrow("no certificate");
});

describe("an encrypted server", () => {
  test("with another certificate is refused before anything is said, naming both", async () => {
    const other = await makeCertificate();
    const listener = await wss({ certificate: other }).listen("wss://127.0.0.1:0/", () => noting().handlers);
    cleanups.push(() => listener.close());
    const refused = pinning(wss()).connect(listener.address, () => noting().handlers);
    await expect(refused).rejects.toMatchObject({ code: "WRONG_CERTIFICATE" });
    await expect(refused).rejects.toThrow(shortFingerprint(certificate.fingerprint));
    const untrusted = wss().connect(listener.address, () => noting().handlers);
    await expect(untrusted).rejects.toMatchObject({ code: "CONNECT_FAILED" });
  });

  test.skipIf("Deno" in globalThis)("needs no name in its certificate (Deno insists on one)", async () => {
    const made = await createCertificate();
    const listener = await wss({ certificate: made }).listen("wss://127.0.0.1:0/", () => noting().handlers);
    cleanups.push(() => listener.close());
    const address = pinned(listener.address, made.fingerprint);
    const pipe = await wss().connect(address, () => noting().handlers);
    expect(pipe.peer).toBe(listener.address);
    pipe.close();
  });
});

test("everything accepted before a close arrives, also when the pipe was full", async () => {
  let received = 0;
  const onData = (bytes: Uint8Array) => {
    received += bytes.byteLength;
  };
  const { address, closed } = await listen({}, { onData });
  const pipe = await ws().connect(address, () => noting().handlers);
  const accepted = pipe.write(new Uint8Array(64 * 2 ** 20));
  expect(accepted).toBeLessThan(64 * 2 ** 20);
  pipe.close();
  expect(await closed).toBeUndefined();
  expect(received).toBe(accepted);
});

describe("a peer that reads nothing", () => {
  const piece = new Uint8Array(2 ** 20);
  /** Bytes that are accepted over many turns until the pipe stays full. */
  async function fill(pipe: Pipe): Promise<number> {
    let accepted = 0;
    for (let idle = 0; idle < 10; idle++) {
      const now = pipe.write(piece);
      if (now > 0) idle = 0;
      accepted += now;
      await systemClock.sleep(2);
    }
    return accepted;
  }
  const MOST = 32 * 2 ** 20; // what the kernel holds on both sides and what we do

  test("as a client: the server's pipe stays full and closes in the end", async () => {
    const { address, accepted, closed } = await listen();
    const { port } = new URL(address);
    const raw = connectTcp(Number(port), "127.0.0.1");
    cleanups.push(() => raw.destroy());
    raw.write(
      `GET /troupe HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${btoa("0123456789abcdef")}\r\n\r\n`,
    );
    raw.once("data", () => raw.pause());
    const pipe = await accepted;
    expect(await fill(pipe)).toBeLessThan(MOST);
    pipe.close(new Error("enough"));
    expect(await closed).toMatchObject({ message: "enough" });
    if ("Deno" in globalThis) return; // it cannot end a socket whose other end does not answer
    const gone = new Promise<void>((resolve) => raw.once("close", () => resolve()));
    raw.on("error", () => undefined);
    raw.resume();
    await gone;
  });

  test("as a server: the client's pipe stays full and closes in the end", async () => {
    const sockets: Socket[] = [];
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on("error", () => undefined);
      socket.once("data", (request) => {
        socket.pause();
        const key = /sec-websocket-key: (.+)\r\n/i.exec(request.toString())![1]!;
        const answer = createHash("sha1")
          .update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
          .digest("base64");
        socket.write(
          `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${answer}\r\n\r\n`,
        );
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    cleanups.push(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const { port } = server.address() as { port: number };
    const { handlers, closed } = noting();
    const pipe = await ws().connect(`ws://127.0.0.1:${port}/`, () => handlers);
    expect(await fill(pipe)).toBeLessThan(MOST);
    const gone = new Promise<void>((resolve) => sockets[0]!.once("close", () => resolve()));
    pipe.close(new Error("enough"));
    expect(await closed).toMatchObject({ message: "enough" });
    if ("Deno" in globalThis) return; // as above
    sockets[0]!.resume(); // a paused socket does not say that it is closed
    await gone;
  });
});

test("a name that only begins like loopback is not this machine", async () => {
  const refused = ws().connect("ws://127.example.org:1/", () => {
    throw new Error("unreachable");
  });
  await expect(refused).rejects.toThrow("loopback");
});
