/**
 * Opening a WebSocket from here. A browser, and every platform without a fingerprint to look for, trusts what the
 * platform trusts. With a fingerprint the server's certificate is fetched first and compared, and the socket then
 * trusts that certificate and no other: neither Bun's nor Deno's WebSocket lets one look at the certificate itself.
 */

import { ProtocolError } from "../../../protocols/errors.ts";
import type { Clock } from "../../clock.ts";
import { RuntimeError } from "../../errors.ts";
import { shortFingerprint } from "../../security/certificate.ts";
import type { Pipe, PipeHandlers } from "../transport.ts";
import { formatAddress, parseAddress, type WebSocketAddress } from "./address.ts";
import { socketPipe } from "./socket.ts";

const PATIENCE_MS = 10_000;

export interface ConnectOptions {
  readonly clock: Clock;
  readonly plaintext: "loopback" | "everywhere";
}

/** @throws RuntimeError CONNECT_FAILED, or ProtocolError WRONG_CERTIFICATE, naming the address. */
export async function connect(
  address: string,
  options: ConnectOptions,
  handlers: (pipe: Pipe) => PipeHandlers,
): Promise<Pipe> {
  const parsed = parseAddress(address, "CONNECT_FAILED", options.plaintext);
  const url = formatAddress(parsed);
  const failed = (why: string, cause?: unknown) =>
    new RuntimeError("CONNECT_FAILED", `cannot connect to ${url}: ${why}`, { cause });
  const { promise, resolve, reject } = Promise.withResolvers<Pipe>();
  let socket: WebSocket | undefined;
  let release = () => {};
  const timer = options.clock.setTimer(() => {
    reject(failed(`no answer within ${PATIENCE_MS} ms`));
  }, PATIENCE_MS);
  try {
    let trust: Trust = { options: undefined, release };
    if (parsed.fingerprint !== undefined) {
      const certificate = fetchCertificate(parsed, parsed.fingerprint);
      certificate.catch(() => undefined); // may come after the patience has ended
      trust = trusting(await Promise.race([certificate, promise as Promise<never>]));
      release = trust.release;
    }
    socket = new (WebSocket as WebSocketClass)(url, trust.options);
    const opening = socket;
    opening.onopen = () => {
      const pipe = socketPipe(opening, options.clock, url);
      pipe.handlers = handlers(pipe);
      resolve(pipe);
    };
    opening.onerror = (event) => reject(failed((event as ErrorEvent).message || "nobody answers"));
    opening.onclose = ({ code }) => reject(failed(`the server closed the connection (${code})`));
    return await promise;
  } catch (error) {
    if (socket) {
      socket.onopen = socket.onerror = socket.onclose = null;
      socket.close();
    }
    throw error instanceof RuntimeError || error instanceof ProtocolError
      ? error
      : failed((error as Error).message, error);
  } finally {
    options.clock.clearTimer(timer);
    release();
  }
}

/** Bun takes TLS options where browsers take protocols, Deno an HTTP client. */
type WebSocketClass = new (address: string, options?: object) => WebSocket;

interface Trust {
  readonly options: object | undefined;
  release(): void;
}

/** Options for a WebSocket that trusts exactly this certificate (PEM). */
function trusting(certificate: string): Trust {
  const { Deno: deno } = globalThis as unknown as {
    Deno?: { createHttpClient(options: object): { close(): void } };
  };
  if (!deno) {
    // The fingerprint stands for the name: the certificate need not name the address.
    const tls = { ca: certificate, checkServerIdentity: () => undefined };
    return { options: { tls }, release: () => undefined };
  }
  const client = deno.createHttpClient({ caCerts: [certificate] });
  return { options: { client }, release: () => client.close() };
}

/** The server's certificate as PEM. @throws ProtocolError WRONG_CERTIFICATE when it has another fingerprint. */
async function fetchCertificate({ hostname, port }: WebSocketAddress, expected: string): Promise<string> {
  const { connect: connectTls } = await import("node:tls");
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const socket = connectTls({ host: hostname, port, rejectUnauthorized: false });
  socket.once("error", reject);
  socket.once("secureConnect", () => {
    const { fingerprint256, raw } = socket.getPeerCertificate();
    const shown = fingerprint256.replaceAll(":", "").toLowerCase();
    if (shown === expected) resolve(pem(raw));
    else {
      const message = `wss://${hostname}:${port} shows the certificate ${shortFingerprint(shown)}…, expected ${shortFingerprint(expected)}…`;
      reject(new ProtocolError("WRONG_CERTIFICATE", message));
    }
  });
  try {
    return await promise;
  } finally {
    socket.destroy();
  }
}

function pem(der: Uint8Array): string {
  const base64 = btoa(String.fromCharCode(...der));
  return `-----BEGIN CERTIFICATE-----\n${base64.replace(/.{64}/g, "$&\n")}\n-----END CERTIFICATE-----\n`;
}
