/**
 * Who has left: for each node that was a peer and is none any more, its last incarnation, the number of its last
 * link generation and why it went. A tombstone keeps an older incarnation of that node from coming back (a process
 * that was frozen, replaced by a new one, and thawed), lets generations be counted on, and gives people a better
 * answer than "not connected". Bounded in number and age, so a node forgets in the end; what it forgets can at
 * worst come back as a peer whose actors nobody refers to.
 */

/** What is remembered of a node that left. */
export interface Tombstone {
  /** The node's id. */
  readonly id: string;
  /** For people. */
  readonly name: string;
  /** The last one that was seen. */
  readonly incarnation: number;
  /** Of the last link to it. */
  readonly generation: number;
  /** `goodbye`: it, or this node, closed in good order. `lost`: anything else. */
  readonly how: "goodbye" | "lost";
  /** For people: its words, or what was wrong. */
  readonly reason: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** Where it could be connected to. */
  readonly addresses: readonly string[];
  /** Its machine, if it told. */
  readonly machine: string | undefined;
}

/** A home's or a laboratory's devices many times over; some 200 KB. */
const MOST = 1024;
/** Long enough for a frozen machine to have been replaced, and for the time of a network's repair. */
const AGE_MS = 3_600_000;

export class Tombstones {
  /** The oldest first. */
  private readonly byId = new Map<string, Tombstone>();

  add(tombstone: Tombstone): void {
    this.byId.delete(tombstone.id);
    this.byId.set(tombstone.id, tombstone);
    this.forget(tombstone.at);
  }

  find(id: string, now: number): Tombstone | undefined {
    this.forget(now);
    return this.byId.get(id);
  }

  /** The oldest first. */
  list(now: number): Tombstone[] {
    this.forget(now);
    return [...this.byId.values()];
  }

  private forget(now: number): void {
    for (const [id, { at }] of this.byId) {
      if (this.byId.size <= MOST && now - at < AGE_MS) return;
      this.byId.delete(id);
    }
  }
}
