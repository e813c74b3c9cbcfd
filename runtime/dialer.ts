/**
 * Connecting: to an address somebody gives, and on demand to the node a ref leads to. What is sent to a node
 * meanwhile waits, in order and up to a bound; whoever waits is served before anyone else can send.
 */

import type { ActorAddress } from "../protocols/messages.ts";
import type { Arrival } from "./arrival.ts";
import { asError, RuntimeError } from "./errors.ts";
import type { Peer } from "./peer.ts";
import { inOrder, isUsable, type Locality, machineOf, nearerRoute, schemeOf } from "./routes.ts";
import type { Tombstone } from "./tombstones.ts";
import type { Pipe, Transport } from "./transports/transport.ts";

/** What the dialer needs of its membership. */
export interface DialerHost {
  readonly name: string;
  readonly machine: string | undefined;
  readonly transports: readonly Transport[];
  readonly isClosed: boolean;
  find(id: string): Peer | undefined;
  tombstone(id: string): Tombstone | undefined;
  connected(): Iterable<Peer>;
  /** Makes a link of a pipe this node has opened. `nearer`: a nearer route may be looked for before it is used. */
  open(pipe: Pipe, scheme: string, nearer: boolean): Arrival;
}

type Found = (peer: Peer | Error) => void;

/** Messages that wait for one node to be connected; a link's own window bounds what follows. */
const MOST_WAITING = 10_000;

export class Dialer {
  private readonly host: DialerHost;
  /** Connections being made, by address: whoever asks for the same one shares it. */
  private readonly dialing = new Map<string, Promise<Peer>>();
  /** Who waits for a node that is being connected to on demand, by node id. */
  private readonly waiting = new Map<string, Found[]>();

  constructor(host: DialerHost) {
    this.host = host;
  }

  /** Connects, or finds the link that is there. @throws RuntimeError CONNECT_FAILED, or the handshake's error. */
  async connect(address: string): Promise<Peer> {
    this.expectOpen();
    for (const peer of this.host.connected()) {
      const { addresses, capabilities } = peer.info;
      if (addresses.includes(address) && isUsable(address, this.locality(machineOf(capabilities))))
        return peer;
    }
    return this.shared(address, true);
  }

  /**
   * Connects to the first of several that answers, in the order of nearness.
   * @throws the last error, of those that may heal if there are any.
   */
  async connectAny(addresses: readonly string[]): Promise<Peer> {
    const ordered = inOrder(addresses, this.locality(undefined));
    let last: unknown;
    // An address without a transport is worth its error when there is nothing better.
    for (const address of ordered.length > 0 ? ordered : addresses) {
      try {
        return await this.connect(address);
      } catch (error) {
        if (last === undefined || !isFinal(error) || isFinal(last)) last = error;
      }
    }
    throw last ?? new RuntimeError("CONNECT_FAILED", `${this.host.name} was given no address to connect to`);
  }

  /** Finds or connects the node where an actor lives; calls back at once when it is connected. */
  reach(address: ActorAddress, callback: Found): void {
    const known = this.at(address);
    if (known) {
      callback(known);
      return;
    }
    const waiting = this.waiting.get(address.node);
    if (waiting && waiting.length >= MOST_WAITING) {
      const text = `${MOST_WAITING} messages wait for node ${address.node} to be connected`;
      callback(new RuntimeError("MAILBOX_FULL", text, { node: address.node }));
      return;
    }
    const served: Found = (found) => {
      if (found instanceof Error) callback(found);
      else callback(this.at(address) ?? new RuntimeError("NODE_LOST", `node ${address.node} is lost again`));
    };
    if (waiting) {
      waiting.push(served);
      return;
    }
    const mine = [served];
    this.waiting.set(address.node, mine);
    this.dial(address).then(
      (peer) => this.serve(address.node, mine, peer),
      (error) => this.serve(address.node, mine, asError(error)),
    );
  }

  /** A node has joined, by whatever way: who waits for it goes first. */
  joined(peer: Peer): void {
    const waiting = this.waiting.get(peer.info.id);
    if (waiting) this.serve(peer.info.id, waiting, peer);
  }

  /** Nobody is going to be connected any more. */
  close(error: Error): void {
    for (const [node, waiting] of [...this.waiting]) this.serve(node, waiting, error);
  }

  /**
   * A connection this node has opened is ready, but nothing was said on it yet: if there is a nearer way to the
   * same node it is used instead.
   */
  settleRoute(arrival: Arrival): void {
    const { id, addresses, capabilities } = arrival.identity!;
    const locality = this.locality(machineOf(capabilities));
    const nearer = this.host.find(id) ? undefined : nearerRoute(arrival.scheme, addresses, locality);
    if (nearer === undefined) {
      arrival.proceed();
      return;
    }
    this.shared(nearer, false)
      .then(
        (peer) => peer.info.id === id && peer,
        () => false as const,
      )
      .then((peer) => {
        if (!peer) return arrival.proceed();
        arrival.outcome.resolve(peer);
        arrival.link.close(`${nearer} is nearer`);
      });
  }

  /** The peer an address leads to at present, an error if its actor is known to be gone, undefined if it is away. */
  private at({ node, incarnation }: ActorAddress): Peer | Error | undefined {
    const peer = this.host.find(node);
    const latest = peer?.info.incarnation ?? this.host.tombstone(node)?.incarnation ?? incarnation;
    if (latest > incarnation) {
      return new RuntimeError("ACTOR_DOWN", `node ${node} was started anew since; the actor is gone`, {
        node,
      });
    }
    return peer?.info.incarnation === incarnation ? peer : undefined;
  }

  private shared(address: string, nearer: boolean): Promise<Peer> {
    let dialing = this.dialing.get(address);
    if (!dialing) {
      dialing = this.open(address, nearer).finally(() => this.dialing.delete(address));
      this.dialing.set(address, dialing);
    }
    return dialing;
  }

  private async open(address: string, nearer: boolean): Promise<Peer> {
    const transport = transportFor(address, this.host.transports, "CONNECT_FAILED");
    let arrival: Arrival | undefined;
    await transport.connect(address, (pipe) => {
      arrival = this.host.open(pipe, transport.scheme, nearer);
      return arrival.link;
    });
    return arrival!.outcome.promise;
  }

  /**
   * The peer with this id; one that was here and is away is connected to again.
   * @throws RuntimeError NODE_LOST.
   */
  async again(node: string): Promise<Peer> {
    return this.host.find(node) ?? this.dial({ node, addresses: [] });
  }

  private async dial({ node, addresses }: Pick<ActorAddress, "node" | "addresses">): Promise<Peer> {
    const grave = this.host.tombstone(node);
    const all = [...addresses, ...(grave?.addresses ?? [])];
    let last: Error | undefined;
    for (const address of inOrder(all, this.locality(grave?.machine))) {
      try {
        const peer = await this.connect(address);
        if (peer.info.id === node) return peer;
        last = new RuntimeError("CONNECT_FAILED", `${address} is node ${peer.info.id} now`);
      } catch (error) {
        last = asError(error);
      }
    }
    const message = `${this.host.name} cannot reach node ${node}: ${last?.message ?? this.unreachable(all, grave)}`;
    throw new RuntimeError("NODE_LOST", message, { node, cause: last });
  }

  private unreachable(addresses: readonly string[], grave: Tombstone | undefined): string {
    if (addresses.length > 0) return `no way from here to ${addresses.join(", ")}`;
    if (grave) return `it left (${grave.reason}) and has no address`;
    const connected = [...this.host.connected()].map(({ info }) => info.id).join(", ");
    return `it is not connected and has no address; connected are ${connected || "none"}`;
  }

  private serve(node: string, waiting: readonly Found[], found: Peer | Error): void {
    if (this.waiting.get(node) !== waiting) return; // served already
    this.waiting.delete(node);
    for (const callback of waiting) callback(found);
  }

  private locality(there: string | undefined): Locality {
    return {
      schemes: this.host.transports.map(({ scheme }) => scheme),
      here: this.host.machine,
      there,
    };
  }

  private expectOpen(): void {
    if (this.host.isClosed) throw new RuntimeError("NODE_CLOSED", `node ${this.host.name} is closed`);
  }
}

/** @throws RuntimeError with `code`, naming the transports there are. */
export function transportFor(
  address: string,
  transports: readonly Transport[],
  code: "LISTEN_FAILED" | "CONNECT_FAILED",
): Transport {
  const scheme = schemeOf(address);
  const found = transports.find((transport) => transport.scheme === scheme);
  if (found) return found;
  const schemes =
    transports.map((t) => `${t.scheme}://`).join(", ") || "none: give it some, such as transports: [tcp()]";
  throw new RuntimeError(code, `no transport for the address "${address}"; this node speaks ${schemes}`);
}

const FINAL = [
  ...["NO_TOKEN", "WRONG_TOKEN", "WRONG_CERTIFICATE", "TLS_MISMATCH", "VERSION_MISMATCH"],
  ...["STALE_INCARNATION", "NODE_CLOSED"],
];

/** Whether trying again cannot help. */
export function isFinal(error: unknown): boolean {
  return FINAL.includes(String((error as { code?: unknown }).code));
}
