/**
 * Who may join and what is encrypted, as the command line has it: with a join token every connection is TLS; without
 * one there is plain text on this machine and nothing beyond. `--insecure` gives up encryption, never the token.
 */

import {
  type Certificate,
  createCertificate,
  createToken,
  parseToken,
  shortFingerprint,
  systemRandom,
  TokenError,
  type Transport,
  tcp,
} from "../runtime/index.ts";
import { configFolder } from "../runtime/platform/private.ts";
import { environment } from "../runtime/platform/process.ts";
import { isLoopback } from "../runtime/routes.ts";
import { keepIdentity, readIdentity } from "../runtime/security/identity.ts";
import { UsageError } from "./command.ts";
import type { Options, OptionTable } from "./options.ts";

/** Where a token may stand that should not be seen in a list of processes. */
export const TOKEN_VARIABLE = "TROUPE_TOKEN";

export const SECURITY_OPTIONS: OptionTable = {
  token: {
    value: "token",
    help: `join token, from troupe token; connections are encrypted (default: ${TOKEN_VARIABLE}, or none)`,
    secret: true,
  },
  identity: { value: "folder", help: "where this device's certificate and key are kept" },
  insecure: { help: "plain text although a token is given, for a network you trust" },
};

export interface Security {
  readonly token: string | undefined;
  /** Of encrypted connections. */
  readonly certificate: Certificate | undefined;
  /** Whether this device has the certificate that the token names as the coordinator's. */
  readonly coordinator: boolean;
  readonly insecure: boolean;
}

interface Place {
  /** Addresses that are listened on or connected to. */
  readonly addresses: readonly string[];
  readonly role: "device" | "coordinator";
}

/** @throws UsageError when something beyond this machine would be open, or the token is not one; FileError. */
export async function securityOf(options: Options, { addresses, role }: Place): Promise<Security> {
  const token = options.text("token") ?? environment(TOKEN_VARIABLE);
  const insecure = options.has("insecure");
  const folder = options.text("identity");
  const named = token === undefined ? undefined : coordinatorIn(token);
  if (token === undefined) {
    const remote = addresses.find(isRemote);
    if (remote !== undefined) {
      throw new UsageError(
        `${remote} is beyond this machine, which needs a join token: make one with troupe token and give it as --token or ${TOKEN_VARIABLE}`,
      );
    }
    if (insecure) throw new UsageError("--insecure gives up encryption, which only a --token brings");
    if (folder !== undefined)
      throw new UsageError("--identity is for encrypted connections: give a --token as well");
  }
  if (token === undefined || insecure) {
    return { token, certificate: undefined, coordinator: false, insecure };
  }
  if (role === "device" || named === undefined) {
    const certificate = folder === undefined ? await createCertificate() : await keepIdentity(folder);
    return { token, certificate, coordinator: false, insecure };
  }
  const home = folder ?? configFolder();
  const certificate = await readIdentity(home);
  if (certificate?.fingerprint !== named) {
    throw new UsageError(
      `the join token names the coordinator ${shortFingerprint(named)}…, whose certificate is not in ${home}: ` +
        "run this where troupe token was run, or make a new token here",
    );
  }
  return { token, certificate, coordinator: true, insecure };
}

/**
 * Between a run and the devices it starts itself: a token that nobody else has, and plain text, which does not leave
 * this machine. @throws UsageError for options that would be without effect.
 */
export function ownDevices(options: Options): Security {
  const idle = Object.keys(SECURITY_OPTIONS).find((name) => options.has(name));
  if (idle !== undefined)
    throw new UsageError(`--${idle} is for devices on other machines: give it with --join or --listen`);
  return { token: createToken(systemRandom), certificate: undefined, coordinator: false, insecure: false };
}

/** TCP as these settings want it. */
export function tcpOf({ certificate, insecure }: Security): Transport {
  return tcp(certificate ? { certificate } : { plaintext: insecure ? "everywhere" : "loopback" });
}

/** How connections at an address are protected, for people. */
export function protectionOf({ certificate, insecure }: Security, address: string): string {
  if (certificate) return "encrypted";
  return insecure && isRemote(address) ? "plain text (asked for by --insecure)" : "plain text (loopback)";
}

/** Whether an address is one, and beyond this machine; what is malformed is told by whoever listens or connects. */
function isRemote(address: string): boolean {
  return /^tcp:\/\/(\[[^\]]*\]|[^:/]+):\d+/.test(address) && !isLoopback(address);
}

function coordinatorIn(token: string): string | undefined {
  try {
    return parseToken(token).coordinator;
  } catch (error) {
    throw error instanceof TokenError ? new UsageError(error.message) : error;
  }
}
