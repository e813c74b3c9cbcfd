/** TCP addresses: `tcp://host:port`, and `tcp://host:port#fingerprint` where a certificate is expected. */

import { RuntimeError } from "../../errors.ts";

export interface TcpAddress {
  /** Without the brackets of an IPv6 address. */
  readonly hostname: string;
  readonly port: number;
  /** SHA-256 of the only certificate that is accepted there, in lower-case hexadecimal. */
  readonly fingerprint: string | undefined;
}

/** @throws RuntimeError with `code`, naming the address and what is expected. */
export function parseAddress(address: string, code: "LISTEN_FAILED" | "CONNECT_FAILED"): TcpAddress {
  const match = /^tcp:\/\/(?:\[([0-9a-fA-F:.]+)\]|([^:/[\]#]+)):(\d{1,5})(?:#([0-9a-f]{64}))?$/.exec(address);
  const port = Number(match?.[3]);
  if (!match || port > 65535) {
    throw new RuntimeError(
      code,
      `"${address}" is not a TCP address; expected tcp://host:port, such as tcp://127.0.0.1:4001`,
    );
  }
  return { hostname: (match[1] ?? match[2])!, port, fingerprint: match[4] };
}

/** The address of the other end of a socket, or of a listener. */
export function formatAddress(hostname: string, port: number): string {
  return `tcp://${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
}
