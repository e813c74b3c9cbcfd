/**
 * Groups, as Erlang/OTP's `pg`: named sets of actors that all connected nodes see. An actor joins on its own node;
 * that node tells every node it is connected to, at once for changes and in full when a connection is made. So the
 * view of a group is eventually the same everywhere, and each node's part of it is as that node sees it, in order.
 *
 * Membership belongs to a life: whoever ends, in whatever way, has left, and a restarted actor joins again in its
 * `onStart`. With the loss of a connection the members of that node leave at once; a new connection brings those
 * it has by then, so nobody is a member who is not. Only nodes connected to each other exchange members; nothing
 * is passed on for a third. Joining twice is joining once. A narrowed ref can be a member: it is all that others
 * then see of the actor.
 */

import { ProtocolError } from "../protocols/errors.ts";
import type { DownReason, Envelope } from "../protocols/messages.ts";
import { asError, RuntimeError } from "./errors.ts";
import type { Log } from "./log.ts";
import type { PeerEvent } from "./membership.ts";
import type { Random } from "./random.ts";
import { ActorRef, type Ref } from "./ref.ts";

/** An actor has become a member of a group, or is one no more. */
export type GroupEvent =
  | { readonly type: "joined"; readonly group: string; readonly ref: Ref<any> }
  /** `reason`: why, unless it left by its own word. */
  | { readonly type: "left"; readonly group: string; readonly ref: Ref<any>; readonly reason?: DownReason };

/** What a node tells another of its members. */
export type GroupsEnvelope = Extract<Envelope, { type: "groups" }>;

/** What groups need of another node. */
export interface GroupsPeer {
  /** Who it is. */
  readonly info: { readonly id: string; readonly name: string };
  /** Its link is gone. */
  readonly isLost: boolean;
  /** Sends without waiting for an answer. @throws ProtocolError, RuntimeError NODE_LOST. */
  send(envelope: Envelope, stream: string): unknown;
}

/** What groups need of their node. */
export interface GroupsHost {
  readonly log: Log;
  readonly random: Random;
  find(node: string): GroupsPeer | undefined;
}

interface Member {
  readonly ref: ActorRef;
  /** Ends the watch on a member of this node; undefined for one of another. */
  readonly cancel: (() => void) | undefined;
}

/** Members in one message. */
const BATCH = 256;

/** The groups as one node sees them: `node.groups`. */
export class Groups {
  private readonly host: GroupsHost;
  /** Members by key, by group. A group without members does not exist. */
  private readonly groups = new Map<string, Map<string, Member>>();
  private readonly peers = new Map<string, GroupsPeer>();
  private readonly subscribers = new Set<(event: GroupEvent) => void>();

  /** Made by the node. @internal */
  constructor(host: GroupsHost) {
    this.host = host;
  }

  /** Makes an actor of this node a member until it ends. @throws RuntimeError NOT_LOCAL. */
  join(group: string, ref: Ref<any>): void {
    const member = ref as ActorRef;
    if (!member.exporter) {
      throw new RuntimeError(
        "NOT_LOCAL",
        `${member} joins the group "${group}" on its own node, not on another`,
      );
    }
    if (this.groups.get(group)?.has(member.key)) return;
    const cancel = member.target.watch((reason) => this.drop(group, member, reason));
    this.add(group, { ref: member, cancel });
    this.tell({ type: "groups", joined: true, members: [[group, member]] });
  }

  /** Takes an actor of this node out of a group; harmless if it is no member. @throws RuntimeError NOT_LOCAL. */
  leave(group: string, ref: Ref<any>): void {
    const member = ref as ActorRef;
    if (!member.exporter && this.groups.get(group)?.has(member.key)) {
      throw new RuntimeError(
        "NOT_LOCAL",
        `${member} leaves the group "${group}" on its own node, not on another`,
      );
    }
    this.drop(group, member, undefined);
  }

  /** The members on this node and all connected ones, in the order in which this node heard of them. */
  members<A>(group: string): Ref<A>[] {
    return [...(this.groups.get(group)?.values() ?? [])].map(({ ref }) => ref as unknown as Ref<A>);
  }

  /** The members on this node. */
  localMembers<A>(group: string): Ref<A>[] {
    return this.members<A>(group).filter((ref) => (ref as unknown as ActorRef).exporter !== undefined);
  }

  /** One of the members at random, or null if there is none. */
  pick<A>(group: string): Ref<A> | null {
    const members = this.members<A>(group);
    return members[this.host.random.integer(members.length)] ?? null;
  }

  /** The groups that have members. */
  names(): string[] {
    return [...this.groups.keys()];
  }

  /** Told of all who join and leave any group, from now on. Returns a function that ends it. */
  subscribe(subscriber: (event: GroupEvent) => void): () => void {
    this.subscribers.add(subscriber);
    return () => this.subscribers.delete(subscriber);
  }

  /** A node has come or gone. @internal */
  onPeer(event: PeerEvent): void {
    const node = event.peer.id;
    if (event.type === "joined") {
      const peer = this.host.find(node);
      if (!peer) return;
      this.peers.set(node, peer);
      this.introduce(peer);
      return;
    }
    this.peers.delete(node);
    const message = `node ${event.peer.name} (${node}) is lost: ${event.reason}`;
    const reason: DownReason = {
      code: "nodelost",
      message,
      node,
      ...(event.error ? { error: event.error } : {}),
    };
    for (const [group, members] of [...this.groups]) {
      for (const { ref, cancel } of [...members.values()]) {
        if (!cancel && ref.address.node === node) this.remove(group, ref, reason);
      }
    }
  }

  /** A node tells of its members. @throws ProtocolError MALFORMED_HEADER. @internal */
  received(by: GroupsPeer, { joined, members }: GroupsEnvelope): void {
    if (by.isLost) return;
    for (const entry of members) {
      const [group, ref, reason] = Array.isArray(entry) ? entry : [];
      if (typeof group !== "string" || !(ref instanceof ActorRef) || ref.address.node !== by.info.id) {
        const what = `${by.info.name} tells of a member of a group that is not an actor of its own`;
        throw new ProtocolError("MALFORMED_HEADER", what);
      }
      if (!joined) this.remove(group, ref, reasonOf(reason));
      else if (!this.groups.get(group)?.has(ref.key)) this.add(group, { ref, cancel: undefined });
    }
  }

  /** All members of this node, for one that has just been connected. */
  private introduce(peer: GroupsPeer): void {
    const own = [...this.groups].flatMap(([group, members]) =>
      [...members.values()].filter(({ cancel }) => cancel).map(({ ref }) => [group, ref]),
    );
    for (let at = 0; at < own.length; at += BATCH) {
      peer.send({ type: "groups", joined: true, members: own.slice(at, at + BATCH) }, "");
    }
  }

  /** A member of this node is one no more. */
  private drop(group: string, ref: ActorRef, reason: DownReason | undefined): void {
    this.groups.get(group)?.get(ref.key)?.cancel?.();
    if (!this.remove(group, ref, reason)) return;
    const { code, message } = reason ?? {};
    this.tell({
      type: "groups",
      joined: false,
      members: [[group, ref, ...(reason ? [{ code, message }] : [])]],
    });
  }

  /** A member is one from now on, in this node's view. */
  private add(group: string, member: Member): void {
    let members = this.groups.get(group);
    if (!members) {
      members = new Map();
      this.groups.set(group, members);
    }
    members.set(member.ref.key, member);
    this.announce({ type: "joined", group, ref: member.ref });
  }

  /** A member is one no more, in this node's view. @returns whether it was one. */
  private remove(group: string, { key }: ActorRef, reason: DownReason | undefined): boolean {
    const members = this.groups.get(group);
    const member = members?.get(key);
    if (!members || !member) return false;
    members.delete(key);
    if (members.size === 0) this.groups.delete(group);
    this.announce({ type: "left", group, ref: member.ref, ...(reason ? { reason } : {}) });
    return true;
  }

  /** Tells every connected node. */
  private tell(envelope: GroupsEnvelope): void {
    for (const peer of this.peers.values()) if (!peer.isLost) peer.send(envelope, "");
  }

  /** Tells the subscribers; one that throws is logged. */
  private announce(event: GroupEvent): void {
    for (const subscriber of [...this.subscribers]) {
      try {
        subscriber(event);
      } catch (error) {
        this.host.log({ level: "error", message: "a subscriber to groups failed", error: asError(error) });
      }
    }
  }
}

/** Why a member left, as another node tells it; undefined if it left by its own word. */
function reasonOf(told: unknown): DownReason | undefined {
  const { code, message } = (told ?? {}) as Partial<DownReason>;
  const known = code === "normal" || code === "killed" || code === "error" || code === "noactor";
  return known && typeof message === "string" ? { code, message } : undefined;
}
