/** What a node is made of, and how actors are started on it, as data. */

import type { Allocate } from "../protocols/assemble.ts";
import type { Limits } from "../protocols/limits.ts";
import type { Clock } from "./clock.ts";
import type { Heartbeat } from "./detector.ts";
import type { HostedClasses, Owner } from "./hosting.ts";
import type { Log } from "./log.ts";
import type { Random } from "./random.ts";
import type { Transport } from "./transports/transport.ts";

/** What a node is made of. Only the name is needed; without transports it is alone. */
export interface NodeOptions {
  /** For people; also the beginning of the id when none is given. */
  readonly name: string;
  /** The same each time this device starts. By default the name and eight random hexadecimal digits. */
  readonly id?: string;
  /** Classes that other nodes may start here, by the name they use; see hosting.ts. */
  readonly actors?: HostedClasses;
  /** The ways it can be connected; which one is used follows from where the other node is. */
  readonly transports?: readonly Transport[];
  /** Default: the machine's. */
  readonly clock?: Clock;
  /** Default: the system's, which nobody can guess. Ids, addresses of actors and nonces are made of it. */
  readonly random?: Random;
  /** The join token; nodes with another one, or none, are refused. */
  readonly token?: string;
  /** Memory for received tensors. */
  readonly allocate?: Allocate;
  /** Bounds of each link, see protocols/limits.ts; those not given are `DEFAULT_LIMITS`. */
  readonly limits?: Partial<Limits>;
  /** When a silent peer is given up. Default: `DEFAULT_HEARTBEAT`. */
  readonly heartbeat?: Heartbeat;
  /** The same for all nodes of this machine, so that they find the nearest way to each other; see routes.ts. */
  readonly machine?: string;
  /** What peers may know of this device, as plain data. */
  readonly capabilities?: Readonly<Record<string, unknown>>;
  /** For asks that name no timeout of their own; by default they wait for as long as the actor lives. */
  readonly askTimeoutMs?: number;
  /** Default: warnings and errors on standard error. */
  readonly log?: Log;
}

/** How an actor is started. */
export interface SpawnOptions {
  /** Registers the actor under this name on its node. */
  readonly name?: string;
}

/** How an actor is started on another node. */
export interface RemoteSpawnOptions extends SpawnOptions {
  /** What the actor must not outlive: an actor, or "node", this node. By default it lives on; see hosting.ts. */
  readonly owner?: Owner;
}
