/** A node's state at one moment, as plain data: what the gateway shows and a person asks for. */

import type { PeerInfo } from "./peer.ts";

/** What `NodeRuntime.status()` gives. */
export interface NodeStatus {
  /** The node's id. */
  readonly id: string;
  /** For people. */
  readonly name: string;
  /** Milliseconds since the epoch at the start. */
  readonly incarnation: number;
  /** Where it listens. */
  readonly addresses: readonly string[];
  /** The nodes it is connected to. */
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
