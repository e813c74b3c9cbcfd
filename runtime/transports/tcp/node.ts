/**
 * TCP and TLS through node:net and node:tls, for Deno and Node.js. Their sockets queue whatever they are given, without
 * limit and without copying it: so what a pipe accepts is copied, and counted until it is written, and no more than
 * a bound is on its way.
 */

import type { Server, Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Channel } from "../../../protocols/handshake.ts";
import type { Pipe, PipeHandlers } from "../transport.ts";
import { formatAddress } from "./address.ts";
import { SocketPipe, type SocketPipeOptions } from "./pipe.ts";
import type { Place, Sockets, Target } from "./sockets.ts";
import { channelOf, tlsFailure } from "./tls.ts";

/** Enough to keep a fast network busy while the next chunk is made; a pipe costs no more than this. */
const CAPACITY_BYTES = 1024 * 1024;

class NodePipe extends SocketPipe {
  /** The one that bytes go through: of TLS, where there is TLS. */
  private readonly socket: Socket;
  /** Bytes that were given to the socket and are not with the kernel yet. */
  private queued = 0;

  constructor(socket: Socket, options: SocketPipeOptions) {
    super(options);
    this.socket = socket;
    socket.on("error", (error) => this.ended(error));
    socket.on("close", () => this.gone());
    socket.setNoDelay(true);
  }

  /** Only now is anything read: what comes on the heels of TLS's own handshake is not lost. */
  override opened(channel?: Channel): void {
    super.opened(channel);
    this.socket.on("data", (bytes: Uint8Array) => this.received(bytes));
  }

  protected put(bytes: Uint8Array): number {
    const accepted = Math.min(bytes.byteLength, CAPACITY_BYTES - this.queued);
    if (accepted === 0) return 0;
    this.queued += accepted;
    this.socket.write(bytes.slice(0, accepted), () => {
      this.queued -= accepted;
      // Half empty: waiting for less would mean many small writes, waiting for more an idle wire.
      if (this.queued <= CAPACITY_BYTES / 2) this.drained();
    });
    return accepted;
  }

  protected end(): void {
    this.socket.end();
  }

  protected drop(): void {
    this.socket.destroy();
  }
}

export const nodeSockets: Sockets = { listen, connect };

async function listen(place: Place, accept: (pipe: Pipe) => PipeHandlers) {
  const [{ createServer }, { TLSSocket }] = await modules();
  const server: Server = createServer((raw) => {
    const peer = formatAddress(raw.remoteAddress ?? "unknown", raw.remotePort ?? 0);
    const { certificate, clock } = place;
    if (!certificate) {
      const pipe = new NodePipe(raw, { peer, encrypted: false, clock });
      pipe.handlers = accept(pipe);
      pipe.opened();
      return;
    }
    const socket = new TLSSocket(raw, { isServer: true, ...tls(place) });
    // TLS that is not agreed on fails with an error of its own kind; the pipe's own listeners come after this one.
    let agreed = false;
    socket.on("error", (error) => {
      if (!agreed) pipe.failed(tlsFailure(peer, error));
    });
    const pipe = new NodePipe(socket, { peer, encrypted: true, clock });
    pipe.handlers = accept(pipe);
    raw.on("error", (error) => pipe.ended(error));
    raw.once("close", () => pipe.gone());
    socket.once("secure", () => {
      agreed = true;
      try {
        pipe.opened(channel(socket, peer, place, undefined));
      } catch (refused) {
        pipe.failed(refused as Error);
      }
    });
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(place.port, place.hostname, resolve);
  await promise;
  const { port } = server.address() as { port: number };
  const close = () =>
    new Promise<void>((closed) => {
      server.close(() => closed());
      // Connections go on; a listener that waited for them would never close.
      closed();
    });
  return { port, close };
}

async function connect(
  target: Target,
  handlers: (pipe: Pipe) => PipeHandlers,
  signal: AbortSignal,
): Promise<Pipe> {
  const [{ connect: connectPlain }, { connect: connectTls }] = await modules();
  const { hostname: host, port, certificate, clock, peer, fingerprint } = target;
  const { promise, resolve, reject } = Promise.withResolvers<Pipe>();
  const socket: Socket = certificate
    ? connectTls({ host, port, ...tls(target) })
    : connectPlain({ host, port });
  let connected = false;
  socket.once("connect", () => {
    connected = true;
  });
  socket.once("error", (error) => reject(certificate && connected ? tlsFailure(peer, error) : error));
  socket.once(certificate ? "secureConnect" : "connect", () => {
    try {
      const seen = certificate && channel(socket as TLSSocket, peer, target, fingerprint);
      const pipe = new NodePipe(socket, { peer, encrypted: certificate !== undefined, clock });
      pipe.handlers = handlers(pipe);
      pipe.opened(seen);
      resolve(pipe);
    } catch (refused) {
      socket.destroy();
      reject(refused);
    }
  });
  signal.addEventListener("abort", () => socket.destroy(), { once: true });
  return promise;
}

/** Loaded when the first socket is made: a page in a browser has none. */
function modules() {
  return Promise.all([import("node:net"), import("node:tls")]);
}

function tls({ certificate }: Place) {
  const { certificate: cert, key } = certificate!;
  return { cert, key, requestCert: true, rejectUnauthorized: false, minVersion: "TLSv1.3" } as const;
}

function channel(socket: TLSSocket, peer: string, { certificate }: Place, expected: string | undefined) {
  return channelOf({
    ...{ peer, expected, agreed: true, error: null },
    local: certificate!.fingerprint,
    version: socket.getProtocol(),
    remote: socket.getPeerCertificate()?.fingerprint256,
  });
}
