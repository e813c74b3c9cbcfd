/**
 * A transport with the bandwidth and latency of a slower network: for the emulated testbed on machines where
 * nobody is root, and, on a virtual clock, for arithmetic that comes out exactly.
 *
 * The model is that of a line: bytes leave one after the other at the line's rate (serialisation), then take the
 * latency to arrive, plus a random part of the jitter, and never overtake each other. A transport shapes what it
 * sends, as a host's own queueing discipline does; for both directions both ends are shaped, each with its own
 * figures, so a line may be asymmetric. Bytes on their way are bounded by what the line itself holds (rate times
 * latency) and a queue of 20 ms in front of it, so that a writer feels the line's speed.
 *
 * With a real clock, timers are about a millisecond late; throughput does not suffer from that, because the line's
 * time is reckoned and not measured, but a latency below a millisecond cannot be had.
 */

import type { Clock } from "../clock.ts";
import type { Random } from "../random.ts";
import { type Course, DelayedPipe, wrapping } from "./delayed.ts";
import type { Transport } from "./transport.ts";

/** What a line is like. */
export interface Shape {
  /** On a `VirtualClock` everything comes out exactly. */
  readonly clock: Clock;
  /** Rate of the line. Default: no limit. */
  readonly bytesPerSecond?: number;
  /** Milliseconds from one end to the other. Default 0. */
  readonly latencyMs?: number;
  /** Up to this many milliseconds more, at random for each piece. Needs `random`. */
  readonly jitterMs?: number;
  /** For the jitter. */
  readonly random?: Random;
  /** `pipe`: each connection has a line of its own. `transport`: all share one, as a host its uplink. */
  readonly line?: "pipe" | "transport";
}

/** The queue in front of the line, in milliseconds of its rate. */
const QUEUE_MS = 20;
/** One piece is about a millisecond of the line, within reason. */
const PIECE_MS = 1;
const MIN_PIECE_BYTES = 1500;
const MAX_PIECE_BYTES = 64 * 1024;
/** A write of this many bytes finds room on the slowest line. */
const MIN_CAPACITY_BYTES = 64 * 1024;
/** Bytes under way on a line without a rate. */
const UNLIMITED_CAPACITY_BYTES = 16 * 2 ** 20;

/** When a line is free again: what pipes share that share a line. */
interface Line {
  freeAt: number;
}

/** The same transport at the speed of a line. @throws RangeError for a rate that is not positive, a negative time, or jitter without `random`. */
export function shaped(transport: Transport, shape: Shape): Transport {
  const { bytesPerSecond = Number.POSITIVE_INFINITY, latencyMs = 0, jitterMs = 0, random } = shape;
  if (!(bytesPerSecond > 0)) throw new RangeError(`bytesPerSecond is positive, got ${bytesPerSecond}`);
  if (!(latencyMs >= 0 && jitterMs >= 0)) {
    throw new RangeError(`latencyMs and jitterMs are not negative, got ${latencyMs} and ${jitterMs}`);
  }
  if (jitterMs > 0 && !random) throw new RangeError("jitterMs needs random");
  const common: Line = { freeAt: 0 };
  return wrapping(transport, (inner) => {
    const line = shape.line === "transport" ? common : { freeAt: 0 };
    return new DelayedPipe(inner, shape.clock, courseOf(shape, line));
  });
}

function courseOf(shape: Shape, line: Line): Course {
  const { clock, bytesPerSecond, latencyMs = 0, jitterMs = 0, random } = shape;
  const perMs = bytesPerSecond === undefined ? Number.POSITIVE_INFINITY : bytesPerSecond / 1000;
  const held = perMs * (latencyMs + jitterMs + QUEUE_MS);
  let last = 0;
  return {
    capacityBytes:
      bytesPerSecond === undefined ? UNLIMITED_CAPACITY_BYTES : Math.max(MIN_CAPACITY_BYTES, Math.ceil(held)),
    pieceBytes: Math.ceil(Math.min(MAX_PIECE_BYTES, Math.max(MIN_PIECE_BYTES, perMs * PIECE_MS))),
    arrival(piece) {
      line.freeAt = Math.max(line.freeAt, clock.now()) + piece.byteLength / perMs;
      const jitter = random && jitterMs > 0 ? jitterMs * random.next() : 0;
      last = Math.max(last, line.freeAt + latencyMs + jitter);
      return last;
    },
  };
}
