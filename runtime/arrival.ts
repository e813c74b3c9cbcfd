/**
 * A link on its way to becoming a generation. Two nodes may connect to each other at the same moment, or one may
 * have noticed that their link broke and the other not yet; both must come to agree on one link, or messages would
 * be split over two. So a link carries nothing until it was adopted: the node with the greater id offers it, and
 * the node with the smaller id, which sees all offers, adopts it or refuses it as a duplicate.
 *
 *     greater id                                              smaller id
 *     offer   number, oldest of my numbers still alive   →
 *                                                        ←    adopt   generation       (or close LINK_DUPLICATE)
 *
 * A connection made by the node with the smaller id is ready as soon as the handshake is, for the offer comes with
 * its last frame; one made by the other takes a round trip more.
 *
 * The decider refuses an offer while it holds a link whose number the offer counts among the living; a link it
 * holds that is older than all of those is dead at the other end, and is given up for the new one. Generations are
 * numbered per peer, from 1, by the decider; each side adds what it remembers.
 */

import { ProtocolError } from "../protocols/errors.ts";
import type { Identity } from "../protocols/handshake.ts";
import type { Envelope } from "../protocols/messages.ts";
import type { Timer } from "./clock.ts";
import type { Link, LinkHandlers } from "./link.ts";
import type { Peer } from "./peer.ts";

type Offer = Extract<Envelope, { type: "offer" }>;

/** What arrivals need of their membership. */
export interface ArrivalHost {
  id(): string;
  /**
   * The handshake is over; `proceed` is to be called, at once or when no nearer way was found.
   * @throws RuntimeError CONNECT_FAILED, STALE_INCARNATION: this link is not wanted.
   */
  ready(arrival: Arrival): void;
  /** A number no offer of this node has had. */
  nextOffer(): number;
  /** The smallest number of this node's offers to that node that are not known to be dead. */
  oldestOffer(arrival: Arrival): number;
  /** The last generation with that node that is remembered; 0 if none. */
  lastGeneration(id: string): number;
  /** The decider's part: the link that is kept instead, or undefined to adopt this one. */
  heldInstead(arrival: Arrival, oldest: number): Peer | undefined;
  /** Refuses this link in favour of another. */
  refuseDuplicate(arrival: Arrival, kept: Peer): void;
  /** The link is adopted, as this generation: from now on it is a peer's. @throws RuntimeError STALE_INCARNATION. */
  adopted(arrival: Arrival, generation: number): Peer;
  onMessage(peer: Peer, envelope: Envelope, taken: () => void): void;
  /** The link has ended, whether or not it was a peer's. */
  onClosed(arrival: Arrival, why: Error | string): void;
}

export class Arrival implements LinkHandlers {
  readonly role: "initiator" | "responder";
  /** Of the address it was opened at. */
  readonly scheme: string;
  /** Whether a nearer way to the node may be looked for before this one is used. */
  readonly nearer: boolean;
  /** The peer it has become part of (or that is there already), or why not. */
  readonly outcome = Promise.withResolvers<Peer>();
  link!: Link;
  /** Known when the handshake is over. */
  identity: Identity | undefined;
  /** Of the offer, once it was made. */
  number = 0;
  /** What it has become. */
  peer: Peer | undefined;
  /** Of the adoption. */
  timer: Timer;
  private readonly host: ArrivalHost;
  private offer: Offer | undefined;
  private proceeding = false;

  constructor(host: ArrivalHost, role: "initiator" | "responder", scheme: string, nearer: boolean) {
    this.host = host;
    this.role = role;
    this.scheme = scheme;
    this.nearer = nearer;
    this.outcome.promise.catch(() => undefined); // who waits for it hears of it; often nobody does
  }

  onReady(theirs: Identity): void {
    this.identity = theirs;
    this.host.ready(this);
  }

  onMessage(envelope: Envelope, taken: () => void): void {
    if (this.peer) {
      this.host.onMessage(this.peer, envelope, taken);
    } else if (envelope.type === "offer" && this.decides && !this.offer) {
      this.offer = envelope;
      this.decide();
    } else if (envelope.type === "adopt" && this.number > 0) {
      this.outcome.resolve(this.host.adopted(this, envelope.generation));
    } else {
      const text = `a message "${envelope.type}" came before the link was adopted`;
      throw new ProtocolError("UNEXPECTED_FRAME", text);
    }
  }

  onClosed(why: Error | string): void {
    this.host.onClosed(this, why);
  }

  /** The handshake is over, and nothing better than this link is being tried. */
  proceed(): void {
    this.proceeding = true;
    if (this.decides) {
      this.decide();
      return;
    }
    this.number = this.host.nextOffer();
    const oldest = this.host.oldestOffer(this);
    const generation = this.host.lastGeneration(this.identity!.id);
    this.link.send({ type: "offer", number: this.number, oldest, generation }, "");
  }

  /** Whether this node is the one that decides. */
  private get decides(): boolean {
    return this.host.id() < this.identity!.id;
  }

  private decide(): void {
    const { offer } = this;
    if (!offer || !this.proceeding) return;
    const kept = this.host.heldInstead(this, offer.oldest);
    if (kept) {
      this.host.refuseDuplicate(this, kept);
      return;
    }
    this.number = offer.number;
    const generation = Math.max(this.host.lastGeneration(this.identity!.id), offer.generation) + 1;
    this.link.send({ type: "adopt", generation }, "");
    this.outcome.resolve(this.host.adopted(this, generation));
  }
}
