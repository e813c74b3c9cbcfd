/**
 * WebSocket addresses: `ws://host:port/path` and `wss://host:port/path`, the latter with `#fingerprint` where one
 * certificate is expected; and where plain ones are allowed.
 */

import { RuntimeError } from "../../errors.ts";
import { isLoopback } from "../loopback.ts";

export interface WebSocketAddress {
  readonly scheme: "ws" | "wss";
  /** Without the brackets of an IPv6 address. */
  readonly hostname: string;
  readonly port: number;
  readonly path: string;
  /** SHA-256 of the only certificate that is accepted there, in lower-case hexadecimal. */
  readonly fingerprint?: string | undefined;
}

/** @throws RuntimeError naming the address and what is expected, or that plain text has to be asked for. */
export function parseAddress(
  address: string,
  code: "LISTEN_FAILED" | "CONNECT_FAILED",
  plaintext: "loopback" | "everywhere" = "loopback",
): WebSocketAddress {
  const match =
    /^(wss?):\/\/(?:\[([0-9a-fA-F:.]+)\]|([^:/[\]?#]+)):(\d{1,5})(\/[\w.~/-]*)?(?:#([0-9a-f]{64}))?$/.exec(
      address,
    );
  const port = Number(match?.[4]);
  if (!match || port > 65535) {
    throw new RuntimeError(
      code,
      `"${address}" is not a WebSocket address; expected ws://host:port/path or wss://host:port/path, such as ws://127.0.0.1:8080/troupe`,
    );
  }
  const [, scheme, ipv6, name, , path = "/", fingerprint] = match;
  const hostname = (ipv6 ?? name)!;
  if (scheme === "ws" && !isLoopback(hostname) && plaintext !== "everywhere") {
    throw new RuntimeError(
      code,
      `${address} is beyond this machine, and a plain WebSocket is only for loopback unless asked for; use wss://`,
    );
  }
  return { scheme: scheme as "ws" | "wss", hostname, port, path, fingerprint };
}

/** Without the fingerprint. */
export function formatAddress({ scheme, hostname, port, path }: WebSocketAddress): string {
  const host = hostname.includes(":") ? `[${hostname}]` : hostname;
  return `${scheme}://${host}:${port}${path}`;
}
