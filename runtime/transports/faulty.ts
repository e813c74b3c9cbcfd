/**
 * A transport on which things go wrong, by chance and repeatably: connections are refused or cut, bytes are held
 * up, damaged, or end in the middle. For tests of whatever has to survive that. Within one pipe order is kept, as
 * every pipe promises; connections are delayed independently, so between pairs of nodes it is not.
 *
 * Each probability is that of one write or of one connection attempt; all are 0 by default, and then the transport
 * behaves as the one it wraps. A transport spoils what it sends; for both directions both ends are wrapped.
 */

import type { Clock } from "../clock.ts";
import { RuntimeError } from "../errors.ts";
import type { Random } from "../random.ts";
import { type Course, DelayedPipe, wrapping } from "./delayed.ts";
import type { Pipe, Transport } from "./transport.ts";

/** They are looked at each time: whoever keeps the object can change them, to let a bad line become good again. */
export interface Faults {
  /** For delays and stalls. */
  readonly clock: Clock;
  /** Seeded, where a run must be repeatable. */
  readonly random: Random;
  /** A connection attempt fails. */
  readonly refuse?: number;
  /** The connection is closed instead of writing; what is under way is lost. */
  readonly cut?: number;
  /** Part of the write arrives, then the connection is closed. */
  readonly truncate?: number;
  /** One bit of what is written arrives changed. */
  readonly corrupt?: number;
  /** Each write takes up to this many milliseconds. */
  readonly delayMs?: number;
  /** Nothing arrives for `stallMs` from this write on. */
  readonly stall?: number;
  /** Milliseconds; `Infinity` is a direction that stays silent until the connection closes. Default 1000. */
  readonly stallMs?: number;
}

const CAPACITY_BYTES = 4 * 2 ** 20;
const PIECE_BYTES = 256 * 1024;

/** The same transport, with faults in what it sends and in the connections it makes. */
export function faulty(transport: Transport, faults: Faults): Transport {
  const wrapped = wrapping(transport, (inner) => new FaultyPipe(inner, faults));
  return {
    ...wrapped,
    async connect(address, handlers): Promise<Pipe> {
      if (faults.random.next() < (faults.refuse ?? 0)) {
        throw new RuntimeError("CONNECT_FAILED", `the connection to ${address} was refused by a fault`);
      }
      return wrapped.connect(address, handlers);
    },
  };
}

class FaultyPipe extends DelayedPipe {
  private readonly faults: Faults;

  constructor(inner: Pipe, faults: Faults) {
    super(inner, faults.clock, courseOf(faults));
    this.faults = faults;
  }

  override write(bytes: Uint8Array): number {
    const { random, cut = 0, truncate = 0 } = this.faults;
    if (random.next() < cut) {
      this.cut(new RuntimeError("NODE_LOST", `the connection to ${this.peer} was cut by a fault`));
      return 0;
    }
    if (random.next() < truncate) {
      super.write(bytes.subarray(0, random.integer(bytes.byteLength)));
      this.close(new RuntimeError("NODE_LOST", `the connection to ${this.peer} was truncated by a fault`));
      return 0;
    }
    return super.write(bytes);
  }
}

function courseOf(faults: Faults): Course {
  let last = 0;
  return {
    capacityBytes: CAPACITY_BYTES,
    pieceBytes: PIECE_BYTES,
    arrival(piece) {
      const { clock, random, corrupt = 0, delayMs = 0, stall = 0, stallMs = 1000 } = faults;
      if (random.next() < corrupt) piece[random.integer(piece.byteLength)]! ^= 1 << random.integer(8);
      const delay = delayMs > 0 ? delayMs * random.next() : 0;
      const held = random.next() < stall ? stallMs : 0;
      last = Math.max(last, clock.now() + delay + held);
      return last;
    },
  };
}
