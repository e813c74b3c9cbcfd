/**
 * Message authentication: HMAC-SHA-256 (RFC 2104, FIPS 180-4), synchronous so that a handshake in a simulated
 * world replays step by step, and the same on every platform. The one door to @noble/hashes.
 *
 * It is for small things (handshakes, tokens, fingerprints, signalling): bulk data is hashed by the platform.
 */

import { hmac } from "@noble/hashes/hmac.js";
import { sha256 as hash } from "@noble/hashes/sha2.js";

/** Bytes of a hash and of a code. */
export const MAC_BYTES = 32;

/** SHA-256 of the bytes; 32 bytes, the caller's. */
export function sha256(bytes: Uint8Array): Uint8Array {
  return hash(bytes);
}

/**
 * The code of the parts under a key; 32 bytes, the caller's. Every part is preceded by its length, so that no two
 * lists of parts give the same code.
 */
export function mac(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  const code = hmac.create(hash, key);
  for (const part of parts) {
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, part.byteLength);
    code.update(length).update(part);
  }
  return code.digest();
}

/** Whether two byte strings are equal, in a time that depends on their lengths only. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.byteLength !== b.byteLength) return false;
  let difference = 0;
  for (let i = 0; i < a.byteLength; i++) difference |= a[i]! ^ b[i]!;
  return difference === 0;
}
