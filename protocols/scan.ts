/**
 * A look at msgpack before it is decoded: does it nest too deep, and does any container claim more elements than
 * there are bytes left? The decoder allocates an array of the claimed length first, so without this five bytes
 * could cost gigabytes. Linear in the header's length, allocates nothing.
 * Source: the msgpack specification, https://github.com/msgpack/msgpack/blob/master/spec.md
 */

import { ProtocolError } from "./errors.ts";

/** How many values are left at each depth; used again for every scan. */
let left = new Float64Array(65);

/**
 * @param binary whether byte strings may occur outside of extensions: the decoder makes them views of `bytes`.
 * @throws ProtocolError MALFORMED_HEADER. Bodies of strings, binaries and extensions are skipped unread.
 */
export function scanMsgpack(bytes: Uint8Array, maxDepth: number, binary = true): void {
  if (left.length <= maxDepth) left = new Float64Array(maxDepth + 1);
  let depth = 0;
  left[0] = 1;
  let at = 0;
  while (depth >= 0) {
    if (left[depth] === 0) {
      depth--;
      continue;
    }
    left[depth]!--;
    if (at >= bytes.length) throw malformed("ends in the middle of a value");
    const head = bytes[at++]!;
    let children = 0;
    if (head <= 0x7f || head >= 0xe0) continue;
    if (head <= 0x8f) children = (head & 0x0f) * 2;
    else if (head <= 0x9f) children = head & 0x0f;
    else if (head <= 0xbf) at += head & 0x1f;
    else {
      if (!binary && head >= 0xc4 && head <= 0xc6)
        throw malformed("holds a byte string that is no extension");
      const form = FORMS[head - 0xc0]!;
      const count =
        form.lengthBytes === 0 ? form.fixed : readLength(bytes, at, form.lengthBytes) + form.fixed;
      at += form.lengthBytes;
      if (form.container === 0) at += count;
      else children = count * form.container;
    }
    if (children > 0) {
      if (children > bytes.length - at)
        throw malformed(`claims ${children} elements in ${bytes.length - at} bytes`);
      if (depth + 1 > maxDepth) throw malformed(`nests deeper than ${maxDepth}`);
      left[++depth] = children;
    }
  }
  if (at !== bytes.length) throw malformed(`takes ${at} bytes, ${bytes.length} came`);
}

interface Form {
  /** Bytes of the length field that follows. */
  readonly lengthBytes: number;
  /** Bytes of payload beside that length. */
  readonly fixed: number;
  /** 0: bytes follow; 1: an array's elements; 2: a map's pairs. */
  readonly container: 0 | 1 | 2;
}

const bytesOf = (lengthBytes: number, fixed: number): Form => ({ lengthBytes, fixed, container: 0 });
/** What follows each head byte from 0xc0 to 0xdf. */
const FORMS: readonly Form[] = [
  ...[0, 0, 0, 0].map((n) => bytesOf(0, n)), // nil, never used, false, true
  ...[1, 2, 4].map((n) => bytesOf(n, 0)), // bin
  ...[1, 2, 4].map((n) => bytesOf(n, 1)), // ext: a type byte, then the data
  ...[4, 8].map((n) => bytesOf(0, n)), // float
  ...[1, 2, 4, 8, 1, 2, 4, 8].map((n) => bytesOf(0, n)), // uint, int
  ...[1, 2, 4, 8, 16].map((n) => bytesOf(0, n + 1)), // fixext
  ...[1, 2, 4].map((n) => bytesOf(n, 0)), // str
  ...([2, 4] as const).map((n): Form => ({ lengthBytes: n, fixed: 0, container: 1 })), // array
  ...([2, 4] as const).map((n): Form => ({ lengthBytes: n, fixed: 0, container: 2 })), // map
];

function readLength(bytes: Uint8Array, at: number, size: number): number {
  if (at + size > bytes.length) throw malformed("ends in the middle of a length");
  let length = 0;
  for (let i = 0; i < size; i++) length = length * 256 + bytes[at + i]!;
  return length;
}

function malformed(what: string): ProtocolError {
  return new ProtocolError("MALFORMED_HEADER", `a message header ${what}`);
}
