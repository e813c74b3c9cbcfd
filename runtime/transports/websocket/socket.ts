/** A pipe over the W3C's WebSocket: the client's end everywhere, and the server's under Deno. */

import type { Clock } from "../../clock.ts";
import { CAPACITY_BYTES, MessagePipe, POLL_MS } from "../message_pipe.ts";
import { CHUNK_BYTES, closeError, complaint, MESSAGE_BYTES } from "./server.ts";

/** Bun and Node.js can close a socket without waiting for the other end; browsers and Deno cannot. */
type Socket = WebSocket & { terminate?(): void };

/** Takes over an open socket. The caller sets the pipe's handlers at once. */
export function socketPipe(socket: WebSocket, clock: Clock, peer: string): MessagePipe {
  const pipe = new MessagePipe({
    ...{ carrier: socket, clock, peer, chunkBytes: CHUNK_BYTES, messageBytes: MESSAGE_BYTES },
    ...{ capacityBytes: CAPACITY_BYTES, pollMs: POLL_MS },
    shut: () => socket.close(1000),
    abort: () => ((socket as Socket).terminate ? (socket as Socket).terminate!() : socket.close()),
  });
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => {
    const wrong = complaint(peer, data instanceof ArrayBuffer ? data.byteLength : "text");
    if (wrong) pipe.close(wrong);
    else pipe.received(new Uint8Array(data));
  };
  socket.onclose = ({ code, reason }) => pipe.ended(closeError(peer, code, reason));
  socket.onerror = null;
  return pipe;
}
