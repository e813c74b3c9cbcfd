/**
 * Certificates: a key pair and a certificate that it has signed itself, which says nothing but "whoever shows this
 * has that key". Nobody vouches for one; it is known by its fingerprint, the SHA-256 of its DER bytes, which a join
 * token carries or the handshake is bound to. So names, issuers and dates mean nothing here and are not looked at.
 *
 * ECDSA on P-256 (FIPS 186-5), which every platform's TLS 1.3 speaks. Made by `selfsigned`, loaded only when one
 * is made: a page in a browser never does.
 */

import { sha256 } from "../../protocols/mac.ts";

/** A certificate with its private key. */
export interface Certificate {
  /** PEM; may be shown to anyone. */
  readonly certificate: string;
  /** PEM, PKCS #8; never leaves the device. */
  readonly key: string;
  /** SHA-256 of the certificate's DER bytes, 64 lower-case hexadecimal digits. */
  readonly fingerprint: string;
}

/** From the epoch for ever (RFC 5280, 4.1.2.5): some TLS libraries look at dates, and clocks of devices are wrong. */
const NOT_BEFORE = new Date(0);
const NOT_AFTER = new Date("9999-12-31T23:59:59Z");
/** The name in it; some TLS libraries want one. */
const NAME = "troupe";

/** Makes a new one, in some 40 ms. */
export async function createCertificate(): Promise<Certificate> {
  const { generate } = await import("selfsigned");
  const made = await generate([{ name: "commonName", value: NAME }], {
    keyType: "ec",
    curve: "P-256",
    algorithm: "sha256",
    notBeforeDate: NOT_BEFORE,
    notAfterDate: NOT_AFTER,
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
