/**
 * Certificates: a key pair and a certificate that it has signed itself, which says nothing but "whoever shows this
 * has that key". Nobody vouches for one; it is known by its fingerprint, the SHA-256 of its DER bytes, which a join
 * token carries or the handshake is bound to. So names, issuers and dates mean nothing here and are not looked at.
 *
 * ECDSA on P-256 (FIPS 186-5), which every platform's TLS 1.3 speaks. Made by `selfsigned`, loaded only when one
 * is made: a page in a browser never does.
 */

import { sha256 } from "../../protocols/mac.ts";
import type { Clock } from "../clock.ts";

/** A certificate with its private key. */
export interface Certificate {
  /** PEM; may be shown to anyone. */
  readonly certificate: string;
  /** PEM, PKCS #8; never leaves the device. */
  readonly key: string;
  /** SHA-256 of the certificate's DER bytes, 64 lower-case hexadecimal digits. */
  readonly fingerprint: string;
}

/** Some TLS libraries look at dates before they ask anybody, and clocks of small devices are wrong. */
const BEFORE_MS = 10 * 365 * 86_400_000;
const AFTER_MS = 50 * 365 * 86_400_000;
/** The name in it; some TLS libraries want one. */
const NAME = "troupe";

/** Makes a new one, in some 40 ms. @param clock for its dates. */
export async function createCertificate(clock: Clock): Promise<Certificate> {
  const { generate } = await import("selfsigned");
  const made = await generate([{ name: "commonName", value: NAME }], {
    keyType: "ec",
    curve: "P-256",
    algorithm: "sha256",
    notBeforeDate: new Date(clock.now() - BEFORE_MS),
    notAfterDate: new Date(clock.now() + AFTER_MS),
  });
  return { certificate: made.cert, key: made.private, fingerprint: fingerprintOf(made.cert) };
}

/** SHA-256 of a certificate, in lower-case hexadecimal. @throws SyntaxError when the text is no PEM certificate. */
export function fingerprintOf(pem: string): string {
  const base64 = /-----BEGIN CERTIFICATE-----([\sA-Za-z0-9+/=]+)-----END CERTIFICATE-----/.exec(pem)?.[1];
  if (base64 === undefined) throw new SyntaxError("expected a certificate in PEM form");
  const der = Uint8Array.from(atob(base64.replace(/\s/g, "")), (char) => char.charCodeAt(0));
  return [...sha256(der)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The beginning of a fingerprint, in groups, for people to compare. */
export function shortFingerprint(fingerprint: string): string {
  return fingerprint.slice(0, 16).replace(/(.{4})(?=.)/g, "$1 ");
}
