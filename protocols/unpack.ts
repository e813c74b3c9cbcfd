/**
 * Msgpack to plain values, proving each claim before it costs anything: a container never claims more elements
 * than there are bytes left, nothing nests deeper than allowed, nothing ends in the middle, nothing is left over.
 * So a header costs time and memory in proportion to its own length. Extensions are their owner's business.
 * Source: the msgpack specification, https://github.com/msgpack/msgpack/blob/master/spec.md
 */

import { ProtocolError } from "./errors.ts";

/** Strings up to this length are looked up among those seen before: names of methods and of properties recur. */
const SHORT_STRING = 24;
const REMEMBERED = 512;
const NOTHING: Uint8Array = new Uint8Array(0);
const decoder = new TextDecoder();
const floats = new DataView(new ArrayBuffer(8));

interface Remembered {
  readonly bytes: Uint8Array;
  readonly text: string;
}

export class Unpacker {
  private bytes = NOTHING;
  private at = 0;
  private end = 0;
  private readonly maxDepth: number;
  private readonly unpackExt: (type: number, bytes: Uint8Array, from: number, to: number) => unknown;
  private readonly remembered: (Remembered | undefined)[] = new Array(REMEMBERED).fill(undefined);

  /** @param unpackExt makes a value of an extension's data, `bytes[from, to)`, which is borrowed. */
  constructor(
    maxDepth: number,
    unpackExt: (type: number, bytes: Uint8Array, from: number, to: number) => unknown,
  ) {
    this.maxDepth = maxDepth;
    this.unpackExt = unpackExt;
  }

  /** The one value that `bytes[from, to)` holds; may be called from within `unpackExt`. @throws ProtocolError. */
  unpack(bytes: Uint8Array, from: number, to: number): unknown {
    const { bytes: outerBytes, at: outerAt, end: outerEnd } = this;
    this.bytes = bytes;
    this.at = from;
    this.end = to;
    const value = this.value(0);
    if (this.at !== to) throw malformed(`takes ${this.at - from} bytes, ${to - from} came`);
    this.bytes = outerBytes;
    this.at = outerAt;
    this.end = outerEnd;
    return value;
  }

  /** Forgets the bytes; after an error it is as new. */
  release(): void {
    this.bytes = NOTHING;
    this.at = 0;
    this.end = 0;
  }

  private value(depth: number): unknown {
    const head = this.uint8();
    if (head < 0x80) return head;
    if (head >= 0xe0) return head - 0x100;
    if (head < 0x90) return this.map(head & 0x0f, depth);
    if (head < 0xa0) return this.array(head & 0x0f, depth);
    if (head < 0xc0) return this.string(head & 0x1f);
    switch (head) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
        return this.binary(this.uint8());
      case 0xc5:
        return this.binary(this.uint16());
      case 0xc6:
        return this.binary(this.uint32());
      case 0xc7:
        return this.ext(this.uint8());
      case 0xc8:
        return this.ext(this.uint16());
      case 0xc9:
        return this.ext(this.uint32());
      case 0xca:
        return this.float(4).getFloat32(0);
      case 0xcb:
        return this.float(8).getFloat64(0);
      case 0xcc:
        return this.uint8();
      case 0xcd:
        return this.uint16();
      case 0xce:
        return this.uint32();
      case 0xcf:
        return this.uint32() * 0x100000000 + this.uint32();
      case 0xd0:
        return (this.uint8() << 24) >> 24;
      case 0xd1:
        return (this.uint16() << 16) >> 16;
      case 0xd2:
        return this.uint32() | 0;
      case 0xd3:
        return (this.uint32() | 0) * 0x100000000 + this.uint32();
      case 0xd9:
        return this.string(this.uint8());
      case 0xda:
        return this.string(this.uint16());
      case 0xdb:
        return this.string(this.uint32());
      case 0xdc:
        return this.array(this.uint16(), depth);
      case 0xdd:
        return this.array(this.uint32(), depth);
      case 0xde:
        return this.map(this.uint16(), depth);
      case 0xdf:
        return this.map(this.uint32(), depth);
      case 0xc1:
        throw malformed("holds the byte 0xc1, which means nothing");
      default: // 0xd4 to 0xd8, an extension of 1, 2, 4, 8 or 16 bytes
        return this.ext(1 << (head - 0xd4));
    }
  }

  private array(count: number, depth: number): unknown[] {
    this.claim(count, count, depth);
    const values: unknown[] = [];
    for (let i = 0; i < count; i++) values.push(this.value(depth + 1));
    return values;
  }

  private map(count: number, depth: number): Record<string, unknown> {
    this.claim(count, 2 * count, depth);
    const object: Record<string, unknown> = {};
    for (let i = 0; i < count; i++) {
      const key = this.value(depth + 1);
      if (typeof key !== "string" || key === "__proto__") {
        throw malformed(`has ${typeof key === "string" ? `the key "${key}"` : "a key that is not a string"}`);
      }
      object[key] = this.value(depth + 1);
    }
    return object;
  }

  private claim(count: number, leastBytes: number, depth: number): void {
    const left = this.end - this.at;
    if (leastBytes > left) throw malformed(`claims ${count} elements in ${left} bytes`);
    if (depth >= this.maxDepth && count > 0) throw malformed(`nests deeper than ${this.maxDepth}`);
  }

  private ext(length: number): unknown {
    const type = this.uint8();
    const from = this.skip(length);
    return this.unpackExt((type << 24) >> 24, this.bytes, from, from + length);
  }

  private binary(length: number): Uint8Array {
    const from = this.skip(length);
    return this.bytes.slice(from, from + length);
  }

  private string(length: number): string {
    const from = this.skip(length);
    if (length > SHORT_STRING) return decoder.decode(this.bytes.subarray(from, from + length));
    if (length === 0) return "";
    const { bytes } = this;
    let hash = length;
    for (let i = 0; i < length; i++) hash = (Math.imul(hash, 31) + bytes[from + i]!) | 0;
    const place = hash & (REMEMBERED - 1);
    const known = this.remembered[place];
    if (known && known.bytes.byteLength === length) {
      let i = 0;
      while (i < length && known.bytes[i] === bytes[from + i]) i++;
      if (i === length) return known.text;
    }
    const own = bytes.slice(from, from + length);
    const text = decoder.decode(own);
    this.remembered[place] = { bytes: own, text };
    return text;
  }

  private float(length: number): DataView {
    const from = this.skip(length);
    for (let i = 0; i < length; i++) floats.setUint8(i, this.bytes[from + i]!);
    return floats;
  }

  private uint8(): number {
    if (this.at >= this.end) throw malformed("ends in the middle of a value");
    return this.bytes[this.at++]!;
  }

  private uint16(): number {
    const from = this.skip(2);
    return (this.bytes[from]! << 8) | this.bytes[from + 1]!;
  }

  private uint32(): number {
    const from = this.skip(4);
    const { bytes } = this;
    return (
      ((bytes[from]! << 24) | (bytes[from + 1]! << 16) | (bytes[from + 2]! << 8) | bytes[from + 3]!) >>> 0
    );
  }

  /** Passes over this many bytes and returns where they begin. */
  private skip(length: number): number {
    const from = this.at;
    if (length > this.end - from) throw malformed("ends in the middle of a value");
    this.at = from + length;
    return from;
  }
}

function malformed(what: string): ProtocolError {
  return new ProtocolError("MALFORMED_HEADER", `a message header ${what}`);
}
