/**
 * TCP, through Bun's sockets, which take what the kernel takes and say how much that was; nothing is buffered on
 * the way. This is plain text: without encryption it is for one machine, unless somebody says otherwise by name.
 */

import { type Clock, systemClock } from "../clock.ts";
import { RuntimeError } from "../errors.ts";
import type { Listener, Pipe, PipeHandlers, Transport } from "./transport.ts";

/** A chunk takes about 0.1 ms on loopback; larger ones are no faster. */
const CHUNK_BYTES = 256 * 1024;
const PATIENCE_MS = 10_000;

export interface TcpOptions {
  /** `everywhere` allows unencrypted connections beyond this machine. Default: loopback only. */
  readonly plaintext?: "loopback" | "everywhere";
  readonly clock?: Clock;
}

class TcpPipe implements Pipe {
  handlers!: PipeHandlers;
  readonly chunkBytes = CHUNK_BYTES;
  readonly peer: string;
  private readonly socket: Bun.Socket<{ pipe?: TcpPipe }>;
  private closed = false;
  private short = false;

  constructor(socket: Bun.Socket<{ pipe?: TcpPipe }>, peer: string) {
    this.socket = socket;
    this.peer = peer;
  }

  write(bytes: Uint8Array): number {
    if (this.closed) return 0;
    const accepted = Math.max(0, this.socket.write(bytes));
    if (accepted < bytes.byteLength) this.short = true;
    return accepted;
  }

  drained(): void {
    if (!this.short || this.closed) return;
    this.short = false;
    this.handlers.onDrain();
  }

  close(error?: Error): void {
    if (this.closed) return;
    this.closed = true;
    this.socket.end();
    queueMicrotask(() => this.handlers.onClose(error));
  }

  /** The socket is gone. */
  ended(error?: Error): void {
    if (this.closed) return;
    this.closed = true;
    this.handlers.onClose(error);
  }
}

/** Addresses are `tcp://host:port`; port 0 asks for a free one. IPv6 addresses stand in brackets. */
export function tcp(options: TcpOptions = {}): Transport {
  const clock = options.clock ?? systemClock;
  const socketHandlers = {
    data: (socket: Bun.Socket<{ pipe?: TcpPipe }>, bytes: Uint8Array) =>
      socket.data.pipe?.handlers.onData(bytes),
    drain: (socket: Bun.Socket<{ pipe?: TcpPipe }>) => socket.data.pipe?.drained(),
    close: (socket: Bun.Socket<{ pipe?: TcpPipe }>) => socket.data.pipe?.ended(),
    error: (socket: Bun.Socket<{ pipe?: TcpPipe }>, error: Error) => socket.data.pipe?.ended(error),
  };
  return {
    scheme: "tcp",
    async listen(address, accept): Promise<Listener> {
      const { hostname, port } = parse(address, "LISTEN_FAILED", options);
      let listener: Bun.TCPSocketListener<{ pipe?: TcpPipe }>;
      try {
        listener = Bun.listen<{ pipe?: TcpPipe }>({
          hostname,
          port,
          socket: {
            ...socketHandlers,
            open(socket) {
              const pipe = new TcpPipe(socket, `tcp://${bracket(socket.remoteAddress)}:${socket.remotePort}`);
              socket.data = { pipe };
              pipe.handlers = accept(pipe);
            },
          },
        });
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        const why =
          code === "EADDRINUSE" ? "the port is in use; choose another, or 0 for a free one" : message;
        throw new RuntimeError("LISTEN_FAILED", `cannot listen on ${address}: ${why}`, { cause: error });
      }
      return {
        address: `tcp://${bracket(hostname)}:${listener.port}`,
        async close() {
          listener.stop();
        },
      };
    },
    async connect(address, handlers): Promise<Pipe> {
      const { hostname, port } = parse(address, "CONNECT_FAILED", options);
      const connected = Promise.withResolvers<Pipe>();
      const failed = (why: string, cause?: unknown) =>
        connected.reject(
          new RuntimeError("CONNECT_FAILED", `cannot connect to ${address}: ${why}`, { cause }),
        );
      let late = false;
      const timer = clock.setTimer(() => {
        late = true;
        failed(`no answer within ${PATIENCE_MS} ms`);
      }, PATIENCE_MS);
      Bun.connect<{ pipe?: TcpPipe }>({
        hostname,
        port,
        data: {},
        socket: {
          ...socketHandlers,
          open(socket) {
            if (late) {
              socket.end();
              return;
            }
            const pipe = new TcpPipe(socket, address);
            socket.data = { pipe };
            pipe.handlers = handlers(pipe);
            connected.resolve(pipe);
          },
          connectError: (_socket, error) => failed(error.message, error),
        },
      }).catch((error) => failed(error.message, error));
      try {
        return await connected.promise;
      } finally {
        clock.clearTimer(timer);
      }
    },
  };
}

function parse(address: string, code: "LISTEN_FAILED" | "CONNECT_FAILED", options: TcpOptions) {
  const match = /^tcp:\/\/(?:\[([0-9a-fA-F:.]+)\]|([^:/[\]]+)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (!match || port > 65535) {
    throw new RuntimeError(
      code,
      `"${address}" is not a TCP address; expected tcp://host:port, such as tcp://127.0.0.1:4001`,
    );
  }
  const hostname = (match[1] ?? match[2])!;
  const loopback = hostname === "localhost" || hostname === "::1" || /^127\./.test(hostname);
  if (!loopback && options.plaintext !== "everywhere") {
    throw new RuntimeError(
      code,
      `${address} is beyond this machine, and plain TCP is only for loopback unless asked for`,
    );
  }
  return { hostname, port };
}

function bracket(hostname: string): string {
  return hostname.includes(":") ? `[${hostname}]` : hostname;
}
