// A transport of one's own is a way to open pipes: ordered, reliable streams of bytes that say when they are full.
// Frames, handshake, chunks and credit come from the runtime. This one speaks over Unix sockets.

import { rmSync } from "node:fs";
import { createServer, connect as dial, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { Actor, NodeRuntime, type Pipe, type PipeHandlers, type Transport } from "../runtime/index.ts";

const FULL_BYTES = 2 ** 20;

function pipeOf(socket: Socket, peer: string, handlers: (pipe: Pipe) => PipeHandlers): Pipe {
  let short = false;
  const pipe: Pipe = {
    handlers: undefined as unknown as PipeHandlers,
    chunkBytes: 256 * 1024,
    peer,
    write(bytes) {
      const accepted = Math.min(bytes.byteLength, Math.max(0, FULL_BYTES - socket.writableLength));
      if (accepted > 0 && !socket.destroyed) socket.write(bytes.slice(0, accepted)); // a copy: theirs again at once
      short = accepted < bytes.byteLength;
      return socket.destroyed ? 0 : accepted;
    },
    close: () => void socket.end().destroySoon(),
  };
  pipe.handlers = handlers(pipe);
  socket.on("data", (bytes: Buffer) => pipe.handlers.onData(bytes));
  socket.on("drain", () => short && pipe.handlers.onDrain());
  socket.on("error", () => {}); // followed by a close
  socket.on("close", () => pipe.handlers.onClose());
  return pipe;
}

const unix: Transport = {
  scheme: "unix",
  listen(address, accept) {
    const path = address.slice("unix://".length);
    const server = createServer((socket) => pipeOf(socket, `${address} caller`, accept));
    return new Promise((resolve, reject) => {
      server.on("error", reject);
      server.listen(path, () => {
        resolve({ address, close: async () => void server.close(() => rmSync(path, { force: true })) });
      });
    });
  },
  connect(address, handlers) {
    return new Promise((resolve, reject) => {
      const socket = dial(address.slice("unix://".length));
      socket.on("error", reject);
      socket.on("connect", () => resolve(pipeOf(socket, address, handlers)));
    });
  },
};

class Doubler extends Actor {
  async double(value: number): Promise<number> {
    return 2 * value;
  }
}

const board = new NodeRuntime({ name: "board", transports: [unix], actors: { Doubler } });
const desk = new NodeRuntime({ name: "desk", transports: [unix] });
const peer = await desk.connect(await board.listen(`unix://${tmpdir()}/troupe-example-${process.pid}`));
const doubler = await desk.spawnOn<Doubler>(peer.id, "Doubler", []);
console.log(await doubler.ask.double(21)); // 42

await desk.close();
await board.close();
