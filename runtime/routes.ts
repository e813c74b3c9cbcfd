/**
 * Which way to another node. A node advertises several addresses; whoever connects tries them from the nearest
 * to the farthest: same thread or process, same machine, network, WebSocket, WebRTC, relay. The order is the table
 * below and nothing else. Where an address leads cannot always be told from the address (127.0.0.1 is another
 * machine's own), so each node tells the identity of its machine in its capabilities; where that is unknown, the
 * addresses that only work on one machine are tried after those that may work from anywhere, except those that
 * fail at once, and whoever answers says who it is.
 */

import { isLoopback as isLoopbackHost } from "./transports/loopback.ts";

/** How far an address reaches. */
type Reach = "process" | "machine" | "network";

interface Scheme {
  readonly scheme: string;
  readonly reach: Reach;
  /** Bytes pass through another node. */
  readonly relayed?: true;
}

/** From the nearest to the farthest; a scheme that is not here comes before the relay. */
const SCHEMES: readonly Scheme[] = [
  { scheme: "memory", reach: "process" },
  { scheme: "worker", reach: "process" },
  { scheme: "shm", reach: "machine" },
  { scheme: "tcp", reach: "network" },
  { scheme: "wss", reach: "network" },
  { scheme: "ws", reach: "network" },
  { scheme: "webrtc", reach: "network" },
  { scheme: "relay", reach: "network", relayed: true },
];

/** The capability in which a node tells its machine's identity. */
export const MACHINE_CAPABILITY = "machine";

/** What is known of the two ends. */
export interface Locality {
  /** Schemes of this node's transports. */
  readonly schemes: readonly string[];
  /** This node's machine, and the other's; undefined where it is not known. */
  readonly here: string | undefined;
  readonly there: string | undefined;
}

/** `tcp` of `tcp://127.0.0.1:4000`. */
export function schemeOf(address: string): string {
  return address.slice(0, Math.max(0, address.indexOf("://")));
}

/** Whether what is sent on a link over this scheme goes straight to the peer. */
export function routeOf(scheme: string): "direct" | "relayed" {
  return SCHEMES.find((known) => known.scheme === scheme)?.relayed ? "relayed" : "direct";
}

/** The machine a node has said it runs on. */
export function machineOf(capabilities: Readonly<Record<string, unknown>>): string | undefined {
  const machine = capabilities[MACHINE_CAPABILITY];
  return typeof machine === "string" ? machine : undefined;
}

/** The addresses worth trying, the best first; equally good ones stay in the order they were advertised in. */
export function inOrder(addresses: readonly string[], locality: Locality): string[] {
  return [...new Set(addresses)]
    .map((address) => ({ address, cost: costOf(address, locality) }))
    .filter(({ cost }) => cost !== undefined)
    .sort((a, b) => a.cost! - b.cost!)
    .map(({ address }) => address);
}

/** Whether an address may lead from here to a node on that machine at all. */
export function isUsable(address: string, locality: Locality): boolean {
  return costOf(address, locality) !== undefined;
}

/**
 * An address that is nearer than the scheme a node was met over, if there is one on this machine: only there does
 * a wrong guess fail at once.
 */
export function nearerRoute(
  met: string,
  addresses: readonly string[],
  locality: Locality,
): string | undefined {
  const best = inOrder(addresses, locality)[0];
  if (best === undefined || rankOf(schemeOf(best)) >= rankOf(met)) return undefined;
  return entryOf(schemeOf(best))?.reach === "network" ? undefined : best;
}

function entryOf(scheme: string): Scheme | undefined {
  return SCHEMES.find((known) => known.scheme === scheme);
}

/** Place in the table; one that is not in it goes before the relay. */
function rankOf(scheme: string): number {
  const at = SCHEMES.findIndex((known) => known.scheme === scheme);
  return at < 0 ? SCHEMES.length - 1.5 : at;
}

/** Smaller is better; undefined if the address cannot lead there. */
function costOf(address: string, { schemes, here, there }: Locality): number | undefined {
  const scheme = schemeOf(address);
  if (!schemes.includes(scheme)) return undefined;
  const known = here !== undefined && there !== undefined;
  const bound = entryOf(scheme)?.reach ?? "network";
  const loopback = bound === "network" && isLoopback(address);
  if (known && here !== there && (bound !== "network" || loopback)) return undefined;
  // Loopback is a little better than the machine's other addresses, if it is known to be this machine's.
  const place = loopback ? (known ? -0.25 : 0.25) : 0;
  return rankOf(scheme) + place;
}

/** An address of the loopback interface. */
export function isLoopback(address: string): boolean {
  const host = /^\w+:\/\/(?:[^@/]*@)?(\[[^\]]*\]|[^:/?#]*)/.exec(address)?.[1] ?? "";
  return isLoopbackHost(host.replace(/^\[|\]$/g, ""));
}

/** An address that means "any of my interfaces" to who listens there, as the one it has been seen at. */
export function seenFrom(address: string, seenAt: string): string {
  const [, scheme, rest] = /^(\w+:\/\/)(?:0\.0\.0\.0|\[::\])(:\d+.*)$/.exec(address) ?? [];
  const host = /^\w+:\/\/(\[[^\]]+\]|[^:/]+):\d+/.exec(seenAt)?.[1];
  return scheme && host ? `${scheme}${host}${rest}` : address;
}
