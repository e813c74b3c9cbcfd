/**
 * The way to a device: what its transport receives is passed on at the rate of a line that all its connections share,
 * and a latency later. With `shaped` for the way from it, a device has one line in both directions, whoever is at the
 * other end.
 *
 * Nothing is refused here: how much can be under way is bounded by the credit that the link above gives to senders.
 */

import { Ring } from "../../protocols/ring.ts";
import type { Clock } from "../../runtime/index.ts";
import type { Pipe, PipeHandlers, Transport } from "../../runtime/transports/transport.ts";

export interface Downlink {
  readonly clock: Clock;
  readonly bytesPerSecond: number;
  readonly latencyMs: number;
}

/** One piece is about a millisecond of the line, and a packet at least. */
const PIECE_MS = 1;
const MIN_PIECE_BYTES = 1500;

export function downlink(transport: Transport, { clock, bytesPerSecond, latencyMs }: Downlink): Transport {
  const perMs = bytesPerSecond / 1000;
  const pieceBytes = Math.max(MIN_PIECE_BYTES, Math.ceil(perMs * PIECE_MS));
  let freeAt = 0;

  const delayed = (handlers: PipeHandlers): PipeHandlers => {
    const held = new Ring<{ readonly bytes: Uint8Array; readonly at: number }>();
    let closed: { readonly error: Error | undefined } | undefined;
    let waiting = false;
    const pass = () => {
      const now = clock.now();
      for (let first = held.peek(); first && first.at <= now; first = held.peek()) {
        held.shift();
        handlers.onData(first.bytes);
      }
      const next = held.peek();
      if (!next && closed) handlers.onClose(closed.error);
      if (!next || waiting) return;
      waiting = true;
      clock.setTimer(() => {
        waiting = false;
        pass();
      }, next.at - now);
    };
    return {
      onData(bytes) {
        for (let at = 0; at < bytes.byteLength; at += pieceBytes) {
          const piece = bytes.slice(at, at + pieceBytes);
          freeAt = Math.max(freeAt, clock.now()) + piece.byteLength / perMs;
          held.push({ bytes: piece, at: freeAt + latencyMs });
        }
        pass();
      },
      onDrain: () => handlers.onDrain(),
      onClose(error) {
        closed = { error };
        if (!held.peek()) handlers.onClose(error);
      },
    };
  };
  const delaying = (make: (pipe: Pipe) => PipeHandlers) => (pipe: Pipe) => delayed(make(pipe));
  return {
    scheme: transport.scheme,
    listen: (address, accept) => transport.listen(address, delaying(accept)),
    connect: (address, handlers) => transport.connect(address, delaying(handlers)),
  };
}
