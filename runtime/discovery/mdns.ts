/**
 * Nodes that find each other on a local network by multicast DNS (RFC 6762) and DNS service discovery (RFC 6763):
 * service type `_troupe._tcp`, with the node's id, incarnation, addresses and, if it is told, the fingerprint of
 * its cluster in the TXT record. Never a secret: everybody in the network reads it, and anybody can write it, so
 * what is found is a hint where to connect; the handshake decides who is let in. A node that was killed goes on
 * being found until its records have expired.
 *
 * It speaks to a real network, so it is not for simulated worlds; what repeats a question still has its clock
 * handed in.
 */

import type { Clock, Timer } from "../clock.ts";
import { asError, RuntimeError } from "../errors.ts";
import { seenFrom } from "../routes.ts";

/** A node as it is announced; a `NodeRuntime` is one. */
export interface Announced {
  /** The node's id, by which it is told apart from others of its name. */
  readonly id: string;
  /** For people. */
  readonly name: string;
  /** Milliseconds since the epoch at its start. */
  readonly incarnation: number;
  /** Where it can be connected to. */
  readonly addresses: readonly string[];
}

/** A node as it is found. */
export interface Found extends Announced {
  /** What it was announced with. */
  readonly cluster: string | undefined;
}

/** Where to announce and look. */
export interface LocalNetworkOptions {
  /** Tells clusters in one network apart: a fingerprint, not a secret. */
  readonly cluster?: string;
  /** The address of the network interface to use; by default all of them. */
  readonly interface?: string;
}

/** How to look; `clock` is the node's. */
export interface FindOptions extends LocalNetworkOptions {
  /** Says when the time to look is over. */
  readonly clock: Clock;
  /** A node that was found has said goodbye, or its records have expired. */
  readonly onGone?: (id: string) => void;
}

/** By a name in a variable: a bundler for browsers, which have no multicast, must not follow it. */
const LIBRARY: string = "bonjour-service";
const TYPE = "troupe";
/** A string of a TXT record has at most so many bytes. */
const TXT_BYTES = 255;
/** A packet has to fit an Ethernet frame, and the records around the addresses need half of it. */
const MOST_ADDRESSES = 4;
/** Questions are asked again after one second, then after twice as long each time (RFC 6762, 5.2). */
const FIRST_QUESTION_MS = 1000;
const LAST_QUESTION_MS = 3_600_000;

/**
 * Announces a node until it is closed; then the network is told that it is gone.
 * @throws RuntimeError LISTEN_FAILED if it listens nowhere, or multicast is not possible here.
 */
export async function announce(
  node: Announced,
  options: LocalNetworkOptions = {},
): Promise<{ close(): Promise<void> }> {
  const port = node.addresses
    .map((address) => Number(/:(\d+)(?:\/|$)/.exec(address)?.[1] ?? 0))
    .find(Boolean);
  if (port === undefined) {
    throw new RuntimeError("LISTEN_FAILED", `${node.name} has no address with a port to announce`);
  }
  const socket = await open(options);
  try {
    // A host name of its own: two devices of the same name must not answer for each other.
    const label = labelOf(node.id);
    const service = socket.bonjour.publish({
      ...{ name: label, type: TYPE, port, probe: false, host: `${label}.local` },
      txt: toText(node, options.cluster),
    });
    await Promise.race([socket.failed, new Promise<void>((resolve) => service.once("up", resolve))]);
    return {
      close: async () => {
        await new Promise<void>((resolve) => service.stop(resolve));
        await socket.close();
      },
    };
  } catch (error) {
    await socket.close();
    throw error;
  }
}

/**
 * Calls `found` for every node that is announced in the same cluster, again when one was started anew, until it is
 * closed. @throws RuntimeError LISTEN_FAILED if multicast is not possible here.
 */
export async function findAnnounced(
  found: (node: Found) => void,
  options: FindOptions,
): Promise<{ close(): Promise<void> }> {
  const socket = await open(options);
  const { clock, cluster, onGone } = options;
  const tell = (service: Service): void => {
    const node = fromText(service);
    if (node && (cluster === undefined || node.cluster === cluster)) found(node);
  };
  const browser = socket.bonjour.find({ type: TYPE });
  browser.on("up", tell);
  browser.on("txt-update", tell);
  browser.on("down", (service: Service) => {
    const node = fromText(service);
    if (node && (cluster === undefined || node.cluster === cluster)) onGone?.(node.id);
  });
  let timer: Timer;
  const askAgain = (pause: number): void => {
    timer = clock.setTimer(() => {
      browser.update();
      browser.expire();
      askAgain(Math.min(2 * pause, LAST_QUESTION_MS));
    }, pause);
  };
  askAgain(FIRST_QUESTION_MS);
  return {
    close: async () => {
      clock.clearTimer(timer);
      browser.stop();
      await socket.close();
    },
  };
}

/** What is used of a service that was found. */
interface Service {
  readonly txt?: Readonly<Record<string, string>>;
  readonly port: number;
  readonly referer?: { readonly address: string; readonly family: string };
}

async function open({ interface: address }: LocalNetworkOptions) {
  const { default: Bonjour } = (await import(LIBRARY)) as { default: typeof import("bonjour-service") };
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => undefined);
  const fail = (error: unknown): void => {
    const cause = asError(error);
    const message = `multicast DNS is not possible here: ${cause.message}`;
    failed.reject(new RuntimeError("LISTEN_FAILED", message, { cause }));
  };
  // Bound to all addresses even for one interface: a socket bound to one address receives no multicast.
  const settings = address === undefined ? {} : { interface: address, bind: "0.0.0.0" };
  // Its type names the settings of a service; they are those of the socket.
  const bonjour = new Bonjour(settings as ConstructorParameters<typeof Bonjour>[0], fail);
  const { mdns } = (bonjour as unknown as { server: { mdns: Multicast } }).server;
  mdns.on("error", fail);
  const ready = new Promise<void>((resolve) => mdns.once("ready", resolve));
  const close = () => new Promise<void>((resolve) => bonjour.destroy(resolve));
  try {
    await Promise.race([ready, failed.promise]);
  } catch (error) {
    await close();
    throw error;
  }
  return { bonjour, failed: failed.promise, close };
}

interface Multicast {
  on(event: "error", handler: (error: unknown) => void): void;
  once(event: "ready", handler: () => void): void;
}

/** A DNS label: at most 63 bytes; the end of an id is what makes it unique. */
function labelOf(id: string): string {
  return id.replace(/[^A-Za-z0-9-]/g, "-").slice(-63);
}

function toText(node: Announced, cluster: string | undefined): Record<string, string> {
  const text: Record<string, string> = {
    id: node.id,
    name: node.name,
    incarnation: String(node.incarnation),
  };
  if (cluster !== undefined) text.cluster = cluster;
  const fits = node.addresses.filter((address) => address.length < TXT_BYTES - 4);
  for (const [i, address] of fits.slice(0, MOST_ADDRESSES).entries()) text[`a${i}`] = address;
  return text;
}

/** Undefined if it is none of ours, or half of one. */
function fromText({ txt, referer }: Service): Found | undefined {
  const { id, name, incarnation, cluster } = txt ?? {};
  if (!id || !name || !/^\d{1,15}$/.test(incarnation ?? "")) return undefined;
  const seenAt = referer
    ? `udp://${referer.family === "IPv6" ? `[${referer.address}]` : referer.address}:1`
    : "";
  const addresses = Array.from({ length: MOST_ADDRESSES }, (_, i) => txt?.[`a${i}`])
    .filter((address) => address !== undefined)
    .map((address) => seenFrom(address, seenAt));
  return { id, name, incarnation: Number(incarnation), addresses, cluster };
}
