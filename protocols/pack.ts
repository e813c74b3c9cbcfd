/**
 * Plain values to msgpack, into memory that is used again for every message. The same format as the library's
 * encoder writes, several times faster for the short headers a link sends hundreds of thousands of each second;
 * the tests hold the two to each other. Whatever is not null, a boolean, a number, a string, an array or a plain
 * object is its owner's business: `packObject` writes it as an extension, or throws.
 * Source: the msgpack specification, https://github.com/msgpack/msgpack/blob/master/spec.md
 */

import { ProtocolError } from "./errors.ts";

const INITIAL_BYTES = 256;
/** Memory that one large header has needed is not kept for all the small ones that follow. */
const KEPT_BYTES = 64 * 1024;
/** Strings up to this length are written by hand; for longer ones the platform's encoder is faster. */
const SHORT_STRING = 24;
const MOST_BYTES_PER_UNIT = 3;
const encoder = new TextEncoder();

export class Packer {
  /** What is written so far is `bytes[0, length)`; both change with every call. */
  bytes = new Uint8Array(INITIAL_BYTES);
  length = 0;
  private view = new DataView(this.bytes.buffer);
  private readonly maxDepth: number;
  private readonly packObject: (value: object | bigint) => void;

  /**
   * @param maxDepth how deep arrays and objects may nest.
   * @param packObject writes what is not plain with `ext` or `nested`, or throws.
   */
  constructor(maxDepth: number, packObject: (value: object | bigint) => void) {
    this.maxDepth = maxDepth;
    this.packObject = packObject;
  }

  /** Begins anew. */
  reset(): void {
    this.length = 0;
    if (this.bytes.byteLength > KEPT_BYTES) this.grow(INITIAL_BYTES);
  }

  /** @throws ProtocolError UNENCODABLE, or what `packObject` throws. */
  pack(value: unknown, depth = 1): void {
    switch (typeof value) {
      case "number":
        this.number(value);
        return;
      case "string":
        this.string(value);
        return;
      case "boolean":
        this.byte(value ? 0xc3 : 0xc2);
        return;
      case "undefined":
        this.byte(0xc0);
        return;
      case "object":
        if (value === null) this.byte(0xc0);
        else if (Array.isArray(value)) this.array(value, depth);
        else if (isPlain(value)) this.map(value as Record<string, unknown>, depth);
        else this.packObject(value);
        return;
      case "bigint":
        this.packObject(value);
        return;
      default:
        throw new ProtocolError("UNENCODABLE", `a ${typeof value} has no form on the wire`);
    }
  }

  /** An extension with this data. */
  ext(type: number, data: Uint8Array): void {
    const size = data.byteLength;
    this.room(6 + size);
    if (size <= 0xff) {
      this.bytes[this.length++] = 0xc7;
      this.bytes[this.length++] = size;
    } else {
      this.bytes[this.length++] = 0xc9;
      this.view.setUint32(this.length, size);
      this.length += 4;
    }
    this.bytes[this.length++] = type;
    this.bytes.set(data, this.length);
    this.length += size;
  }

  /** An extension whose data is a packed value. */
  nested(type: number, value: unknown): void {
    this.room(6);
    const head = this.length;
    this.length += 6;
    this.pack(value);
    this.bytes[head] = 0xc9;
    this.view.setUint32(head + 1, this.length - head - 6);
    this.bytes[head + 5] = type;
  }

  private byte(value: number): void {
    this.room(1);
    this.bytes[this.length++] = value;
  }

  private number(value: number): void {
    this.room(9);
    const { bytes } = this;
    if (Number.isSafeInteger(value) && !(value === 0 && 1 / value < 0)) {
      if (value >= 0) {
        if (value < 0x80) bytes[this.length++] = value;
        else if (value < 0x100) {
          bytes[this.length++] = 0xcc;
          bytes[this.length++] = value;
        } else if (value < 0x10000) {
          bytes[this.length++] = 0xcd;
          bytes[this.length++] = value >>> 8;
          bytes[this.length++] = value;
        } else if (value < 0x100000000) this.wide(0xce, value);
        else this.wider(0xcf, value);
      } else if (value >= -0x20) bytes[this.length++] = value + 0x100;
      else if (value >= -0x80000000) this.wide(0xd2, value);
      else this.wider(0xd3, value);
    } else {
      bytes[this.length++] = 0xcb;
      this.view.setFloat64(this.length, value);
      this.length += 8;
    }
  }

  private wide(head: number, value: number): void {
    this.bytes[this.length++] = head;
    this.view.setUint32(this.length, value);
    this.length += 4;
  }

  private wider(head: number, value: number): void {
    this.bytes[this.length++] = head;
    this.view.setUint32(this.length, Math.floor(value / 0x100000000));
    this.view.setUint32(this.length + 4, value >>> 0);
    this.length += 8;
  }

  private string(value: string): void {
    const units = value.length;
    this.room(5 + units * MOST_BYTES_PER_UNIT);
    const { bytes } = this;
    if (units <= SHORT_STRING) {
      let at = this.length + 1;
      let i = 0;
      for (; i < units; i++) {
        const unit = value.charCodeAt(i);
        if (unit >= 0x80) break;
        bytes[at++] = unit;
      }
      if (i === units) {
        bytes[this.length] = 0xa0 + units;
        this.length = at;
        return;
      }
    }
    // The length is written before it is known how many bytes a unit takes; five bytes have room for any.
    const at = this.length + 5;
    const { written } = encoder.encodeInto(value, bytes.subarray(at));
    bytes[this.length] = 0xdb;
    this.view.setUint32(this.length + 1, written);
    this.length = at + written;
  }

  private array(values: unknown[], depth: number): void {
    this.deeper(depth);
    this.count(values.length, 0x90, 0xdc);
    for (let i = 0; i < values.length; i++) this.pack(values[i], depth + 1);
  }

  /** Properties that are undefined are left out. */
  private map(object: Record<string, unknown>, depth: number): void {
    this.deeper(depth);
    const keys = Object.keys(object);
    let count = keys.length;
    for (const key of keys) if (object[key] === undefined) count--;
    this.count(count, 0x80, 0xde);
    for (const key of keys) {
      const value = object[key];
      if (value === undefined) continue;
      if (key === "__proto__") {
        throw new ProtocolError("UNENCODABLE", 'a property called "__proto__" has no form on the wire');
      }
      this.string(key);
      this.pack(value, depth + 1);
    }
  }

  private count(count: number, fix: number, sixteen: number): void {
    this.room(5);
    if (count < 16) this.bytes[this.length++] = fix + count;
    else if (count < 0x10000) {
      this.bytes[this.length++] = sixteen;
      this.view.setUint16(this.length, count);
      this.length += 2;
    } else this.wide(sixteen + 1, count);
  }

  private deeper(depth: number): void {
    if (depth > this.maxDepth) {
      throw new ProtocolError("UNENCODABLE", `arrays and objects nest deeper than ${this.maxDepth}`);
    }
  }

  private room(bytes: number): void {
    if (this.length + bytes > this.bytes.byteLength) {
      this.grow(Math.max(this.length + bytes, 2 * this.bytes.byteLength));
    }
  }

  private grow(size: number): void {
    const grown = new Uint8Array(size);
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
    this.view = new DataView(grown.buffer);
  }
}

function isPlain(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
