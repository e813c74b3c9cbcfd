/**
 * Messages to the bodies of frames and back. Three of them are sent by the hundred thousand, and have their
 * fields at fixed places; what actors say to each other stands behind, in msgpack:
 *
 *     offset 0  u8   1 tell, 2 ask, 3 reply
 *            1  u8   form of what stands behind: see `Form`
 *            2  u16  number of the method; 0 in a reply
 *            4  u64  of a tell and an ask the actor, of a reply its id; a safe integer
 *           12  u64  of an ask its id
 *
 * little-endian. A number stands for a method from the moment its name has been told in a `name` frame, which goes
 * before all messages; names are numbered from 0 in the order of their telling. Everything else is the msgpack of
 * `toWire`, whose first byte is that of an array; so is a call whose method has no number.
 */

import { type Codec, type Encoded, SEGMENT_MIN_BYTES } from "./codec.ts";
import { ProtocolError } from "./errors.ts";
import { readUint32 } from "./frame.ts";
import { type Envelope, fromWire, isCount, toWire } from "./messages.ts";

/** Methods with a number, for each link and direction: what they cost is bounded, on both ends. */
export const MOST_NAMES = 4096;
/** A name that is longer has no number. */
export const NAME_BYTES = 256;

const Kind = { tell: 1, ask: 2, reply: 3 } as const;
const LAST_KIND = Kind.reply;
/** The arguments of a call, or the value of a reply. */
const Form = {
  /** No arguments; undefined. */
  none: 0,
  /** One value, in msgpack. */
  one: 1,
  /** One short byte string, as it is, to the end. */
  bytes: 2,
  /** Arguments, as an array in msgpack. */
  list: 3,
} as const;
const SHORT_BYTES = 12;
const ASK_BYTES = 20;
/** Enough for any short byte string. */
const SCRATCH_BYTES = ASK_BYTES + SEGMENT_MIN_BYTES;
const NO_SEGMENTS: readonly Uint8Array[] = [];
const text = {
  encode: new TextEncoder(),
  decode: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }),
};

/** The messages of one link, both directions. */
export class EnvelopeCodec {
  private readonly codec: Codec;
  private readonly headerBytes: number;
  private readonly tellName: (name: Uint8Array) => void;
  private readonly numbers = new Map<string, number>();
  private readonly names: string[] = [];
  private readonly buffer = new ArrayBuffer(SCRATCH_BYTES);
  private readonly scratch = new Uint8Array(this.buffer);
  private readonly view = new DataView(this.buffer);

  /**
   * For one link: what it has named it does not name again.
   * @param headerBytes the most a body may have.
   * @param tellName sends a `name` frame, before any message that is sent later; keeps nothing of the name.
   */
  constructor(codec: Codec, headerBytes: number, tellName: (name: Uint8Array) => void) {
    this.codec = codec;
    this.headerBytes = headerBytes;
    this.tellName = tellName;
  }

  /** The body of a message; borrowed until the next. @throws ProtocolError UNENCODABLE, LIMIT_EXCEEDED. */
  encode(envelope: Envelope): Encoded {
    switch (envelope.type) {
      case "tell": {
        const number = this.number(envelope.method);
        if (number === undefined) break;
        this.setCount(4, envelope.to);
        return this.encodeArgs(Kind.tell, number, SHORT_BYTES, envelope.args);
      }
      case "ask": {
        const number = this.number(envelope.method);
        if (number === undefined) break;
        this.setCount(4, envelope.to);
        this.setCount(12, envelope.id);
        return this.encodeArgs(Kind.ask, number, ASK_BYTES, envelope.args);
      }
      case "reply":
        this.setCount(4, envelope.id);
        return envelope.value === undefined
          ? this.body(Kind.reply, Form.none, 0, SHORT_BYTES)
          : this.encodeOne(Kind.reply, 0, SHORT_BYTES, envelope.value);
    }
    return this.codec.encode(toWire(envelope));
  }

  /**
   * The message in `bytes[from, to)`, which is borrowed; it takes over the segments.
   * @throws ProtocolError MALFORMED_HEADER, whatever is wrong.
   */
  decode(bytes: Uint8Array, segments = NO_SEGMENTS, from = 0, to = bytes.byteLength): Envelope {
    const kind = bytes[from]!;
    if (!(kind >= Kind.tell && kind <= LAST_KIND)) {
      return fromWire(this.codec.decode(bytes, segments, from, to));
    }
    const begin = from + (kind === Kind.ask ? ASK_BYTES : SHORT_BYTES);
    if (begin > to) throw malformed(`ends after ${to - from} bytes`);
    const form = bytes[from + 1]!;
    const first = count(bytes, from + 4);
    if (kind === Kind.reply) {
      return { type: "reply", id: first, value: this.value(form, bytes, segments, begin, to) };
    }
    const number = bytes[from + 2]! | (bytes[from + 3]! << 8);
    const method = this.names[number];
    if (method === undefined) throw malformed(`calls method ${number} of ${this.names.length}`);
    const args = this.args(form, bytes, segments, begin, to);
    if (kind === Kind.tell) return { type: "tell", to: first, method, args };
    return { type: "ask", id: count(bytes, from + 12), to: first, method, args };
  }

  /** The peer says what the next number means. @throws ProtocolError LIMIT_EXCEEDED, MALFORMED_HEADER. */
  named(name: Uint8Array): void {
    if (this.names.length >= MOST_NAMES) {
      throw new ProtocolError("LIMIT_EXCEEDED", `names of methods: at most ${MOST_NAMES}`);
    }
    try {
      this.names.push(text.decode.decode(name));
    } catch {
      throw malformed("names a method in bytes that are not UTF-8");
    }
  }

  /** The number of a method, which the peer knows; undefined when it has none. */
  private number(method: string): number | undefined {
    const known = this.numbers.get(method);
    if (known !== undefined || this.numbers.size >= MOST_NAMES || method.length > NAME_BYTES) return known;
    const name = text.encode.encode(method);
    if (name.byteLength > NAME_BYTES || text.decode.decode(name) !== method) return undefined;
    this.tellName(name);
    this.numbers.set(method, this.numbers.size);
    return this.numbers.size - 1;
  }

  private encodeArgs(kind: number, number: number, length: number, args: readonly unknown[]): Encoded {
    if (args.length === 0) return this.body(kind, Form.none, number, length);
    if (args.length === 1) return this.encodeOne(kind, number, length, args[0]);
    return this.append(kind, Form.list, number, length, this.codec.encode(args, length));
  }

  private encodeOne(kind: number, number: number, length: number, value: unknown): Encoded {
    if (value instanceof Uint8Array && value.byteLength < SEGMENT_MIN_BYTES) {
      const whole = length + value.byteLength;
      if (whole <= this.headerBytes) {
        this.scratch.set(value, length);
        return this.body(kind, Form.bytes, number, whole);
      }
    }
    return this.append(kind, Form.one, number, length, this.codec.encode(value, length));
  }

  private append(kind: number, form: number, number: number, length: number, rest: Encoded): Encoded {
    const { header, segments } = rest;
    const whole = length + header.byteLength;
    if (whole <= SCRATCH_BYTES) {
      this.scratch.set(header, length);
      return { header: this.body(kind, form, number, whole).header, segments };
    }
    const body = new Uint8Array(whole);
    body.set(this.body(kind, form, number, length).header);
    body.set(header, length);
    return { header: body, segments };
  }

  private setCount(offset: number, value: number): void {
    this.view.setUint32(offset, value >>> 0, true);
    this.view.setUint32(offset + 4, Math.floor(value / 2 ** 32), true);
  }

  private body(kind: number, form: number, number: number, length: number): Encoded {
    this.view.setUint8(0, kind);
    this.view.setUint8(1, form);
    this.view.setUint16(2, number, true);
    return { header: new Uint8Array(this.buffer, 0, length), segments: NO_SEGMENTS };
  }

  private args(
    form: number,
    bytes: Uint8Array,
    segments: readonly Uint8Array[],
    at: number,
    to: number,
  ): unknown[] {
    if (form !== Form.list) {
      const value = this.value(form, bytes, segments, at, to);
      return form === Form.none ? [] : [value];
    }
    const args = this.codec.decode(bytes, segments, at, to);
    if (!Array.isArray(args)) throw malformed("has arguments that are no array");
    return args;
  }

  private value(
    form: number,
    bytes: Uint8Array,
    segments: readonly Uint8Array[],
    at: number,
    to: number,
  ): unknown {
    switch (form) {
      case Form.none:
        if (at !== to) throw malformed(`takes no value, ${to - at} bytes came`);
        return undefined;
      case Form.one:
        return this.codec.decode(bytes, segments, at, to);
      case Form.bytes:
        return bytes.slice(at, to);
      default:
        throw malformed(`is of the unknown form ${form}`);
    }
  }
}

/** @throws ProtocolError MALFORMED_HEADER. */
function count(bytes: Uint8Array, at: number): number {
  const value = readUint32(bytes, at) + readUint32(bytes, at + 4) * 2 ** 32;
  if (!isCount(value)) throw malformed(`has the number ${value} of an actor or a request`);
  return value;
}

function malformed(what: string): ProtocolError {
  return new ProtocolError("MALFORMED_HEADER", `a call or reply ${what}`);
}
