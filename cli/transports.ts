/**
 * The ways a node of the command line has to others: TCP, and shared memory to nodes of the same user on this machine,
 * which the runtime prefers by itself because it is nearer. Only beside plain text, which does not leave the machine
 * either: what a certificate protects is bound to that certificate, and stays on TCP.
 */

import {
  DEFAULT_HEARTBEAT,
  type Heartbeat,
  heartbeatOf,
  type NodeRuntime,
  type PeerInfo,
  shm,
  shmUnavailable,
  type Transport,
} from "../runtime/index.ts";
import { parseAddress } from "../runtime/transports/tcp/address.ts";
import { UsageError } from "./command.ts";
import type { OptionSpec, Options } from "./options.ts";
import { protectionOf, type Security, tcpOf } from "./security.ts";

export const TRANSPORTS = ["auto", "tcp"] as const;
export type TransportChoice = (typeof TRANSPORTS)[number];

export const TRANSPORT_OPTION: OptionSpec = {
  value: "name",
  help: "auto, shared memory between plain-text nodes on this machine and tcp elsewhere, or tcp (default: auto)",
};

export const PATIENCE_OPTION: OptionSpec = {
  value: "ms",
  help: `silence after which another device is given up (default: ${DEFAULT_HEARTBEAT.patienceMs}); a process that ends is noticed at once, and all other waiting follows from this (a handshake has ten seconds at least)`,
};

/** When whoever is silent is given up. @throws UsageError. */
export function heartbeatFrom(options: Options): Heartbeat {
  return heartbeatOf(options.whole("patience", { from: 100, to: 600_000 }) ?? DEFAULT_HEARTBEAT.patienceMs);
}

/** Where nodes are reached, or come to. @throws UsageError for what is no address. */
export function requireAddress(option: "join" | "listen", address: string): void {
  try {
    parseAddress(address, "CONNECT_FAILED");
  } catch {
    throw new UsageError(`--${option} ${address}: expected an address such as tcp://desk:4000`);
  }
}

/** What a node is given. */
export function transportsOf(security: Security, wanted: TransportChoice): Transport[] {
  const near = wanted === "auto" && security.certificate === undefined && shmUnavailable() === null;
  return near ? [tcpOf(security), shm()] : [tcpOf(security)];
}

/** Listens for nodes on this machine too, where there is a place for shared memory; where there is none TCP does. */
export async function listenNear(node: NodeRuntime, transports: readonly Transport[]): Promise<void> {
  if (transports.some(({ scheme }) => scheme === "shm")) await node.listen("shm://").catch(() => undefined);
}

/** How a connection is protected, for people. */
export function linkProtection(security: Security, { transport, address }: PeerInfo): string {
  return transport === "shm" ? "within this machine" : protectionOf(security, address);
}
