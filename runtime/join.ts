/**
 * Keeping a connection: connect to the first of several addresses that answers, and after a loss try again, with
 * growing pauses, until told to stop. With `mesh` the node also connects to everybody its first contact knows or
 * gets to know, so that a cluster is formed by giving each node one address.
 */

import { backoffMs } from "./backoff.ts";
import type { Clock, Timer } from "./clock.ts";
import { isFinal } from "./dialer.ts";
import type { Introduction, Introductions } from "./discovery/introductions.ts";
import { asError, RuntimeError } from "./errors.ts";
import type { Log } from "./log.ts";
import type { Membership, PeerEvent } from "./membership.ts";
import type { PeerInfo } from "./peer.ts";
import type { Random } from "./random.ts";
import type { Times } from "./times.ts";

/** How to join. */
export interface JoinOptions {
  /** Connect to the peers of the node that is joined too, also to those that join it later. */
  readonly mesh?: boolean;
}

/** A connection that is kept. */
export interface Joining {
  /** The first time it was made. Rejected if it was stopped before, or can never be made: a wrong token, say. */
  readonly first: Promise<PeerInfo>;
  /** Tries no more; a connection that is there stays. Idempotent. */
  stop(): void;
}

/** What joining needs of its node. */
export interface JoinHost {
  readonly id: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly times: Times;
  readonly log: Log;
  readonly membership: Pick<Membership, "connectAny" | "find" | "subscribe">;
  readonly introductions: Pick<Introductions, "discover">;
}

/** All connections a node keeps. */
export class Joinings {
  private readonly host: JoinHost;
  private readonly joiners = new Set<Joiner>();

  constructor(host: JoinHost) {
    this.host = host;
  }

  join(addresses: readonly string[], options: JoinOptions): Joining {
    const joiner: Joiner = new Joiner(this.host, addresses, options, () => this.joiners.delete(joiner));
    this.joiners.add(joiner);
    return joiner;
  }

  /** Tries no more for any of them. */
  close(): void {
    for (const joiner of [...this.joiners]) joiner.stop();
  }
}

class Joiner implements Joining {
  readonly first: Promise<PeerInfo>;
  private readonly host: JoinHost;
  private readonly addresses: readonly string[];
  private readonly mesh: boolean;
  private readonly outcome = Promise.withResolvers<PeerInfo>();
  private readonly unsubscribe: () => void;
  private readonly onStopped: () => void;
  /** The node that is kept, when it is connected. */
  private kept: PeerInfo | undefined;
  private attempts = 0;
  private timer: Timer;
  private rounds = 0;
  private meshTimer: Timer;
  private stopped = false;

  constructor(host: JoinHost, addresses: readonly string[], options: JoinOptions, onStopped: () => void) {
    this.host = host;
    this.onStopped = onStopped;
    this.addresses = [...addresses];
    this.mesh = options.mesh ?? false;
    this.first = this.outcome.promise;
    this.first.catch(() => undefined); // who does not wait for it finds it in the log
    this.unsubscribe = host.membership.subscribe((event) => this.onPeer(event));
    void this.attempt();
  }

  stop(): void {
    if (this.stopped) return;
    this.stopped = true;
    this.unsubscribe();
    this.host.clock.clearTimer(this.timer);
    this.host.clock.clearTimer(this.meshTimer);
    this.outcome.reject(new RuntimeError("CONNECT_FAILED", "joining was stopped before it had connected"));
    this.onStopped();
  }

  private async attempt(): Promise<void> {
    try {
      const peer = await this.host.membership.connectAny(this.addresses);
      if (this.stopped) return;
      if (peer.isLost) return this.later();
      this.attempts = 0;
      this.kept = peer.info;
      this.outcome.resolve(peer.info);
      if (this.mesh) await this.round();
    } catch (thrown) {
      if (this.stopped) return;
      const error = asError(thrown);
      if (!isFinal(error)) return this.later();
      this.outcome.reject(error);
      this.stop();
      const message = `will not try to join ${this.addresses.join(", ")} again`;
      this.host.log({ level: "error", message, error });
    }
  }

  private later(): void {
    const { clock, random, times } = this.host;
    clock.clearTimer(this.timer);
    this.timer = clock.setTimer(() => void this.attempt(), backoffMs(this.attempts++, random, times));
  }

  private onPeer(event: PeerEvent): void {
    if (event.type !== "left") return;
    if (event.peer.id === this.kept?.id) {
      this.kept = undefined;
      this.later();
    } else if (this.mesh && this.kept && event.error) this.roundLater();
  }

  /** Asks who is there and connects to those that are missing; again later while some cannot be reached. */
  private async round(): Promise<void> {
    const kept = this.kept?.id;
    if (kept === undefined || this.stopped) return;
    try {
      const known = await this.host.introductions.discover(kept, (node) => {
        void this.meet(node).then((met) => met || this.roundLater());
      });
      const met = await Promise.all(known.map((node) => this.meet(node)));
      if (met.includes(false)) this.roundLater();
      else this.rounds = 0;
    } catch {
      // The contact is lost again: the next one is asked.
    }
  }

  private roundLater(): void {
    if (this.stopped) return;
    const { clock, random, times } = this.host;
    clock.clearTimer(this.meshTimer);
    this.meshTimer = clock.setTimer(() => void this.round(), backoffMs(this.rounds++, random, times));
  }

  /** Whether the node is connected, or needs no connecting from here. */
  private async meet({ id, addresses }: Introduction): Promise<boolean> {
    const { id: self, membership } = this.host;
    if (this.stopped || id === self || membership.find(id) || addresses.length === 0) return true;
    try {
      await membership.connectAny(addresses);
      return membership.find(id) !== undefined;
    } catch {
      return false;
    }
  }
}
