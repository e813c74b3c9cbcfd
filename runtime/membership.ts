/**
 * Which nodes this one has links to: it listens, connects (also on demand, for a ref that came in a message),
 * keeps the peers, and says who joined and who left and why.
 */

import type { Allocate } from "../protocols/chunk.ts";
import { Codec, type CodecHooks } from "../protocols/codec.ts";
import type { Identity } from "../protocols/handshake.ts";
import type { Limits } from "../protocols/limits.ts";
import type { ActorAddress, Envelope } from "../protocols/messages.ts";
import type { Clock } from "./clock.ts";
import type { Heartbeat } from "./detector.ts";
import { asError, RuntimeError } from "./errors.ts";
import { Link } from "./link.ts";
import type { Log } from "./log.ts";
import { Peer, type PeerInfo } from "./peer.ts";
import type { Random } from "./random.ts";
import type { Listener, Pipe, Transport } from "./transports/transport.ts";

export type PeerEvent =
  | { readonly type: "joined"; readonly peer: PeerInfo }
  /** `error` unless the peer said goodbye. */
  | { readonly type: "left"; readonly peer: PeerInfo; readonly reason: string; readonly error?: Error };

export interface MembershipOptions {
  readonly identity: Omit<Identity, "addresses">;
  readonly transports: readonly Transport[];
  readonly token: string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: Limits;
  readonly heartbeat: Heartbeat;
  readonly allocate: Allocate;
  readonly codecHooks: CodecHooks;
  readonly log: Log;
  onMessage(peer: Peer, envelope: Envelope, taken: () => void): void;
}

export class Membership {
  readonly addresses: string[] = [];
  private readonly options: MembershipOptions;
  private readonly peers = new Map<string, Peer>();
  private readonly listeners: Listener[] = [];
  private readonly subscribers = new Set<(event: PeerEvent) => void>();
  /** Links that are not ready yet. */
  private readonly arriving = new Set<Link>();
  /** Who waits for a node that is being connected to on demand, by node id. */
  private readonly waiting = new Map<string, ((peer: Peer | Error) => void)[]>();
  private closed = false;

  constructor(options: MembershipOptions) {
    this.options = options;
  }

  subscribe(subscriber: (event: PeerEvent) => void): () => void {
    this.subscribers.add(subscriber);
    return () => this.subscribers.delete(subscriber);
  }

  list(): PeerInfo[] {
    return [...this.peers.values()].map((peer) => peer.info);
  }

  /** @throws RuntimeError LISTEN_FAILED naming the address. */
  async listen(address: string): Promise<string> {
    this.expectOpen();
    const transport = this.transport(address, "LISTEN_FAILED");
    const listener = await transport.listen(address, (pipe) => this.open(pipe, "responder").link);
    this.listeners.push(listener);
    this.addresses.push(listener.address);
    return listener.address;
  }

  /** Connects, or finds the link that is there. @throws RuntimeError CONNECT_FAILED, or the handshake's error. */
  async connect(address: string): Promise<Peer> {
    this.expectOpen();
    const transport = this.transport(address, "CONNECT_FAILED");
    for (const peer of this.peers.values()) if (peer.info.addresses.includes(address)) return peer;
    const before = new Set(this.peers.values());
    let ready: Promise<Peer> | undefined;
    await transport.connect(address, (pipe) => {
      const opened = this.open(pipe, "initiator");
      ready = opened.ready;
      ready.catch(() => undefined); // also rejected when the transport's own connect is
      return opened.link;
    });
    const peer = await ready!;
    // The node was connected under another address: one link is enough, and the older one has the traffic.
    if (before.has(peer) && peer.links.length > 1) peer.links.pop()!.close("there is a link already");
    return peer;
  }

  /** The peer with this id. @throws RuntimeError NODE_LOST when it is not connected. */
  peer(id: string): Peer {
    const peer = this.peers.get(id);
    if (!peer) {
      const known = this.list().map((p) => p.id);
      const message = `node ${id} is not connected to ${this.options.identity.name}; connected are ${known.join(", ") || "none"}`;
      throw new RuntimeError("NODE_LOST", message, { node: id });
    }
    return peer;
  }

  /** Where a node can be connected to, as far as this one has seen; undefined if it is not connected. */
  addressesOf(id: string): readonly string[] | undefined {
    return this.peers.get(id)?.info.addresses;
  }

  /** Finds or connects the node where an actor lives; calls back at once when it is connected. */
  reach(address: ActorAddress, callback: (peer: Peer | Error) => void): void {
    const peer = this.peers.get(address.node);
    if (peer) {
      callback(sameIncarnation(peer, address));
      return;
    }
    const waiting = this.waiting.get(address.node);
    if (waiting) {
      waiting.push((found) => callback(found instanceof Error ? found : sameIncarnation(found, address)));
      return;
    }
    this.waiting.set(address.node, []);
    this.reach(address, callback);
    this.dial(address).then(
      () => this.reached(address.node, this.peers.get(address.node)),
      (error) => this.reached(address.node, asError(error)),
    );
  }

  /** Ends everything; peers are told that this node leaves. */
  async close(reason: string): Promise<void> {
    this.closed = true;
    await Promise.all(this.listeners.map((listener) => listener.close()));
    for (const link of [...this.arriving]) link.close(reason);
    for (const peer of [...this.peers.values()]) this.left(peer, reason, undefined);
  }

  private open(pipe: Pipe, role: "initiator" | "responder"): { link: Link; ready: Promise<Peer> } {
    const { identity, token, clock, random, limits, heartbeat, allocate, codecHooks } = this.options;
    const ready = Promise.withResolvers<Peer>();
    if (role === "responder") ready.promise.catch(() => undefined); // it is logged; nobody else waits
    let peer: Peer | undefined;
    const self = { ...identity, addresses: [...this.addresses] };
    const codec = new Codec(codecHooks, limits);
    const nonce = random.bytes(32);
    const link: Link = new Link(
      pipe,
      { role, self, token, nonce, clock, limits, heartbeat, codec, allocate },
      {
        onReady: (theirs) => {
          this.arriving.delete(link);
          if (this.closed) {
            link.close("the node is closing");
            return;
          }
          peer = this.joined(theirs, link);
          if (peer) ready.resolve(peer);
          else link.fail(new RuntimeError("CONNECT_FAILED", `${pipe.peer} is this node itself`));
        },
        onMessage: (envelope, taken) => this.options.onMessage(peer!, envelope, taken),
        onClosed: (reason) => {
          this.arriving.delete(link);
          if (peer) {
            this.linkClosed(peer, link, reason);
            return;
          }
          const early = `${pipe.peer} closed the link during the handshake: ${reason}`;
          const why = reason instanceof Error ? reason : new RuntimeError("CONNECT_FAILED", early);
          ready.reject(why);
          if (role === "responder") {
            this.options.log({
              level: "warn",
              message: `refused a connection from ${pipe.peer}`,
              error: why,
            });
          }
        },
      },
    );
    this.arriving.add(link);
    return { link, ready: ready.promise };
  }

  /** A link is ready; undefined if it leads back here. */
  private joined(identity: Identity, link: Link): Peer | undefined {
    if (identity.id === this.options.identity.id) return undefined;
    const known = this.peers.get(identity.id);
    if (known && known.info.incarnation === identity.incarnation) {
      known.links.push(link);
      return known;
    }
    if (known)
      this.left(known, "it was started anew", new RuntimeError("NODE_LOST", "replaced by a new incarnation"));
    const addresses = identity.addresses.map((address) => reachable(address, link.pipe.peer));
    const peer = new Peer({ ...identity, addresses, address: link.pipe.peer }, link);
    this.peers.set(identity.id, peer);
    this.reached(identity.id, peer);
    this.announce({ type: "joined", peer: peer.info });
    return peer;
  }

  private linkClosed(peer: Peer, link: Link, why: Error | string): void {
    const at = peer.links.indexOf(link);
    if (at < 0) return;
    peer.links.splice(at, 1);
    if (why instanceof Error) this.left(peer, why.message, why);
    else if (peer.links.length === 0) this.left(peer, why, undefined);
  }

  private left(peer: Peer, reason: string, error: Error | undefined): void {
    if (this.peers.get(peer.info.id) !== peer) return;
    this.peers.delete(peer.info.id);
    peer.lose(reason, error);
    if (error) this.options.log({ level: "info", message: `lost node ${peer.info.name}`, error });
    this.announce({ type: "left", peer: peer.info, reason, ...(error ? { error } : {}) });
  }

  private announce(event: PeerEvent): void {
    for (const subscriber of this.subscribers) {
      try {
        subscriber(event);
      } catch (error) {
        this.options.log({ level: "error", message: "a subscriber to peers failed", error: asError(error) });
      }
    }
  }

  private async dial({ node, addresses }: ActorAddress): Promise<void> {
    let last: Error | undefined;
    for (const address of addresses) {
      try {
        const peer = await this.connect(address);
        if (peer.info.id === node) return;
        last = new RuntimeError("CONNECT_FAILED", `${address} is node ${peer.info.id} now`);
      } catch (error) {
        last = asError(error);
      }
    }
    const why = last ? last.message : "it is not connected and has no address";
    throw new RuntimeError("NODE_LOST", `node ${node} cannot be reached: ${why}`, { node, cause: last });
  }

  /** Everyone who waits is served before anyone else can send, so that order is kept. */
  private reached(node: string, found: Peer | Error | undefined): void {
    const waiting = this.waiting.get(node);
    this.waiting.delete(node);
    const outcome = found ?? new RuntimeError("NODE_LOST", `node ${node} is lost again`, { node });
    for (const callback of waiting ?? []) callback(outcome);
  }

  private transport(address: string, code: "LISTEN_FAILED" | "CONNECT_FAILED"): Transport {
    const scheme = address.split("://")[0];
    const found = this.options.transports.find((transport) => transport.scheme === scheme);
    if (found) return found;
    const schemes = this.options.transports.map((t) => `${t.scheme}://`).join(", ") || "none";
    throw new RuntimeError(code, `no transport for the address "${address}"; this node speaks ${schemes}`);
  }

  private expectOpen(): void {
    if (this.closed) throw new RuntimeError("NODE_CLOSED", `node ${this.options.identity.name} is closed`);
  }
}

/** An address that means "any of my interfaces" to who listens there, as the one it has been seen at. */
function reachable(address: string, seenAt: string): string {
  const [, scheme, port] = /^(\w+:\/\/)(?:0\.0\.0\.0|\[::\])(:\d+)$/.exec(address) ?? [];
  const host = /^\w+:\/\/(\[[^\]]+\]|[^:]+):\d+$/.exec(seenAt)?.[1];
  return scheme && host ? `${scheme}${host}${port}` : address;
}

function sameIncarnation(peer: Peer, { node, incarnation }: ActorAddress): Peer | Error {
  if (peer.info.incarnation === incarnation) return peer;
  return new RuntimeError("ACTOR_DOWN", `node ${node} was started anew since; the actor is gone`, { node });
}
