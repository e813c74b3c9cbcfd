/**
 * Which nodes this one has links to: it listens, connects, keeps the peers, and says who joined and who left and
 * why. A node is identified by its id and its incarnation, which grows each time it starts: a newer one replaces
 * an older one, an older one is refused for as long as the newer is remembered, and the same one may come back
 * after a loss, as a new generation of the link. Generations are never spliced: when a link ends, everything that
 * waited on it is answered with the loss, and nothing of it reaches the next.
 */

import type { Allocate } from "../protocols/assemble.ts";
import { Codec, type CodecHooks } from "../protocols/codec.ts";
import { expectIdentity, type Identity } from "../protocols/handshake.ts";
import type { Limits } from "../protocols/limits.ts";
import type { ActorAddress, Envelope } from "../protocols/messages.ts";
import { Replays } from "../protocols/replays.ts";
import { Arrival, type ArrivalHost } from "./arrival.ts";
import type { Clock } from "./clock.ts";
import type { Heartbeat } from "./detector.ts";
import { Dialer, transportFor } from "./dialer.ts";
import { asError, RuntimeError } from "./errors.ts";
import { Link } from "./link.ts";
import type { Log } from "./log.ts";
import { Peer, type PeerInfo } from "./peer.ts";
import type { Random } from "./random.ts";
import { Refusals } from "./refusals.ts";
import { machineOf, routeOf, seenFrom } from "./routes.ts";
import { coordinatorOf } from "./security/token.ts";
import { timesOf } from "./times.ts";
import { type Tombstone, Tombstones } from "./tombstones.ts";
import type { Listener, Pipe, Transport } from "./transports/transport.ts";

/** Another node has joined this one or is no longer connected to it. */
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

/** Accepted links that have not proved who they are; beyond it the one that has taken longest is dropped. */
const MOST_STRANGERS = 256;
const DUPLICATE = "LINK_DUPLICATE";

export class Membership {
  readonly addresses: string[] = [];
  private readonly options: MembershipOptions;
  private readonly peers = new Map<string, Peer>();
  private readonly tombstones = new Tombstones();
  private readonly listeners: Listener[] = [];
  private readonly subscribers = new Set<(event: PeerEvent) => void>();
  /** Links that are no peer's yet, the oldest first. */
  private readonly arrivals = new Set<Arrival>();
  private readonly dialer: Dialer;
  private readonly refusals: Refusals;
  private readonly replays = new Replays();
  /** Fingerprint of the certificate that the coordinator shows. */
  private readonly coordinator: string | undefined;
  private offers = 0;
  private closed = false;

  constructor(options: MembershipOptions) {
    expectIdentity(options.identity);
    this.options = options;
    this.coordinator = coordinatorOf(options.token);
    this.refusals = new Refusals(options.clock, options.log);
    const isClosed = () => this.closed;
    this.dialer = new Dialer({
      name: options.identity.name,
      machine: machineOf(options.identity.capabilities),
      transports: options.transports,
      get isClosed() {
        return isClosed();
      },
      find: (id) => this.peers.get(id),
      tombstone: (id) => this.tombstones.find(id, this.now),
      connected: () => this.peers.values(),
      open: (pipe, scheme, nearer) => this.open(pipe, "initiator", scheme, nearer),
    });
  }

  subscribe(subscriber: (event: PeerEvent) => void): () => void {
    this.subscribers.add(subscriber);
    return () => this.subscribers.delete(subscriber);
  }

  list(): PeerInfo[] {
    return [...this.peers.values()].map((peer) => peer.info);
  }

  /** The nodes this one has links to. */
  connected(): Iterable<Peer> {
    return this.peers.values();
  }

  /** Nodes that have left, the first to leave first. */
  departed(): Tombstone[] {
    return this.tombstones.list(this.now);
  }

  /** @throws RuntimeError LISTEN_FAILED naming the address, NODE_CLOSED. */
  async listen(address: string): Promise<string> {
    this.expectOpen();
    const transport = transportFor(address, this.options.transports, "LISTEN_FAILED");
    const listener = await transport.listen(
      address,
      (pipe) => this.open(pipe, "responder", transport.scheme, false).link,
    );
    if (this.closed) {
      await listener.close();
      this.expectOpen();
    }
    this.listeners.push(listener);
    this.addresses.push(listener.address);
    return listener.address;
  }

  /** As `Dialer.connect`. */
  connect(address: string): Promise<Peer> {
    return this.dialer.connect(address);
  }

  /** As `Dialer.connectAny`. */
  connectAny(addresses: readonly string[]): Promise<Peer> {
    return this.dialer.connectAny(addresses);
  }

  /** As `Dialer.reach`. */
  reach(address: ActorAddress, callback: (peer: Peer | Error) => void): void {
    this.dialer.reach(address, callback);
  }

  /** The peer with this id, if it is connected. */
  find(id: string): Peer | undefined {
    return this.peers.get(id);
  }

  /** As `Dialer.again`. */
  again(id: string): Promise<Peer> {
    return this.dialer.again(id);
  }

  /** Where a node can be connected to, as far as this one has seen; undefined if it is not connected. */
  addressesOf(id: string): readonly string[] | undefined {
    return this.peers.get(id)?.info.addresses;
  }

  /** Ends everything; peers are told that this node leaves. */
  async close(reason: string): Promise<void> {
    this.closed = true;
    await Promise.all(this.listeners.map((listener) => listener.close()));
    for (const { link } of [...this.arrivals]) link.close(reason);
    // The youngest first: a relayed link goes before those it is made of.
    for (const peer of [...this.peers.values()].reverse()) this.left(peer, reason, undefined);
    this.dialer.close(
      new RuntimeError("NODE_CLOSED", `node ${this.options.identity.name} closed before it was connected`),
    );
    this.refusals.close();
  }

  private get now(): number {
    return this.options.clock.now();
  }

  private open(pipe: Pipe, role: "initiator" | "responder", scheme: string, nearer: boolean): Arrival {
    const { identity, token, clock, random, limits, heartbeat, allocate, codecHooks } = this.options;
    if (role === "responder") this.makeRoom();
    const arrival = new Arrival(this.arrivalHost, role, scheme, nearer);
    const self = { ...identity, addresses: [...this.addresses] };
    const codec = new Codec(codecHooks, limits);
    const nonce = random.bytes(32);
    arrival.link = new Link(
      pipe,
      {
        role,
        self,
        token,
        coordinator: this.coordinator,
        replays: this.replays,
        nonce,
        clock,
        limits,
        heartbeat,
        codec,
        allocate,
      },
      arrival,
    );
    this.arrivals.add(arrival);
    // The node was closed while the transport was connecting.
    if (this.closed) queueMicrotask(() => arrival.link.close("the node is closing"));
    return arrival;
  }

  private readonly arrivalHost: ArrivalHost = {
    ready: (arrival) => {
      this.expectOpen();
      const { id, name, incarnation } = arrival.identity!;
      const { pipe } = arrival.link;
      if (id === this.options.identity.id) {
        throw new RuntimeError("CONNECT_FAILED", `${pipe.peer} is this node itself`);
      }
      this.expectCurrent(arrival.identity!);
      const known = this.peers.get(id);
      if (known && known.info.incarnation < incarnation) {
        this.options.log({
          level: "warn",
          message: `node ${name} (${id}) was started anew at ${pipe.peer}, or another node was given its id, while it was connected`,
        });
        this.replace(known, "it was started anew");
      }
      const { connectMs } = timesOf(this.options.heartbeat.patienceMs);
      arrival.timer = this.options.clock.setTimer(() => {
        const late = `${name} (${id}) did not agree on this link in ${connectMs} ms`;
        arrival.link.fail(new RuntimeError("LINK_SILENT", late, { node: id }));
      }, connectMs);
      if (arrival.nearer) this.dialer.settleRoute(arrival);
      else arrival.proceed();
    },
    id: () => this.options.identity.id,
    nextOffer: () => ++this.offers,
    oldestOffer: (arrival) => {
      const { id } = arrival.identity!;
      const numbers = [...this.siblings(arrival)].map((other) => other.number).filter((n) => n > 0);
      return Math.min(arrival.number, this.peers.get(id)?.number ?? Infinity, ...numbers);
    },
    lastGeneration: (id) =>
      this.peers.get(id)?.info.generation ?? this.tombstones.find(id, this.now)?.generation ?? 0,
    heldInstead: (arrival, oldest) => {
      const known = this.peers.get(arrival.identity!.id);
      if (known && known.number >= oldest) return known;
      if (known) this.replace(known, "the other end has lost the link");
      return undefined;
    },
    adopted: (arrival, generation) => this.joined(arrival, generation),
    refuseDuplicate: (arrival, kept) => {
      arrival.outcome.resolve(kept);
      const { name, id, generation } = kept.info;
      const message = `${name} (${id}) is connected already, by generation ${generation} of the link`;
      arrival.link.fail(new RuntimeError(DUPLICATE, message, { node: id }));
    },
    onMessage: (peer, envelope, taken) => this.options.onMessage(peer, envelope, taken),
    onClosed: (arrival, why) => this.linkClosed(arrival, why),
  };

  /** Other links to the same node that are not adopted yet. */
  private *siblings(arrival: Arrival): Iterable<Arrival> {
    for (const other of this.arrivals)
      if (other !== arrival && other.identity?.id === arrival.identity?.id) yield other;
  }

  private makeRoom(): void {
    const strangers = [...this.arrivals].filter((a) => a.role === "responder" && !a.identity);
    if (strangers.length < MOST_STRANGERS) return;
    const text = `at most ${MOST_STRANGERS} connections may wait for their handshake; this one waited longest`;
    strangers[0]!.link.fail(new RuntimeError("CONNECT_FAILED", text));
  }

  /** @throws RuntimeError STALE_INCARNATION if a newer one is or was here. */
  private expectCurrent({ id, name, incarnation }: Identity): void {
    const latest =
      this.peers.get(id)?.info.incarnation ?? this.tombstones.find(id, this.now)?.incarnation ?? incarnation;
    if (incarnation >= latest) return;
    const message = `node ${name} (${id}) was started anew since: incarnation ${latest} has been seen, this is ${incarnation}`;
    throw new RuntimeError("STALE_INCARNATION", message, { node: id });
  }

  private joined(arrival: Arrival, generation: number): Peer {
    const identity = arrival.identity!;
    this.expectCurrent(identity);
    const { id } = identity;
    const known = this.peers.get(id);
    if (known) this.replace(known, `generation ${generation} of the link has taken its place`);
    this.options.clock.clearTimer(arrival.timer);
    this.arrivals.delete(arrival);
    const { link, scheme, number } = arrival;
    const seenAt = link.pipe.peer;
    const route = routeOf(scheme);
    const addresses = identity.addresses.map((a) => (route === "direct" ? seenFrom(a, seenAt) : a));
    const info = { ...identity, addresses, address: seenAt, transport: scheme, route, generation };
    const peer = new Peer(info, link, number);
    arrival.peer = peer;
    this.peers.set(id, peer);
    this.dialer.joined(peer);
    this.announce({ type: "joined", peer: info });
    return peer;
  }

  private linkClosed(arrival: Arrival, why: Error | string): void {
    this.options.clock.clearTimer(arrival.timer);
    this.arrivals.delete(arrival);
    const { peer, outcome, link, role } = arrival;
    if (peer) {
      this.left(peer, why instanceof Error ? why.message : why, why instanceof Error ? why : undefined);
      return;
    }
    const early = `${link.pipe.peer} closed the link during the handshake: ${why}`;
    const error = why instanceof Error ? why : new RuntimeError("CONNECT_FAILED", early);
    if ((error as { code?: unknown }).code === DUPLICATE) {
      this.settleDuplicate(arrival, error);
      return;
    }
    outcome.reject(error);
    if (role === "responder" && error === why) this.refusals.refused(link.pipe.peer, error);
  }

  /** The other end keeps another link, which may be on its way here. */
  private settleDuplicate(arrival: Arrival, error: Error): void {
    const { outcome, identity } = arrival;
    const kept = this.peers.get(identity?.id ?? "");
    if (kept) {
      outcome.resolve(kept);
      return;
    }
    const sibling = [...this.siblings(arrival)].find(({ number }) => number > 0);
    if (sibling) outcome.resolve(sibling.outcome.promise);
    else
      outcome.reject(
        new RuntimeError("CONNECT_FAILED", `${error.message}; it is lost here`, { cause: error }),
      );
  }

  private replace(peer: Peer, why: string): void {
    this.left(peer, why, new RuntimeError("NODE_LOST", why, { node: peer.info.id }));
  }

  private left(peer: Peer, reason: string, error: Error | undefined): void {
    const { id, name, incarnation, generation, addresses, capabilities } = peer.info;
    if (this.peers.get(id) !== peer) return;
    this.peers.delete(id);
    this.tombstones.add({
      ...{ id, name, incarnation, generation, reason, addresses, at: this.now },
      machine: machineOf(capabilities),
      how: error ? "lost" : "goodbye",
    });
    peer.lose(reason, error);
    if (error) this.options.log({ level: "info", message: `lost node ${name} (${id})`, error });
    this.announce({ type: "left", peer: peer.info, reason, ...(error ? { error } : {}) });
  }

  private announce(event: PeerEvent): void {
    for (const subscriber of [...this.subscribers]) {
      try {
        subscriber(event);
      } catch (error) {
        this.options.log({ level: "error", message: "a subscriber to peers failed", error: asError(error) });
      }
    }
  }

  private expectOpen(): void {
    if (this.closed) throw new RuntimeError("NODE_CLOSED", `node ${this.options.identity.name} is closed`);
  }
}
