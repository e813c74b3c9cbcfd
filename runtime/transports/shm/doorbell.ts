/**
 * The socket beside a shared mapping: a Unix domain socket over which the two ends agree on the mapping, and which
 * afterwards only rings (one byte: look at the ring) and shows that the other process lives (its close, which the
 * system sees to however the process ends). Under Bun its own sockets, elsewhere those of node:net.
 */

import { connect, createServer, type Socket } from "node:net";

export interface Doorbell {
  send(bytes: Uint8Array): void;
  /** Wakes the other end. What does not fit the socket is dropped: then there are rings enough under way. */
  ring(): void;
  /** Ends the connection; what was sent before still arrives. Idempotent. */
  close(): void;
}

export interface DoorbellHandlers {
  /** Borrowed for the duration of the call. */
  received(bytes: Uint8Array): void;
  /** The other end is gone, or this one was closed. Once. */
  closed(error?: Error): void;
}

export type Opened = (bell: Doorbell) => DoorbellHandlers;

export interface DoorbellListener {
  /** Takes no new connections; the file is gone when it resolves. */
  close(): Promise<void>;
}

const RING = Uint8Array.of(1);

/** @throws the system's error, with its code (EADDRINUSE, EACCES). */
export function listenAt(path: string, opened: Opened): Promise<DoorbellListener> {
  return typeof Bun === "undefined" ? netListen(path, opened) : bunListen(path, opened);
}

/** @throws the system's error, with its code (ENOENT, ECONNREFUSED). */
export function connectTo(path: string, opened: Opened): Promise<void> {
  return typeof Bun === "undefined" ? netConnect(path, opened) : bunConnect(path, opened);
}

// --- Bun -------------------------------------------------------------------------------------------------------

interface Side {
  handlers?: DoorbellHandlers;
}

const bunHandlers = {
  data: (socket: Bun.Socket<Side>, bytes: Uint8Array) => socket.data.handlers?.received(bytes),
  close: (socket: Bun.Socket<Side>) => closed(socket.data),
  error: (socket: Bun.Socket<Side>, error: Error) => closed(socket.data, error),
};

async function bunListen(path: string, opened: Opened): Promise<DoorbellListener> {
  const listener = Bun.listen<Side>({
    unix: path,
    socket: {
      ...bunHandlers,
      open(socket) {
        socket.data = { handlers: opened(bunDoorbell(socket)) };
      },
    },
  });
  return { close: async () => listener.stop() };
}

async function bunConnect(path: string, opened: Opened): Promise<void> {
  await Bun.connect<Side>({
    unix: path,
    data: {},
    socket: {
      ...bunHandlers,
      open(socket) {
        socket.data = { handlers: opened(bunDoorbell(socket)) };
      },
    },
  });
}

function bunDoorbell(socket: Bun.Socket<Side>): Doorbell {
  return {
    send: (bytes) => void socket.write(bytes),
    ring: () => void socket.write(RING),
    close: () => void socket.end(),
  };
}

function closed(side: Side, error?: Error): void {
  const { handlers } = side;
  delete side.handlers;
  handlers?.closed(error);
}

// --- elsewhere -------------------------------------------------------------------------------------------------

function netListen(path: string, opened: Opened): Promise<DoorbellListener> {
  const server = createServer((socket) => attach(socket, opened));
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => {
      // Connections outlive the listener, so its own end is not waited for.
      resolve({ close: async () => void server.close() });
    });
  });
}

function netConnect(path: string, opened: Opened): Promise<void> {
  const socket = connect(path);
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("connect", () => {
      attach(socket, opened);
      resolve();
    });
  });
}

function attach(socket: Socket, opened: Opened): void {
  const side: Side = {};
  socket.on("data", (bytes: Uint8Array) => side.handlers?.received(bytes));
  socket.on("close", () => closed(side));
  socket.on("error", (error) => closed(side, error));
  side.handlers = opened({
    send: (bytes) => void socket.write(bytes),
    ring: () => {
      if (socket.writableLength === 0) socket.write(RING);
    },
    close: () => void socket.end(() => socket.destroy()),
  });
}
