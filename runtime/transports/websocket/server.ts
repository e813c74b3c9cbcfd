/** What a WebSocket server is to the transport; one implementation per platform that can listen. */

import { ProtocolError } from "../../../protocols/errors.ts";
import type { Clock } from "../../clock.ts";
import { RuntimeError } from "../../errors.ts";
import type { Certificate } from "../../security/certificate.ts";
import type { Pipe, PipeHandlers } from "../transport.ts";

export interface ServerOptions {
  readonly hostname: string;
  readonly port: number;
  /** Without one the server speaks plain HTTP. */
  readonly certificate: Certificate | undefined;
  readonly clock: Clock;
  /**
   * Decides about every HTTP request: `null` turns it into a WebSocket, a response answers it.
   */
  decide(request: Request): Response | null | Promise<Response | null>;
  accept(pipe: Pipe): PipeHandlers;
}

export interface Server {
  /** The port that was taken. */
  readonly port: number;
  /** Takes no more connections; those that are open stay. */
  close(): Promise<void>;
}

/** Starts to listen. @throws whatever the platform throws; `EADDRINUSE` or `AddrInUse` when the port is taken. */
export type Serve = (options: ServerOptions) => Promise<Server>;

/** A chunk, and so a message, of this size takes about 0.3 ms on loopback. */
export const CHUNK_BYTES = 256 * 1024;
/** Messages that are longer are not ours. */
export const MESSAGE_BYTES = CHUNK_BYTES;

/** What a WebSocket's close code (RFC 6455, 7.4) tells a pipe: an error unless both ends closed in good order. */
export function closeError(peer: string, code: number, reason: string): Error | undefined {
  if (code === 1000 || code === 1001 || code === 1005) return undefined;
  const why = reason || (code === 1006 ? "the connection broke" : "no reason given");
  return new RuntimeError("NODE_LOST", `${peer} ended the WebSocket with code ${code}: ${why}`);
}

/** What is wrong with a message (of so many bytes, or text), or undefined. Whoever sends such is not one of ours. */
export function complaint(peer: string, bytes: number | "text"): ProtocolError | undefined {
  if (bytes === "text") {
    return new ProtocolError("BAD_MAGIC", `${peer} sent a text message, expected binary ones`);
  }
  if (bytes <= MESSAGE_BYTES) return undefined;
  return new ProtocolError(
    "LIMIT_EXCEEDED",
    `a WebSocket message: at most ${MESSAGE_BYTES} bytes, got ${bytes}`,
  );
}
