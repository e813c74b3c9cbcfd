/**
 * A responder's memory of the handshakes it has accepted, so that a recorded one is refused by its name. It is for
 * the message, not for the safety: the responder's own nonce is new each time, so a copy could not prove anything
 * anyway. Hence it may forget the oldest, and is bounded.
 */

import { sha256 } from "./mac.ts";

/** Some 100 bytes each. */
const MOST = 1024;

/** The handshakes a node has seen as responder, the last thousand. */
export class Replays {
  private readonly seen = new Set<string>();

  /** Remembers a `hello` that led to a proof. Borrowed. */
  add(hello: Uint8Array): void {
    this.seen.add(key(hello));
    const [oldest] = this.seen;
    if (this.seen.size > MOST) this.seen.delete(oldest!);
  }

  /** Whether it was seen. Borrowed. */
  has(hello: Uint8Array): boolean {
    return this.seen.has(key(hello));
  }
}

function key(hello: Uint8Array): string {
  return String.fromCharCode(...sha256(hello));
}
