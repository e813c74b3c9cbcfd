/** A node's state at one moment, as plain data: what the gateway shows and a person asks for. */

import type { PeerInfo } from "./peer.ts";

export interface NodeStatus {
  readonly id: string;
  readonly name: string;
  /** Milliseconds since the epoch at the start. */
  readonly incarnation: number;
  readonly addresses: readonly string[];
  readonly peers: readonly PeerInfo[];
  /** Actors that live here. */
  readonly actors: number;
  /** Messages that came from other nodes, answers and signals included. */
  readonly messagesReceived: number;
  /** Messages that nobody handled. */
  readonly deadLetters: number;
  /** Pipes between other nodes that pass through this one, and the bytes of them that are under way here. */
  readonly relayed: { readonly pipes: number; readonly bytes: number };
}
