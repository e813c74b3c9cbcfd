/**
 * The node's part in signals between nodes (`transports/carrier.ts`): it hands those for this node to the transport
 * they are for, and forwards those between two of its peers. Forwarding goes over one node only, and only for what
 * the sender says in its own name. What relayed pipes may have under way here is bounded by a ledger.
 */

import type { Envelope } from "../protocols/messages.ts";
import { Tensor } from "../protocols/tensor.ts";
import type { Clock } from "./clock.ts";
import { RuntimeError } from "./errors.ts";
import type { PeerEvent } from "./membership.ts";
import type { Random } from "./random.ts";
import type { Carrier, SignalReceiver } from "./transports/carrier.ts";
import { RelayLedger } from "./transports/relay/ledger.ts";
import { RELAY } from "./transports/relay/messages.ts";

export type Signal = Extract<Envelope, { type: "signal" }>;

/** What a switchboard needs of a connected node. */
export interface SignalPeer {
  readonly info: { readonly id: string };
  /** @throws when the link is lost or full. */
  send(envelope: Envelope, stream: string): unknown;
}

/** What it needs of its node. */
export interface SwitchboardHost {
  readonly id: string;
  readonly token: string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  /** How long peers may take to say whether they know a node, in milliseconds. */
  readonly routeMs: number;
  peers(): Iterable<SignalPeer>;
  find(id: string): SignalPeer | undefined;
  subscribe(
    subscriber: (event: Pick<PeerEvent, "type"> & { peer: { readonly id: string } }) => void,
  ): () => void;
}

/** Subjects of the switchboards' own: do you know that node; I do; a signal of yours could not be forwarded. */
const WHERE = "where";
const HERE = "here";
const LOST = "lost";

export class Switchboard implements Carrier {
  readonly self: string;
  readonly token: string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  private readonly host: SwitchboardHost;
  private readonly receivers = new Map<string, SignalReceiver>();
  private readonly ledger = new RelayLedger();
  /** Who waits to hear of a node, by its id. */
  private readonly searches = new Map<string, Set<(via: string) => void>>();

  constructor(host: SwitchboardHost) {
    this.host = host;
    this.self = host.id;
    this.token = host.token;
    this.clock = host.clock;
    this.random = host.random;
    host.subscribe(({ type, peer }) => {
      if (type === "left") this.left(peer.id);
    });
  }

  async route(node: string): Promise<string> {
    if (node !== this.self && this.host.find(node)) return node;
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const asked = node === this.self ? [] : [...this.host.peers()];
    const names = asked.map((peer) => peer.info.id).join(", ") || "nobody";
    const failed = () =>
      reject(new RuntimeError("CONNECT_FAILED", `no way to node ${node}; asked ${names}`, { node }));
    if (asked.length === 0) failed();
    const timer = this.clock.setTimer(failed, this.host.routeMs);
    const waiting = this.searches.get(node) ?? new Set();
    this.searches.set(node, waiting);
    let left = asked.length;
    // Each peer answers once, with its own id, or with nothing if it does not know the node either.
    const answered = (via: string) => {
      left--;
      if (via !== "") resolve(via);
      else if (left <= 0) failed();
    };
    waiting.add(answered);
    for (const peer of asked) this.send(peer.info.id, peer.info.id, WHERE, node);
    try {
      return await promise;
    } finally {
      this.clock.clearTimer(timer);
      waiting.delete(answered);
      if (waiting.size === 0) this.searches.delete(node);
    }
  }

  send(via: string, to: string, about: string, data: unknown): boolean {
    return this.pass(this.host.find(via), { type: "signal", to, from: this.self, about, data });
  }

  receive(about: string, receiver: SignalReceiver): void {
    this.receivers.set(about, receiver);
  }

  /** A signal has come from a peer. */
  handle(by: SignalPeer, signal: Signal): void {
    const { to, from } = signal;
    if (to === this.self) this.take(by.info.id, signal);
    else if (from === by.info.id) this.forward(by, signal);
  }

  /** Relayed pipes that pass through this node, and the bytes of them that are under way here. */
  get relayed(): { readonly pipes: number; readonly bytes: number } {
    return this.ledger;
  }

  private take(via: string, { from, about, data }: Signal): void {
    if (about === WHERE) {
      const found = typeof data === "string" && this.host.find(data) !== undefined && data !== via;
      this.send(via, via, HERE, [data, found]);
    } else if (about === HERE) {
      const [node, found] = Array.isArray(data) ? data : [];
      for (const answered of [...(this.searches.get(String(node)) ?? [])])
        answered(found === true ? via : "");
    } else if (about === LOST) {
      const [to, what] = Array.isArray(data) ? data : [];
      this.receivers.get(String(what))?.onLost(via, String(to));
    } else {
      this.receivers.get(about)?.onSignal(from, via, data);
    }
  }

  private forward(by: SignalPeer, signal: Signal): void {
    const { from, to, about, data } = signal;
    if (about !== RELAY) {
      if (!this.pass(this.host.find(to), signal)) this.undeliverable(from, to, about);
      return;
    }
    const allowed = this.ledger.pass(from, to, data);
    if (allowed && this.pass(this.host.find(to), signal)) return;
    const refusal = allowed ? undefined : this.ledger.refusal(data);
    if (refusal) {
      this.pass(by, { ...signal, to: from, from: to, data: refusal });
      return;
    }
    this.undeliverable(from, to, RELAY);
    this.undeliverable(to, from, RELAY);
  }

  /** Tells a peer that its signals to a node are not forwarded, after what that node has sent it before. */
  private undeliverable(peer: string, to: string, about: string): void {
    if (about === RELAY) this.ledger.forget(peer, to);
    const data = [to, about, new Tensor("u8", [1], new Uint8Array(1))];
    this.pass(this.host.find(peer), { type: "signal", to: peer, from: this.self, about: LOST, data }, to);
  }

  /** Signals with tensors keep their order among those between the same nodes; the others go before them. */
  private pass(peer: SignalPeer | undefined, signal: Signal, as = signal.from): boolean {
    try {
      peer?.send(signal, `signal ${as} ${signal.to}`);
      return peer !== undefined;
    } catch {
      return false; // the link is lost, or more waits for it than may
    }
  }

  private left(id: string): void {
    for (const receiver of this.receivers.values()) receiver.onLost(id, undefined);
    for (const other of this.ledger.partners(id)) this.undeliverable(other, id, RELAY);
  }
}
