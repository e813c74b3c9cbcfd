/** The WebSocket server of Bun, whose `send` says when the socket is full and whose `drain` says when it is not. */

import type { Clock, Timer } from "../../clock.ts";
import type { Pipe, PipeHandlers } from "../transport.ts";
import { CHUNK_BYTES, closeError, complaint, MESSAGE_BYTES, type Serve } from "./server.ts";

interface Attached {
  readonly peer: string;
  pipe?: BunPipe;
}

/** How long the other end may take to answer a close. */
const LINGER_MS = 2_000;

class BunPipe implements Pipe {
  handlers!: PipeHandlers;
  readonly chunkBytes = CHUNK_BYTES;
  readonly peer: string;
  private readonly socket: Bun.ServerWebSocket<Attached>;
  private readonly clock: Clock;
  private full = false;
  private short = false;
  private closed = false;
  private linger: Timer | undefined;

  constructor(socket: Bun.ServerWebSocket<Attached>, clock: Clock) {
    this.socket = socket;
    this.clock = clock;
    this.peer = socket.data.peer;
  }

  /** A message that does not fit is kept by Bun; there is at most one of them. */
  write(bytes: Uint8Array): number {
    if (this.closed) return 0;
    let at = 0;
    while (at < bytes.byteLength && !this.full) {
      const piece = bytes.subarray(at, at + MESSAGE_BYTES);
      const sent = this.socket.sendBinary(piece);
      if (sent === 0) break;
      this.full = sent < 0;
      at += piece.byteLength;
    }
    if (at < bytes.byteLength) this.short = true;
    return at;
  }

  drained(): void {
    this.full = false;
    if (!this.short || this.closed) return;
    this.short = false;
    this.handlers.onDrain();
  }

  received(bytes: Uint8Array): void {
    if (!this.closed) this.handlers.onData(bytes);
  }

  close(error?: Error): void {
    if (this.closed) return;
    this.closed = true;
    // First: `close` may call back before it returns.
    this.linger = this.clock.setTimer(() => this.socket.terminate(), LINGER_MS);
    this.socket.close(1000);
    queueMicrotask(() => this.handlers.onClose(error));
  }

  /** The socket is gone. */
  ended(error?: Error): void {
    this.clock.clearTimer(this.linger);
    if (this.closed) return;
    this.closed = true;
    this.handlers.onClose(error);
  }
}

export const serve: Serve = async ({ hostname, port, certificate, clock, decide, accept }) => {
  const server = Bun.serve<Attached>({
    hostname,
    port,
    ...(certificate ? { tls: { cert: certificate.certificate, key: certificate.key } } : {}),
    idleTimeout: 10,
    async fetch(request, server) {
      const response = await decide(request);
      if (response) return response;
      const from = server.requestIP(request);
      const host = from?.family === "IPv6" ? `[${from.address}]` : from?.address;
      const peer = `${certificate ? "wss" : "ws"}://${host ?? "unknown"}:${from?.port ?? 0}`;
      if (server.upgrade(request, { data: { peer } })) return undefined;
      return new Response("the request is not a valid WebSocket upgrade\n", { status: 400 });
    },
    error: (error) => new Response(`${error.message}\n`, { status: 500 }),
    websocket: {
      maxPayloadLength: MESSAGE_BYTES,
      // Writing stops at the first message that does not fit.
      backpressureLimit: 16 * MESSAGE_BYTES,
      idleTimeout: 0,
      sendPings: false,
      perMessageDeflate: false,
      open(socket) {
        socket.binaryType = "uint8array";
        const pipe = new BunPipe(socket, clock);
        socket.data.pipe = pipe;
        pipe.handlers = accept(pipe);
      },
      message(socket, message) {
        const { pipe } = socket.data;
        if (typeof message === "string") pipe?.close(complaint(pipe.peer, "text"));
        else pipe?.received(message);
      },
      drain: (socket) => socket.data.pipe?.drained(),
      close(socket, code, reason) {
        const { pipe } = socket.data;
        pipe?.ended(closeError(pipe.peer, code, reason));
      },
    },
  });
  return {
    port: server.port!,
    async close() {
      // Its promise would wait for the open pipes, which belong to others.
      void server.stop();
    },
  };
};
