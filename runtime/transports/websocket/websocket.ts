/**
 * WebSockets: how a browser tab reaches a node, and how any node reaches one behind a web proxy. Bytes travel in
 * binary messages. The server is an HTTP server that turns requests for one path into pipes and hands all others
 * to `fetch`, so that a gateway (`runtime/gateway/`) lives on the same port. It runs under Bun and Deno; the client
 * is the platform's own, in browsers too.
 *
 * `wss` is encrypted with the server's certificate; plain `ws` is for one machine, unless asked for by name. A client
 * trusts what its platform trusts, or, with `#fingerprint` at the end of the address, that certificate alone (not in
 * browsers; under Deno the certificate must also name the address). No platform's client shows a certificate of its
 * own or the one it trusted, so the handshake on top cannot be bound to them and relies on the join token.
 */

import { type Clock, systemClock } from "../../clock.ts";
import { RuntimeError } from "../../errors.ts";
import type { Certificate } from "../../security/certificate.ts";
import type { Listener, Transport } from "../transport.ts";
import { formatAddress, parseAddress } from "./address.ts";
import { connect } from "./connect.ts";
import { originAllowed } from "./origin.ts";
import type { Serve } from "./server.ts";

/** Who may connect, and what else the same port answers. */
export interface WebSocketOptions {
  /** `everywhere` allows unencrypted connections beyond this machine. Default: loopback only. */
  readonly plaintext?: "loopback" | "everywhere";
  /** This node's, for listening on `wss://`. */
  readonly certificate?: Certificate | undefined;
  /** Origins of web pages that may connect beside those from the server's own address, as `https://example.org`. */
  readonly origins?: readonly string[];
  /** Answers HTTP requests for other paths. Default: 404. */
  fetch?(request: Request): Response | Promise<Response>;
  /** Default: the machine's. */
  readonly clock?: Clock;
}

/** The transport for plain addresses, `ws://host:port/path`; port 0 asks for a free one. */
export function ws(options: WebSocketOptions = {}): Transport {
  return webSocket("ws", options);
}

/** The transport for encrypted addresses, `wss://host:port/path`. */
export function wss(options: WebSocketOptions = {}): Transport {
  return webSocket("wss", options);
}

function webSocket(scheme: "ws" | "wss", options: WebSocketOptions): Transport {
  const { clock = systemClock, plaintext = "loopback", origins = [], certificate } = options;
  return {
    scheme,
    async listen(address, accept): Promise<Listener> {
      const parsed = parseAddress(address, "LISTEN_FAILED", plaintext);
      if (scheme === "wss" && !certificate) {
        throw new RuntimeError("LISTEN_FAILED", `cannot listen on ${address}: no certificate was given`);
      }
      const decide = (request: Request) => {
        if (new URL(request.url).pathname === parsed.path) {
          const refusal = refuse(request, origins);
          // A page may lie at the path of the pipes: only an upgrade is meant for them.
          if (request.headers.has("upgrade")) return refusal;
          return options.fetch?.(request) ?? refusal;
        }
        return options.fetch?.(request) ?? text(404, `nothing is here; WebSockets are at ${parsed.path}`);
      };
      try {
        const serve = await platformServer();
        const tls = scheme === "wss" ? certificate : undefined;
        const server = await serve({ ...parsed, certificate: tls, clock, decide, accept });
        return {
          address: formatAddress({ ...parsed, port: server.port }),
          close: () => server.close(),
        };
      } catch (error) {
        const { code, name, message } = error as { code?: string; name?: string; message: string };
        const taken = code === "EADDRINUSE" || name === "AddrInUse";
        const why = taken ? "the port is in use; choose another, or 0 for a free one" : message;
        throw new RuntimeError("LISTEN_FAILED", `cannot listen on ${address}: ${why}`, { cause: error });
      }
    },
    connect: (address, handlers) => connect(address, { clock, plaintext }, handlers),
  };
}

/** Why a request for the path of the pipes does not become one; null if it does. */
function refuse(request: Request, origins: readonly string[]): Response | null {
  if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
    return text(426, "this is a WebSocket endpoint; connect with ws:// or wss://", { upgrade: "websocket" });
  }
  const origin = request.headers.get("origin");
  if (originAllowed(origin, request.headers.get("host"), origins)) return null;
  return text(403, `pages from ${origin} may not connect here; name the origin when starting the node`);
}

function text(status: number, message: string, headers: Record<string, string> = {}): Response {
  return new Response(`${message}\n`, { status, headers: { "content-type": "text/plain", ...headers } });
}

async function platformServer(): Promise<Serve> {
  if ("Bun" in globalThis) return (await import("./bun.ts")).serve;
  if ("Deno" in globalThis) return (await import("./deno.ts")).serve;
  throw new RuntimeError("LISTEN_FAILED", "this platform cannot listen for WebSockets");
}
