/**
 * Introductions: nodes that are connected to the same node learn of each other through it. A node asks a peer
 * once who is there, or follows it and is told of everyone who joins it later. What is passed on is what nodes
 * said of themselves in their handshakes, so only peers, which hold the token, are told anything.
 */

import { ProtocolError } from "../../protocols/errors.ts";
import type { PeerEvent } from "../membership.ts";
import type { Peer, PeerInfo } from "../peer.ts";
import { machineOf } from "../routes.ts";

/** What one node tells of another. */
export interface Introduction {
  /** The other node's id, for `spawnOn` and `lookup`. */
  readonly id: string;
  /** For people. */
  readonly name: string;
  /** The one that the node which tells is connected to. */
  readonly incarnation: number;
  /** Where it can be connected to; empty if nowhere. */
  readonly addresses: readonly string[];
  /** Its machine, if it told. */
  readonly machine?: string;
}

/** What introductions need of their node. */
export interface IntroductionsHost {
  list(): readonly PeerInfo[];
  /** @throws RuntimeError NODE_LOST. */
  again(id: string): Promise<Peer>;
}

export class Introductions {
  private readonly host: IntroductionsHost;
  /** Peers that want to be told who joins. */
  private readonly followers = new Set<Peer>();
  /** Who wants to know what a peer that is followed tells. */
  private readonly followed = new Map<Peer, (node: Introduction) => void>();

  constructor(host: IntroductionsHost) {
    this.host = host;
  }

  /** The nodes a peer is connected to, without this one. @throws RuntimeError NODE_LOST. */
  async discover(via: string, follow?: (node: Introduction) => void): Promise<readonly Introduction[]> {
    const peer = await this.host.again(via);
    if (follow) this.followed.set(peer, follow);
    const answer = Promise.withResolvers<unknown>();
    peer.request({ type: "discover", follow: follow !== undefined }, "", answer);
    const list = await answer.promise;
    return Array.isArray(list) ? list.map(introduction) : [];
  }

  /** The answer to a peer that asks. */
  answer(asker: Peer, follow: boolean): Introduction[] {
    if (follow) this.followers.add(asker);
    return this.host.list().flatMap((peer) => (peer.id === asker.info.id ? [] : [of(peer)]));
  }

  /** A peer that is followed tells of another. @throws ProtocolError MALFORMED_HEADER. */
  introduced(by: Peer, node: unknown): void {
    this.followed.get(by)?.(introduction(node));
  }

  /** Those who follow are told who joins; who is lost is forgotten. */
  onPeer({ type, peer: { id }, peer }: PeerEvent): void {
    for (const follower of [...this.followers]) {
      if (follower.isLost) this.followers.delete(follower);
      else if (type === "joined" && follower.info.id !== id)
        follower.send({ type: "introduce", node: of(peer) }, "");
    }
    for (const followed of [...this.followed.keys()]) if (followed.isLost) this.followed.delete(followed);
  }
}

function of({ id, name, incarnation, addresses, capabilities }: PeerInfo): Introduction {
  const machine = machineOf(capabilities);
  return { id, name, incarnation, addresses, ...(machine === undefined ? {} : { machine }) };
}

function introduction(data: unknown): Introduction {
  const { id, name, incarnation, addresses, machine } = Object(data) as Record<string, unknown>;
  if (
    typeof id !== "string" ||
    typeof name !== "string" ||
    !Number.isSafeInteger(incarnation) ||
    !Array.isArray(addresses) ||
    !addresses.every((address) => typeof address === "string")
  ) {
    throw new ProtocolError("MALFORMED_HEADER", "an introduction names no node");
  }
  const where = typeof machine === "string" ? { machine } : {};
  return { id, name, incarnation: incarnation as number, addresses, ...where };
}
