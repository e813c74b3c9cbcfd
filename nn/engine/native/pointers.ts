/**
 * Memory that C reads and writes: strings, out-parameters and arrays of pointers.
 *
 * Everything sits in explicit ArrayBuffers: a small typed array made without one may move when its `buffer` is
 * first asked for. Whoever takes an address keeps the array reachable for as long as C may use it.
 */

import { type Pointer, ptr } from "bun:ffi";

/** An array of `length` pointers (or 64-bit integers), zero at first. */
export function pointers(length: number): BigUint64Array {
  return new BigUint64Array(new ArrayBuffer(8 * Math.max(1, length)));
}

/** A null-terminated string; UTF-16 where the C API takes paths as wide characters (Windows). */
export function cString(text: string, encoding: "utf8" | "utf16le" = "utf8"): Uint8Array {
  return Uint8Array.from(Buffer.from(`${text}\0`, encoding));
}

export function addressOf(memory: Uint8Array | BigUint64Array | ArrayBufferLike): Pointer {
  return ptr(memory);
}

/** Calls C with an out-parameter and gives the pointer it wrote. */
export function out(call: (slot: Pointer) => void): Pointer {
  const slot = pointers(1);
  call(addressOf(slot));
  return Number(slot[0]) as Pointer;
}
