/**
 * TCP: with a certificate every connection is TLS 1.3, in both directions and on loopback too, and each end shows the
 * other its certificate; without one it is plain text, for one machine, unless somebody says otherwise by name.
 *
 * TLS alone keeps listeners out who only listen. Who they are is proved by the handshake of the link above, which is
 * bound to both certificates (`Pipe.channel`): that keeps out who sits in between. An address may name the
 * certificate that is expected there (`tcp://host:port#fingerprint`); then nothing is said to anyone else.
 */

import { ProtocolError } from "../../protocols/errors.ts";
import { type Clock, systemClock } from "../clock.ts";
import { RuntimeError } from "../errors.ts";
import type { Certificate } from "../security/certificate.ts";
import { isLoopback } from "./loopback.ts";
import { formatAddress, parseAddress, type TcpAddress } from "./tcp/address.ts";
import type { Sockets } from "./tcp/sockets.ts";
import type { Listener, Pipe, Transport } from "./transport.ts";

const PATIENCE_MS = 10_000;

/** How TCP is protected, and by whose sockets it goes. */
export interface TcpOptions {
  /** This node's; with one, everything is encrypted. */
  readonly certificate?: Certificate | undefined;
  /** Without a certificate: `everywhere` allows plain text beyond this machine. Default: loopback only. */
  readonly plaintext?: "loopback" | "everywhere";
  /** Default: the machine's. */
  readonly clock?: Clock;
  /** Whose sockets. Default: Bun's under Bun, those of node:net elsewhere. */
  readonly sockets?: "bun" | "node";
}

/** Addresses are `tcp://host:port`; port 0 asks for a free one. IPv6 addresses stand in brackets. */
export function tcp(options: TcpOptions = {}): Transport {
  const { certificate, plaintext = "loopback", clock = systemClock } = options;
  const platform = options.sockets ?? (typeof Bun === "undefined" ? "node" : "bun");

  const permitted = (address: string, code: "LISTEN_FAILED" | "CONNECT_FAILED"): TcpAddress => {
    const parsed = parseAddress(address, code);
    if (!certificate && plaintext !== "everywhere" && !isLoopback(parsed.hostname)) {
      throw new RuntimeError(
        code,
        `${address} is beyond this machine, and plain TCP is only for loopback: give tcp() a certificate, or plaintext: "everywhere"`,
      );
    }
    return parsed;
  };

  return {
    scheme: "tcp",
    async listen(address, accept): Promise<Listener> {
      const { hostname, port } = permitted(address, "LISTEN_FAILED");
      const sockets = await adapter(platform);
      try {
        const listener = await sockets.listen({ hostname, port, certificate, clock }, accept);
        return { address: formatAddress(hostname, listener.port), close: () => listener.close() };
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        const why =
          code === "EADDRINUSE" ? "the port is in use; choose another, or 0 for a free one" : message;
        throw new RuntimeError("LISTEN_FAILED", `cannot listen on ${address}: ${why}`, { cause: error });
      }
    },
    async connect(address, handlers): Promise<Pipe> {
      const { hostname, port, fingerprint } = permitted(address, "CONNECT_FAILED");
      const peer = formatAddress(hostname, port);
      if (fingerprint !== undefined && !certificate) {
        throw new ProtocolError(
          "TLS_MISMATCH",
          `${peer} is to show a certificate, and this node speaks plain text: give it a certificate`,
        );
      }
      const failed = (why: string, cause?: unknown) =>
        new RuntimeError("CONNECT_FAILED", `cannot connect to ${peer}: ${why}`, { cause });
      const patience = new AbortController();
      const late = Promise.withResolvers<Pipe>();
      const timer = clock.setTimer(() => {
        late.reject(failed(`no answer within ${PATIENCE_MS} ms`));
        patience.abort();
      }, PATIENCE_MS);
      try {
        const sockets = await adapter(platform);
        const target = { hostname, port, certificate, clock, peer, fingerprint };
        return await Promise.race([sockets.connect(target, handlers, patience.signal), late.promise]);
      } catch (error) {
        if (error instanceof ProtocolError || error instanceof RuntimeError) throw error;
        throw failed((error as Error).message, error);
      } finally {
        clock.clearTimer(timer);
      }
    },
  };
}

async function adapter(platform: "bun" | "node"): Promise<Sockets> {
  if (platform === "bun") return (await import("./tcp/bun.ts")).bunSockets;
  return (await import("./tcp/node.ts")).nodeSockets;
}
