/**
 * The join token: one line that makes a device part of a cluster. It carries a secret, which all nodes prove to each
 * other that they know and never send, and the fingerprint of the coordinator's certificate.
 *
 *     troupe1_ base64url( secret, 32 bytes · fingerprint, 32 bytes or none · first 4 bytes of SHA-256 of all before )
 *
 * The 1 is the version. The checksum finds mistyped and cut tokens before anything is connected. What is wrong with
 * a token is told without the token: messages end up in logs.
 *
 * A node takes any string as its token. One of another form is a secret without a fingerprint, and should be as hard
 * to guess: who can pretend to be a node sees a proof to try guesses on.
 */

import { sha256 } from "../../protocols/mac.ts";
import type { Random } from "../random.ts";

/** What a token holds. */
export interface JoinToken {
  /** 32 random bytes. */
  readonly secret: Uint8Array;
  /** Fingerprint of the coordinator's certificate, 64 lower-case hexadecimal digits; undefined if it names none. */
  readonly coordinator: string | undefined;
}

/** A text is no join token. The message says what is wrong without showing it. */
export class TokenError extends Error {
  /** Always this. */
  override readonly name = "TokenError";
  /** Always this. */
  readonly code = "BAD_TOKEN";
}

const KIND = "troupe";
const VERSION = "1";
const PREFIX = `${KIND}${VERSION}_`;
const SECRET_BYTES = 32;
const FINGERPRINT_BYTES = 32;
const CHECKSUM_BYTES = 4;
const LENGTHS = [0, FINGERPRINT_BYTES].map((named) => SECRET_BYTES + named + CHECKSUM_BYTES);

/** A new token. @param random the system's. */
export function createToken(random: Random, coordinator?: string): string {
  return formatToken({ secret: random.bytes(SECRET_BYTES), coordinator });
}

export function formatToken({ secret, coordinator }: JoinToken): string {
  const named =
    coordinator === undefined ? [] : (coordinator.match(/../g) ?? []).map((byte) => parseInt(byte, 16));
  const content = Uint8Array.of(...secret, ...named);
  const bytes = Uint8Array.of(...content, ...checksum(content));
  const base64 = btoa(String.fromCharCode(...bytes));
  return PREFIX + base64.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** Whether a text is meant as a token, whatever may be wrong with it: it is not to be shown. */
export function looksLikeToken(text: string): boolean {
  return new RegExp(`${KIND}\\d+_`).test(text);
}

/** What a token holds. @throws TokenError, in words that do not hold the token. */
export function parseToken(text: string): JoinToken {
  const version = new RegExp(`^${KIND}(\\d{1,9})_`).exec(text)?.[1];
  if (version === undefined) {
    throw new TokenError(`the join token is not one: it begins with ${PREFIX}; make one with troupe token`);
  }
  if (version !== VERSION) {
    throw new TokenError(
      `the join token is of version ${version}, this is Troupe with tokens of version ${VERSION}`,
    );
  }
  const bytes = fromBase64(text.slice(PREFIX.length));
  if (!bytes || !LENGTHS.includes(bytes.byteLength)) {
    throw new TokenError("the join token is cut off or has something added: copy it again, as one line");
  }
  const content = bytes.subarray(0, -CHECKSUM_BYTES);
  const named = content.subarray(SECRET_BYTES);
  const coordinator = [...named].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const token = { secret: content.slice(0, SECRET_BYTES), coordinator: coordinator || undefined };
  // Compared as text: the last letter holds bits that no byte needs, and has one right form.
  if (formatToken(token) !== text) {
    throw new TokenError("the join token has a wrong letter in it: its checksum does not fit; copy it again");
  }
  return token;
}

/** The coordinator's fingerprint in a node's token; undefined for any other secret. @throws TokenError. */
export function coordinatorOf(token: string | undefined): string | undefined {
  if (token === "") throw new TokenError("the join token is empty, which anybody can guess");
  return token !== undefined && looksLikeToken(token) ? parseToken(token).coordinator : undefined;
}

/**
 * An address that names the certificate expected there: connecting fails with WRONG_CERTIFICATE, before anything is
 * said, if another is shown. For the coordinator's own address.
 */
export function pinned(address: string, fingerprint: string): string {
  return `${address}#${fingerprint}`;
}

function checksum(content: Uint8Array): Uint8Array {
  const tagged = Uint8Array.of(...new TextEncoder().encode(PREFIX), ...content);
  return sha256(tagged).subarray(0, CHECKSUM_BYTES);
}

function fromBase64(text: string): Uint8Array | undefined {
  if (!/^[\w-]+$/.test(text)) return undefined;
  try {
    const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    return Uint8Array.from(binary, (char) => char.charCodeAt(0));
  } catch {
    return undefined; // No number of letters that base64 ever has.
  }
}
