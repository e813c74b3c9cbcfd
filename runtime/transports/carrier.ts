/**
 * Signals: small messages to any node that is linked to this one, or to a node that is. Transports that make their
 * pipes out of links that are there already (WebRTC for its signalling, the relay for all its bytes) are given a
 * `Carrier` by their node (`runtime/switchboard.ts`).
 *
 * A signal arrives at most once and signals with bytes arrive in the order they were sent, as long as the links do.
 * Who sent it is what the node says that forwarded it: what must not be forged is authenticated by whoever sends it.
 */

import type { Clock } from "../clock.ts";
import type { Random } from "../random.ts";

/** What a transport that is made of links gets from its node. */
export interface Carrier {
  /** This node's id. */
  readonly self: string;
  /** The join token that all nodes share, if there is one. */
  readonly token: string | undefined;
  /** The node's. */
  readonly clock: Clock;
  /** The node's. */
  readonly random: Random;
  /**
   * The id of a connected node through which another can be reached; the other itself, if it is connected.
   * @throws RuntimeError CONNECT_FAILED when nobody who is connected knows it.
   */
  route(node: string): Promise<string>;
  /** Sends a signal (plain data and tensors) to `to` by way of `via`; false when it is lost at once. */
  send(via: string, to: string, about: string, data: unknown): boolean;
  /** Takes the signals about a subject; one receiver for each. */
  receive(about: string, receiver: SignalReceiver): void;
}

/** Who takes the signals about a subject: a transport. */
export interface SignalReceiver {
  /** A signal from a node has come by way of `via`. `data` is what any member may have made up: check it. */
  onSignal(from: string, via: string, data: unknown): void;
  /** Signals to `to` by way of `via` do not arrive any more; `to` undefined stands for every node beyond `via`. */
  onLost(via: string, to: string | undefined): void;
}
