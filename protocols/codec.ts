/**
 * Values to bytes and back: a msgpack header for everything small, raw segments for everything large. Tensors
 * and byte strings from 4 KiB on become segments: the header holds only their dtype, shape and number, their
 * bytes are sent from where they are and received to where they will be used.
 *
 * It carries: null, booleans, numbers, strings, bigint, Uint8Array, Date, arrays, plain objects, tensors, errors
 * (with name, message, stack, code and cause) and actor refs, whose meaning the runtime supplies through hooks.
 * It refuses anything else by name instead of losing it silently. `undefined` is left out of objects and becomes
 * null in arrays, -0 becomes 0. A decoded error is a plain `Error` with the same name and code; compare codes, not classes.
 */

import { Decoder, decode, Encoder, ExtData, type ExtensionCodecType, encode } from "@msgpack/msgpack";
import { CompressedTensor, tensorCodec } from "./codecs/compressed.ts";
import { ProtocolError } from "./errors.ts";
import type { Limits } from "./limits.ts";
import { scanMsgpack } from "./scan.ts";
import { byteLength, type DType, elements, Tensor } from "./tensor.ts";

/** How refs cross the wire; the runtime's business. */
export interface CodecHooks {
  /** Plain data that stands for `value` if it is a ref, otherwise undefined. */
  encodeRef(value: object): unknown;
  /** The ref that `encodeRef`'s data stands for, on this node. */
  decodeRef(data: unknown): unknown;
}

/** A value in the form in which it is sent. */
export interface Encoded {
  /** Borrowed until the codec encodes again. */
  readonly header: Uint8Array;
  /** Borrowed from the encoded value, not copied. */
  readonly segments: readonly Uint8Array[];
}

/** Byte strings from this length on are segments: below, copying them twice is cheaper than a second frame. */
export const SEGMENT_MIN_BYTES = 4096;
/** The library's memory grows to the largest header; what one of those has needed is not kept for all small ones. */
const KEPT_BYTES = 64 * 1024;
/** Errors, refs, causes and the like nest msgpack within msgpack; this bounds the recursion. */
const MAX_NESTING = 16;
const Ext = {
  tensor: 1,
  bytes: 2,
  bigint: 3,
  ref: 4,
  error: 5,
  date: 6,
  inlineBytes: 7,
  compressed: 8,
} as const;
const DTYPES: readonly DType[] = ["f32", "f16", "bf16", "f64", "i64", "i32", "u8", "i8", "bool"];
const MAX_RANK = 255;
const NO_SEGMENTS: readonly Uint8Array[] = [];
const text = { encode: new TextEncoder(), decode: new TextDecoder() };

/** Values to bytes and back, for one link: it keeps its buffers between messages. */
export class Codec {
  private readonly hooks: CodecHooks;
  private readonly limits: Limits;
  private readonly extensions: ExtensionCodecType<undefined>;
  private encoder: Encoder<undefined>;
  private readonly decoder: Decoder<undefined>;
  private segments: Uint8Array[] | undefined;
  private received = NO_SEGMENTS;
  private nesting = 0;

  /** `limits` hold for what is encoded and what is decoded. */
  constructor(hooks: CodecHooks, limits: Limits) {
    this.hooks = hooks;
    this.limits = limits;
    this.extensions = {
      tryToEncode: (object) => this.encodeObject(object as object),
      decode: (data, type) => this.decodeExtension(data, type),
    };
    this.encoder = this.newEncoder();
    this.decoder = new Decoder({ extensionCodec: this.extensions });
  }

  private newEncoder(): Encoder<undefined> {
    const { extensions: extensionCodec, limits } = this;
    return new Encoder({ extensionCodec, maxDepth: limits.headerDepth, ignoreUndefined: true });
  }

  /**
   * A value as it is sent, behind `before` bytes that the header has already.
   * @throws ProtocolError UNENCODABLE naming the value, or LIMIT_EXCEEDED.
   */
  encode(value: unknown, before = 0): Encoded {
    const { limits } = this;
    this.segments = undefined;
    this.nesting = 0;
    let header: Uint8Array;
    try {
      header = this.encoder.encodeSharedRef(value);
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      throw new ProtocolError("UNENCODABLE", `a message cannot be encoded: ${(error as Error).message}`);
    }
    const length = before + header.byteLength;
    if (header.byteLength > KEPT_BYTES) this.encoder = this.newEncoder();
    if (length > limits.headerBytes) {
      throw exceeded("a message header", length, limits.headerBytes, "send bulk data as tensors");
    }
    const segments = this.segments ?? NO_SEGMENTS;
    this.segments = undefined;
    if (segments.length > 0) this.limit(segments);
    return { header, segments };
  }

  /** @throws ProtocolError LIMIT_EXCEEDED. */
  private limit(segments: readonly Uint8Array[]): void {
    const { limits } = this;
    if (segments.length > limits.segments) {
      throw exceeded("segments of a message", segments.length, limits.segments);
    }
    let bytes = 0;
    for (const segment of segments) bytes += segment.byteLength;
    if (bytes > limits.messageBytes) throw exceeded("bytes of a message", bytes, limits.messageBytes);
  }

  /**
   * The value of `header[from, to)`; its tensors are views of `segments`, which it takes over. `header` is
   * borrowed.
   * @throws ProtocolError MALFORMED_HEADER, whatever is wrong.
   */
  decode(header: Uint8Array, segments = NO_SEGMENTS, from = 0, to = header.byteLength): unknown {
    this.received = segments;
    this.nesting = 0;
    try {
      return this.decodePart(header.subarray(from, to));
    } finally {
      this.received = NO_SEGMENTS;
    }
  }

  private decodePart(bytes: Uint8Array): unknown {
    scanMsgpack(bytes, this.limits.headerDepth, false); // a view of what is borrowed must not get out
    try {
      return this.decoder.decode(bytes);
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      const why = error instanceof Error ? error.message : String(error);
      throw new ProtocolError("MALFORMED_HEADER", `a header does not decode: ${why}`, { cause: error });
    }
  }

  /** What is no plain value: tensors, bytes, errors, dates, big integers and refs. Null for what is. */
  private encodeObject(object: object | bigint): ExtData | null {
    if (typeof object === "bigint") return new ExtData(Ext.bigint, bigintText(object));
    if (Array.isArray(object)) return null;
    const prototype = Object.getPrototypeOf(object);
    if (prototype === Object.prototype || prototype === null) {
      if (!Object.hasOwn(object, "__proto__")) return null;
      throw new ProtocolError("UNENCODABLE", 'a property called "__proto__" has no form on the wire');
    }
    if (object instanceof Tensor) return this.encodeTensor(object);
    if (object instanceof Uint8Array) {
      if (object.byteLength < SEGMENT_MIN_BYTES) return new ExtData(Ext.inlineBytes, object);
      const number = new Uint8Array(4);
      new DataView(number.buffer).setUint32(0, this.segment(object), true);
      return new ExtData(Ext.bytes, number);
    }
    if (object instanceof Error)
      return this.nest(Ext.error, () => describe(object, this.nesting < MAX_NESTING));
    if (object instanceof Date) return new ExtData(Ext.date, text.encode.encode(object.toJSON() ?? ""));
    const ref = this.hooks.encodeRef(object);
    if (ref !== undefined) return this.nest(Ext.ref, () => ref);
    const { name } = (object as { constructor?: { name?: string } }).constructor ?? {};
    const what = `a ${name ?? "value of an unknown class"} has no form on the wire`;
    throw new ProtocolError("UNENCODABLE", `${what}; send plain objects, arrays, Uint8Array or Tensor`);
  }

  /** Plain data within an extension, which is msgpack within msgpack. */
  private nest(type: number, data: () => unknown): ExtData {
    if (++this.nesting > MAX_NESTING) {
      throw new ProtocolError("UNENCODABLE", `errors or refs nest deeper than ${MAX_NESTING}`);
    }
    const bytes = this.encoder.encode(data());
    this.nesting--;
    return new ExtData(type, bytes);
  }

  /** Dtype, shape and the number of the segment that holds the bytes. */
  private encodeTensor(tensor: Tensor): ExtData {
    const { dtype, shape, bytes } = tensor;
    const expected = byteLength(dtype, shape);
    if (bytes.byteLength !== expected) {
      const what = `a ${dtype}[${shape.join(",")}] tensor has ${bytes.byteLength} bytes left of ${expected}`;
      throw new ProtocolError("UNENCODABLE", `${what}: its memory was given to a tell and is the receiver's`);
    }
    if (shape.length > MAX_RANK) {
      throw new ProtocolError("UNENCODABLE", `a tensor of ${shape.length} dimensions; at most ${MAX_RANK}`);
    }
    if (tensor instanceof CompressedTensor) {
      return this.nest(Ext.compressed, () => [tensor.codec.name, shape, this.segment(tensor.encode())]);
    }
    const data = new Uint8Array(6 + 4 * shape.length);
    const view = new DataView(data.buffer);
    view.setUint8(0, DTYPES.indexOf(dtype));
    view.setUint8(1, shape.length);
    view.setUint32(2, this.segment(bytes), true);
    for (let i = 0; i < shape.length; i++) view.setUint32(6 + 4 * i, shape[i]!, true);
    return new ExtData(Ext.tensor, data);
  }

  /** Appends a segment; returns its number. */
  private segment(bytes: Uint8Array): number {
    this.segments ??= [];
    return this.segments.push(bytes) - 1;
  }

  /** What `encodeObject` made. `data` is borrowed. @throws ProtocolError MALFORMED_HEADER. */
  private decodeExtension(data: Uint8Array, type: number): unknown {
    switch (type) {
      case Ext.inlineBytes:
        return data.slice();
      case Ext.tensor:
        return this.decodeTensor(new DataView(data.buffer, data.byteOffset, data.byteLength));
      case Ext.bytes:
        if (data.byteLength !== 4) throw malformed("holds a byte string's reference that is not 4 bytes");
        return this.receivedSegment(new DataView(data.buffer, data.byteOffset, 4).getUint32(0, true));
      case Ext.bigint:
        return parseBigint(data);
      case Ext.date:
        return new Date(text.decode.decode(data));
      case Ext.ref:
      case Ext.compressed:
      case Ext.error: {
        if (++this.nesting > MAX_NESTING) throw malformed(`nests errors or refs deeper than ${MAX_NESTING}`);
        const plain = this.decodePart(data);
        this.nesting--;
        if (type === Ext.compressed) return this.decodeCompressed(plain);
        return type === Ext.ref ? this.hooks.decodeRef(plain) : revive(plain);
      }
      default:
        throw malformed(`holds the unknown extension ${type}`);
    }
  }

  /** A tensor over its segment. @throws ProtocolError MALFORMED_HEADER. */
  private decodeTensor(view: DataView): Tensor {
    const rank = view.byteLength >= 6 ? view.getUint8(1) : 0;
    const dtype = view.byteLength >= 6 ? DTYPES[view.getUint8(0)] : undefined;
    if (!dtype || view.byteLength !== 6 + 4 * rank) throw malformed("holds a malformed tensor");
    const shape: number[] = [];
    for (let i = 0; i < rank; i++) shape.push(view.getUint32(6 + 4 * i, true));
    const bytes = this.receivedSegment(view.getUint32(2, true));
    if (bytes.byteLength !== byteLength(dtype, shape)) {
      throw malformed(`says ${dtype}[${shape.join(",")}] of a segment of ${bytes.byteLength} bytes`);
    }
    return new Tensor(dtype, shape, bytes);
  }

  /** A tensor in memory of its own. @throws ProtocolError MALFORMED_HEADER. */
  private decodeCompressed(plain: unknown): Tensor {
    const [name, shape, segment] = Array.isArray(plain) ? plain : [];
    const isShape = Array.isArray(shape) && shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0);
    if (typeof name !== "string" || !isShape || typeof segment !== "number") {
      throw malformed("holds a malformed compressed tensor");
    }
    const count = elements(shape);
    if (!(4 * count <= this.limits.messageBytes)) throw malformed(`claims a tensor of ${count} elements`);
    const values = tensorCodec(name).decode(this.receivedSegment(segment), count);
    return new Tensor("f32", shape, new Uint8Array(values.buffer));
  }

  /** A segment of the message, by number. @throws ProtocolError MALFORMED_HEADER. */
  private receivedSegment(index: number): Uint8Array {
    const segment = this.received[index];
    if (!segment) throw malformed(`refers to segment ${index} of ${this.received.length}`);
    return segment;
  }
}

/** Plain data (no tensors, refs or errors) to bytes, for what is said before and after a link's messages. */
export function encodePlain(value: unknown): Uint8Array {
  return encode(value);
}

/** @throws ProtocolError MALFORMED_HEADER. `bytes` is borrowed; byte strings in the result are views of it. */
export function decodePlain(bytes: Uint8Array, maxDepth: number): unknown {
  scanMsgpack(bytes, maxDepth);
  try {
    return decode(bytes);
  } catch (error) {
    throw new ProtocolError("MALFORMED_HEADER", `plain data does not decode: ${(error as Error).message}`);
  }
}

/** A chain of causes that is too long loses its end. */
function describe(error: Error, withCause: boolean): object {
  const { code, cause } = error as { code?: unknown; cause?: unknown };
  return {
    name: error.name,
    message: error.message,
    stack: error.stack,
    code: typeof code === "string" || typeof code === "number" ? code : undefined,
    cause: withCause && cause instanceof Error ? cause : undefined,
  };
}

function revive(data: unknown): Error {
  if (typeof data !== "object" || data === null) throw malformed("holds a malformed error");
  const { name, message, stack, code, cause } = data as Record<string, unknown>;
  const error = new Error(String(message), cause instanceof Error ? { cause } : undefined);
  const set = (key: string, value: unknown) =>
    Object.defineProperty(error, key, { value, writable: true, configurable: true, enumerable: false });
  if (typeof name === "string") set("name", name);
  if (typeof stack === "string") set("stack", stack);
  if (code !== undefined) set("code", code);
  return error;
}

/** Hexadecimal, because parsing it is linear in its length. */
function bigintText(value: bigint): Uint8Array {
  return text.encode.encode(value < 0n ? `-${(-value).toString(16)}` : value.toString(16));
}

function parseBigint(data: Uint8Array): bigint {
  const digits = text.decode.decode(data);
  if (!/^-?[0-9a-f]+$/.test(digits)) throw malformed("holds a malformed bigint");
  return digits.startsWith("-") ? -BigInt(`0x${digits.slice(1)}`) : BigInt(`0x${digits}`);
}

function malformed(what: string): ProtocolError {
  return new ProtocolError("MALFORMED_HEADER", `a message header ${what}`);
}

function exceeded(what: string, got: number, limit: number, hint?: string): ProtocolError {
  return new ProtocolError(
    "LIMIT_EXCEEDED",
    `${what}: at most ${limit}, got ${got}${hint ? `; ${hint}` : ""}`,
  );
}
