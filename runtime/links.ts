/**
 * Links, as in Erlang/OTP: two actors that must not outlive each other's failure. When one ends abnormally (it
 * crashed, was killed, its node is lost, or it was gone before the link was made) the other's `onExit` is called;
 * unless it is overridden it crashes that actor too, with an error that names the linked actor and carries the
 * first real error as its cause. A class that overrides `onExit` traps exits and decides for itself; it is also
 * told of normal ends, which otherwise mean nothing to a link. An actor that is stopped, also by its supervisor, ends
 * normally; in OTP its reason would be `shutdown`, which takes linked processes along: here an orderly stop is nobody's
 * failure, and who is to stop with it is its child or its sibling in a tree.
 *
 * A link joins two lives. It is made of two halves, one monitor on either side, which are placed and taken away
 * together; an end takes away its own half before the other side hears of it, so nothing fires twice. Linking
 * twice is linking once. Across nodes one message asks the other side for its half, and the loss of the connection
 * is the end of either for the other.
 */

import type { DownReason } from "../protocols/messages.ts";
import type { Actor } from "./actor.ts";
import type { ActorRef } from "./ref.ts";

/** What links need of their actor's cell. */
export interface LinksOwner {
  readonly ref: ActorRef;
  /** Undo what the present life has set up elsewhere. */
  readonly cleanups: Set<() => void>;
  signal(handler: (actor: Actor) => unknown): void;
}

const all = new WeakMap<LinksOwner, Links>();

/** The links of a cell; made when they are first needed, for most actors have none. */
export function linksOf(owner: LinksOwner): Links {
  let links = all.get(owner);
  if (!links) {
    links = new Links(owner);
    all.set(owner, links);
  }
  return links;
}

/** One actor's halves of its links. */
export class Links {
  private readonly owner: LinksOwner;
  private readonly halves = new Map<string, () => void>();
  /** Ends of linked actors that this one has not been told of yet. */
  private readonly due = new Set<{ readonly key: string }>();

  constructor(owner: LinksOwner) {
    this.owner = owner;
  }

  /** Makes a link: this half here, and the other one there. @throws RuntimeError NARROWED. */
  link(other: ActorRef): void {
    this.place(other, (callback) => other.target.link(this.owner.ref, callback));
  }

  /** The other side has made a link; this is the half it asks for. */
  accept(other: ActorRef): void {
    this.place(other, (callback) => other.target.watch(callback));
  }

  /** Takes both halves away. What this side has not been told of yet it will not be told of any more. */
  unlink(other: ActorRef): void {
    this.release(other);
    other.target.unlink(this.owner.ref);
  }

  /** Takes this half away. */
  release(other: ActorRef): void {
    const { key } = other;
    this.halves.get(key)?.();
    this.halves.delete(key);
    for (const exit of this.due) if (exit.key === key) this.due.delete(exit);
  }

  private place(other: ActorRef, watch: (callback: (reason: DownReason) => void) => () => void): void {
    const { key } = other;
    if (this.halves.has(key) || key === this.owner.ref.key) return;
    const cancel = watch((reason) => {
      this.halves.delete(key);
      const exit = { key };
      this.due.add(exit);
      this.owner.signal((actor) =>
        this.due.delete(exit) ? actor.onExit({ ref: other, reason }) : undefined,
      );
    });
    this.halves.set(key, cancel);
    this.owner.cleanups.add(this.clear);
  }

  /** The life is over. */
  private readonly clear = (): void => {
    for (const cancel of this.halves.values()) cancel();
    this.halves.clear();
    this.due.clear();
  };
}
