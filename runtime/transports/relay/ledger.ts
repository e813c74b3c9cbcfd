/**
 * What a node that forwards relayed pipes keeps of them: for each direction, how many bytes are under way. The ends
 * keep to a window by themselves; the ledger is there for one that does not, and bounds how many pipes there are.
 * Memory here is at most `MOST_PIPES` times two windows.
 */

import { parseRelay, RELAY_WINDOW_BYTES, relay } from "./messages.ts";

/** Pipes that one node forwards at a time. */
const MOST_PIPES = 256;

interface Entry {
  /** Who opened it, and to whom. */
  readonly ends: readonly [string, string];
  /** Bytes under way from each of the ends. */
  readonly underWay: [number, number];
  /** Which of them have said that they close. */
  readonly closed: [boolean, boolean];
}

export class RelayLedger {
  private readonly entries = new Map<string, Entry>();

  get pipes(): number {
    return this.entries.size;
  }

  get bytes(): number {
    let bytes = 0;
    for (const { underWay } of this.entries.values()) bytes += underWay[0] + underWay[1];
    return bytes;
  }

  /** Whether a message of a relayed pipe may be forwarded; counts it. */
  pass(from: string, to: string, data: unknown): boolean {
    const message = parseRelay(data);
    if (!message) return false;
    const { kind, pipe } = message;
    if (kind === "open") {
      if (this.entries.has(pipe) || this.entries.size >= MOST_PIPES) return false;
      this.entries.set(pipe, { ends: [from, to], underWay: [0, 0], closed: [false, false] });
      return true;
    }
    const entry = this.entries.get(pipe);
    // A pipe that both ends have closed may get a last word; it is not worth an error.
    if (!entry) return kind === "close" || kind === "credit";
    const side = entry.ends[0] === from && entry.ends[1] === to ? 0 : 1;
    if (entry.ends[side] !== from || entry.ends[1 - side] !== to) return false;
    if (kind === "data") {
      entry.underWay[side] += message.bytes.byteLength;
      return entry.underWay[side] <= RELAY_WINDOW_BYTES;
    }
    if (kind === "credit") {
      entry.underWay[1 - side]! -= message.count;
      return entry.underWay[1 - side]! >= 0;
    }
    if (kind === "close") {
      entry.closed[side] = true;
      if (entry.closed[1 - side]) this.entries.delete(pipe);
    }
    return true;
  }

  /** What to answer to a message that is not forwarded, if it can be answered without harm to other pipes. */
  refusal(data: unknown): unknown {
    const message = parseRelay(data);
    if (message?.kind !== "open") return undefined;
    return relay.close(
      message.pipe,
      0,
      `the node in between relays ${this.entries.size} connections already`,
    );
  }

  /** Whoever has a relayed pipe with this node, once each. */
  partners(node: string): Set<string> {
    const partners = new Set<string>();
    for (const { ends } of this.entries.values()) {
      if (ends[0] === node) partners.add(ends[1]);
      if (ends[1] === node) partners.add(ends[0]);
    }
    return partners;
  }

  /** The pipes between two nodes are no more. */
  forget(a: string, b: string): void {
    for (const [pipe, { ends }] of this.entries) {
      if ((ends[0] === a && ends[1] === b) || (ends[0] === b && ends[1] === a)) this.entries.delete(pipe);
    }
  }
}
