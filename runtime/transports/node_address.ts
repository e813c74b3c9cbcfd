/** Addresses that name a node instead of a place, as the relay's and WebRTC's do: `relay://<node id>`. */

import { RuntimeError } from "../errors.ts";
import type { Carrier } from "./carrier.ts";

export function nodeAddress(scheme: string, node: string): string {
  return `${scheme}://${node}`;
}

/**
 * The id of the node to connect to, or, for listening, of this node: `relay://` alone stands for it.
 * @throws RuntimeError naming the address and what is expected.
 */
export function nodeOf(
  address: string,
  scheme: string,
  code: "LISTEN_FAILED" | "CONNECT_FAILED",
  carrier: Carrier | undefined,
): string {
  if (!carrier) {
    throw new RuntimeError(code, `${address} needs a node: give the transport to a NodeRuntime first`);
  }
  const prefix = `${scheme}://`;
  const id = address.startsWith(prefix) ? address.slice(prefix.length) : "";
  if (code === "CONNECT_FAILED" && id !== "") return id;
  if (code === "LISTEN_FAILED" && (id === "" || id === carrier.self)) return carrier.self;
  const expected = code === "LISTEN_FAILED" ? `${prefix} or ${prefix}${carrier.self}` : `${prefix}<node id>`;
  throw new RuntimeError(code, `"${address}" is not an address of this kind; expected ${expected}`);
}
