/**
 * A peer: another node, for as long as one link to it lives, which is one generation. It holds what this node
 * waits for from the other (answers, ends of monitored actors) and what the other monitors here. It is lost with
 * its link: every ask is rejected and every monitor fires at once, with an error that names the node and says
 * why. A later link to the same node is another peer: nothing of the one reaches the other, while refs, which
 * name the node and its incarnation, work over both.
 */

import type { OutMessage } from "../protocols/chunk.ts";
import type { Identity } from "../protocols/handshake.ts";
import type { DownReason, Envelope } from "../protocols/messages.ts";
import { RuntimeError } from "./errors.ts";
import type { Link } from "./link.ts";
import type { Reply } from "./mailbox.ts";
import { soon } from "./monitor.ts";
import type { ActorRef } from "./ref.ts";

/** Another node, for whoever asks. */
export interface PeerInfo extends Identity {
  /** Where its end of the connection is. */
  readonly address: string;
  /** The scheme of the link: `tcp`, `shm`, `ws`, … */
  readonly transport: string;
  /** Whether its bytes pass through a third node. */
  readonly route: "direct" | "relayed";
  /** Counts the links there have been to this node. */
  readonly generation: number;
}

interface Pending {
  readonly reply: Reply;
  /** What is being sent; undefined for messages without tensors that go at once. */
  readonly message: OutMessage | undefined;
}

export type Request = Extract<Envelope, { type: "ask" | "spawn" | "lookup" | "stop" | "discover" | "names" }>;
type WithoutId<T> = T extends { id: number } ? Omit<T, "id"> : never;

export class Peer {
  readonly info: PeerInfo;
  readonly link: Link;
  /** Of the offer by which the two ends agreed on the link. */
  readonly number: number;
  /** Monitors the peer has placed here, by the peer's number: each cancels. */
  readonly watched = new Map<number, () => void>();
  private readonly pending = new Map<number, Pending>();
  private readonly monitors = new Map<number, (reason: DownReason) => void>();
  private readonly lossWatchers = new Set<() => void>();
  private nextId = 1;
  private lost: RuntimeError | undefined;

  constructor(info: PeerInfo, link: Link, number: number) {
    this.info = info;
    this.link = link;
    this.number = number;
  }

  /** Sends without waiting for an answer. @throws ProtocolError, RuntimeError NODE_LOST. */
  send(envelope: Envelope, stream: string): OutMessage | undefined {
    if (this.lost) throw this.lost;
    return this.link.send(envelope, stream);
  }

  /** Sends and calls one of `reply` once; returns a function that gives up, taking the arguments' memory back. */
  request(request: WithoutId<Request>, stream: string, reply: Reply): () => void {
    const id = this.nextId++;
    try {
      const message = this.send({ ...request, id } as Request, stream);
      this.pending.set(id, { reply, message });
    } catch (error) {
      reply.reject(error as Error);
    }
    return () => {
      const pending = this.pending.get(id);
      this.pending.delete(id);
      if (pending?.message) this.link.cancel(pending.message);
    };
  }

  /**
   * Calls back once when the actor is gone; returns a function that cancels.
   * @param linked an actor of this node that is linked to in return.
   */
  monitor(actor: number, callback: (reason: DownReason) => void, linked: ActorRef | null): () => void {
    if (this.lost) return soon(callback, nodeLost(this.lost, this.info.id));
    const id = this.nextId++;
    this.monitors.set(id, callback);
    this.send(
      linked ? { type: "link", id, to: actor, from: linked } : { type: "monitor", id, to: actor },
      "",
    );
    return () => {
      if (this.monitors.delete(id) && !this.lost) this.send({ type: "demonitor", id }, "");
    };
  }

  /** An answer has come. One to a request that was given up is ignored. */
  answered(envelope: Extract<Envelope, { type: "reply" | "fail" }>): void {
    const pending = this.pending.get(envelope.id);
    if (!pending) return;
    this.pending.delete(envelope.id);
    // The other end may answer before it has read everything that was sent.
    if (pending.message) this.link.cancel(pending.message);
    if (envelope.type === "reply") pending.reply.resolve(envelope.value);
    else pending.reply.reject(envelope.error);
  }

  /** A monitored actor is gone. */
  down(id: number, reason: DownReason): void {
    const callback = this.monitors.get(id);
    this.monitors.delete(id);
    callback?.(reason);
  }

  /** The link is gone, and with it everything that waits. Idempotent. */
  lose(why: string, cause?: Error): RuntimeError {
    if (this.lost) return this.lost;
    const { id, name } = this.info;
    const error = new RuntimeError("NODE_LOST", `node ${name} (${id}) is lost: ${why}`, { node: id, cause });
    this.lost = error;
    const silentMs = this.link.silentMs();
    this.link.close(why);
    for (const cancel of this.watched.values()) cancel();
    this.watched.clear();
    const pending = [...this.pending.values()];
    this.pending.clear();
    for (const { reply } of pending) reply.reject(error);
    // One callback may cancel another.
    for (const [number, callback] of this.monitors) {
      this.monitors.delete(number);
      callback({ ...nodeLost(error, id), silentMs });
    }
    for (const callback of [...this.lossWatchers]) callback();
    this.lossWatchers.clear();
    return error;
  }

  /** Calls back if the message is not sent whole before the peer is lost. */
  onDropped(message: OutMessage, callback: (error: RuntimeError) => void): void {
    // The link drops what waits before it says why it ended.
    message.dropped = () => queueMicrotask(() => callback(this.lost!));
  }

  /** Calls back once when the peer is lost; returns a function that cancels. */
  onLost(callback: () => void): () => void {
    this.lossWatchers.add(callback);
    return () => void this.lossWatchers.delete(callback);
  }

  get isLost(): boolean {
    return this.lost !== undefined;
  }
}

export function nodeLost(error: Error, node: string): DownReason {
  return { code: "nodelost", message: error.message, error, node };
}
