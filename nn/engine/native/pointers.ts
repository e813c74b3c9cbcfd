/**
 * Memory that C reads and writes: strings and arrays of pointers.
 *
 * Everything sits in explicit ArrayBuffers: a small typed array made without one may move when its `buffer` is
 * first asked for. Whoever takes an address keeps the array reachable for as long as C may use it.
 */

/** An array of `length` pointers (or 64-bit integers), zero at first. */
export function pointers(length: number): BigUint64Array {
  return new BigUint64Array(new ArrayBuffer(8 * Math.max(1, length)));
}

/** A null-terminated string; UTF-16 where the C API takes paths as wide characters (Windows). */
export function cString(text: string, encoding: "utf8" | "utf16le" = "utf8"): Uint8Array {
  if (encoding === "utf8") return filled(new TextEncoder().encode(`${text}\0`));
  const units = Uint16Array.from(`${text}\0`, (_, index) => `${text}\0`.charCodeAt(index));
  return filled(new Uint8Array(units.buffer));
}

function filled(content: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(content.byteLength));
  bytes.set(content);
  return bytes;
}
