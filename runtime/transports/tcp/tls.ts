/**
 * What TLS has to have come to before a connection is used: version 1.3, a certificate at the other end that its
 * key was proved for, and, where one is expected, that very certificate. Who vouches for it is nobody's business.
 */

import { ProtocolError } from "../../../protocols/errors.ts";
import type { Channel } from "../../../protocols/handshake.ts";
import { shortFingerprint } from "../../security/certificate.ts";

const VERSION = "TLSv1.3";

/**
 * What a library says of a certificate that is fine but for nobody vouching for it, with or without a look at its
 * name. Everything else, above all a signature by another key, is a failure.
 */
const UNVOUCHED = [
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "ERR_TLS_CERT_ALTNAME_INVALID",
];

export interface TlsOutcome {
  /** Where the other end is, for people. */
  readonly peer: string;
  readonly version: string | null | undefined;
  /** Of this end's certificate. */
  readonly local: string;
  /** Of the other end's, as the platform spells it. */
  readonly remote: string | undefined;
  /** Whether TLS's own handshake has succeeded, vouched for or not. */
  readonly agreed: boolean;
  /** What the library found fault with. */
  readonly error: { readonly code?: unknown; readonly message: string } | null | undefined;
  /** The only one that is accepted. */
  readonly expected: string | undefined;
}

/** @throws ProtocolError WRONG_CERTIFICATE or TLS_MISMATCH, naming the peer. */
export function channelOf({ peer, agreed, version, local, remote, error, expected }: TlsOutcome): Channel {
  if (!agreed || (error && !UNVOUCHED.includes(String(error.code)))) {
    throw tlsFailure(peer, error ?? { message: "it was not agreed on" });
  }
  if (version !== VERSION) {
    throw new ProtocolError("TLS_MISMATCH", `${peer} speaks ${version ?? "no TLS"}, expected ${VERSION}`);
  }
  const fingerprint = remote?.replaceAll(":", "").toLowerCase();
  if (!fingerprint) throw new ProtocolError("WRONG_CERTIFICATE", `${peer} shows no certificate`);
  if (expected !== undefined && fingerprint !== expected) {
    throw new ProtocolError(
      "WRONG_CERTIFICATE",
      `${peer} shows the certificate ${shortFingerprint(fingerprint)}…, expected ${shortFingerprint(expected)}…`,
    );
  }
  return { local, remote: fingerprint };
}

/** A failed TLS handshake in one line. */
export function tlsFailure(
  peer: string,
  { code, message }: { code?: unknown; message: string },
): ProtocolError {
  if (/wrong.version.number/i.test(`${code} ${message}`)) {
    return new ProtocolError(
      "TLS_MISMATCH",
      `${peer} speaks plain text and this node TLS: give both the same join token, and --insecure to both or neither`,
    );
  }
  if (code === "ECONNRESET") {
    return new ProtocolError("TLS_MISMATCH", `${peer} closed the connection before TLS was agreed on`);
  }
  return new ProtocolError("WRONG_CERTIFICATE", `TLS with ${peer} failed: ${reason(message)}`);
}

/** The last words of a library's error, which are those for people. */
function reason(message: string): string {
  return message.split("\n")[0]!.split(":").filter(Boolean).at(-1)!.trim().toLowerCase().replaceAll("_", " ");
}
