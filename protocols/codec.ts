/**
 * Values to bytes and back: a msgpack header for everything small, raw segments for everything large. Tensors
 * and byte strings from 1 KiB on become segments: the header holds only their dtype, shape and number, their
 * bytes are sent from where they are and received to where they will be used.
 *
 * It carries: null, booleans, numbers, strings, bigint, Uint8Array, Date, arrays, plain objects, tensors, errors
 * (with name, message, stack, code and cause) and actor refs, whose meaning the runtime supplies through hooks.
 * It refuses anything else by name instead of losing it silently. `undefined` is left out of objects and becomes
 * null in arrays. A decoded error is a plain `Error` with the same name and code; compare codes, not classes.
 */

import { Decoder, decode, Encoder, ExtData, type ExtensionCodecType, encode } from "@msgpack/msgpack";
import { ProtocolError } from "./errors.ts";
import type { Limits } from "./limits.ts";
import { scanMsgpack } from "./scan.ts";
import { byteLength, type DType, Tensor } from "./tensor.ts";

/** How refs cross the wire; the runtime's business. */
export interface CodecHooks {
  /** Plain data that stands for `value` if it is a ref, otherwise undefined. */
  encodeRef(value: object): unknown;
  /** The ref that `encodeRef`'s data stands for, on this node. */
  decodeRef(data: unknown): unknown;
}

export interface Encoded {
  readonly header: Uint8Array;
  /** Borrowed from the encoded value, not copied. */
  readonly segments: readonly Uint8Array[];
}

/** Byte strings from this length on are segments: below, copying is cheaper than a second frame. */
const SEGMENT_MIN_BYTES = 1024;
/** Errors, refs and causes nest msgpack within msgpack; this bounds the recursion. */
const MAX_NESTING = 16;
const Ext = { tensor: 1, bytes: 2, bigint: 3, ref: 4, error: 5, date: 6, inlineBytes: 7 } as const;
const DTYPES: readonly DType[] = ["f32", "f16", "bf16", "f64", "i64", "i32", "u8", "i8", "bool"];
const text = { encode: new TextEncoder(), decode: new TextDecoder() };

export class Codec {
  private readonly hooks: CodecHooks;
  private readonly limits: Limits;
  private readonly encoder: Encoder<undefined>;
  private readonly decoder: Decoder<undefined>;
  private segments: Uint8Array[] = [];
  private nesting = 0;

  constructor(hooks: CodecHooks, limits: Limits) {
    this.hooks = hooks;
    this.limits = limits;
    const extensionCodec: ExtensionCodecType<undefined> = {
      tryToEncode: (object) => this.encodeObject(object as object),
      decode: (data, type) => this.decodeObject(data, type),
    };
    this.encoder = new Encoder({ extensionCodec, maxDepth: limits.headerDepth, ignoreUndefined: true });
    this.decoder = new Decoder({ extensionCodec });
  }

  /** @throws ProtocolError UNENCODABLE naming the value, or LIMIT_EXCEEDED. */
  encode(value: unknown): Encoded {
    this.segments = [];
    this.nesting = 0;
    let header: Uint8Array;
    try {
      header = this.encoder.encode(value);
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      throw new ProtocolError("UNENCODABLE", `a message cannot be encoded: ${(error as Error).message}`);
    }
    if (header.byteLength > this.limits.headerBytes) {
      throw exceeded(
        "a message header",
        header.byteLength,
        this.limits.headerBytes,
        "send bulk data as tensors",
      );
    }
    if (this.segments.length > this.limits.segments) {
      throw exceeded("segments of a message", this.segments.length, this.limits.segments);
    }
    let bytes = 0;
    for (const segment of this.segments) bytes += segment.byteLength;
    if (bytes > this.limits.messageBytes)
      throw exceeded("bytes of a message", bytes, this.limits.messageBytes);
    const segments = this.segments;
    this.segments = [];
    return { header, segments };
  }

  /**
   * The value; its tensors are views of `segments`, which it takes over. `header` is borrowed.
   * @throws ProtocolError MALFORMED_HEADER.
   */
  decode(header: Uint8Array, segments: readonly Uint8Array[]): unknown {
    this.segments = segments as Uint8Array[];
    this.nesting = 0;
    try {
      return this.decodePart(header);
    } finally {
      this.segments = [];
    }
  }

  private decodePart(bytes: Uint8Array): unknown {
    scanMsgpack(bytes, this.limits.headerDepth);
    try {
      return this.decoder.decode(bytes);
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      throw new ProtocolError("MALFORMED_HEADER", `a header does not decode: ${(error as Error).message}`);
    }
  }

  private encodeObject(object: object): ExtData | null {
    const prototype = Object.getPrototypeOf(object);
    if (prototype === Object.prototype || prototype === Array.prototype || prototype === null) return null;
    if (object instanceof Tensor) return this.encodeTensor(object);
    if (object instanceof Uint8Array) {
      if (object.byteLength < SEGMENT_MIN_BYTES) return new ExtData(Ext.inlineBytes, object);
      return new ExtData(Ext.bytes, u32(this.segments.push(object) - 1));
    }
    if (object instanceof Error)
      return new ExtData(
        Ext.error,
        this.nested(() => describe(object, this.nesting < MAX_NESTING)),
      );
    if (object instanceof Date) return new ExtData(Ext.date, text.encode.encode(object.toJSON() ?? ""));
    const ref = this.hooks.encodeRef(object);
    if (ref !== undefined)
      return new ExtData(
        Ext.ref,
        this.nested(() => ref),
      );
    if (typeof object === "bigint") return encodeBigint(object);
    const name = (object as { constructor?: { name?: string } }).constructor?.name ?? typeof object;
    throw new ProtocolError(
      "UNENCODABLE",
      `a ${name} has no form on the wire; send plain objects, arrays, Uint8Array or Tensor`,
    );
  }

  private nested(data: () => unknown): Uint8Array {
    if (++this.nesting > MAX_NESTING) {
      throw new ProtocolError("UNENCODABLE", `errors or refs nest deeper than ${MAX_NESTING}`);
    }
    const bytes = this.encoder.encode(data());
    this.nesting--;
    return bytes;
  }

  private encodeTensor(tensor: Tensor): ExtData {
    const rank = tensor.shape.length;
    const data = new Uint8Array(6 + 4 * rank);
    const view = new DataView(data.buffer);
    view.setUint8(0, DTYPES.indexOf(tensor.dtype));
    view.setUint8(1, rank);
    view.setUint32(2, this.segments.push(tensor.bytes) - 1, true);
    for (let i = 0; i < rank; i++) view.setUint32(6 + 4 * i, tensor.shape[i]!, true);
    return new ExtData(Ext.tensor, data);
  }

  private decodeObject(data: Uint8Array, type: number): unknown {
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    switch (type) {
      case Ext.tensor:
        return this.decodeTensor(view);
      case Ext.bytes:
        if (data.byteLength !== 4) throw malformed("a byte string's reference is not 4 bytes");
        return this.segment(view.getUint32(0, true));
      case Ext.inlineBytes:
        return data.slice(); // the header is borrowed
      case Ext.bigint:
        return decodeBigint(data);
      case Ext.date:
        return new Date(text.decode.decode(data));
      case Ext.ref:
      case Ext.error: {
        if (++this.nesting > MAX_NESTING) throw malformed(`nests errors or refs deeper than ${MAX_NESTING}`);
        const plain = this.decodePart(data);
        this.nesting--;
        return type === Ext.ref ? this.hooks.decodeRef(plain) : revive(plain);
      }
      default:
        throw malformed(`holds the unknown extension ${type}`);
    }
  }

  private decodeTensor(view: DataView): Tensor {
    const rank = view.byteLength >= 6 ? view.getUint8(1) : 0;
    const dtype = view.byteLength >= 6 ? DTYPES[view.getUint8(0)] : undefined;
    if (!dtype || view.byteLength !== 6 + 4 * rank) throw malformed("holds a malformed tensor");
    const shape: number[] = [];
    for (let i = 0; i < rank; i++) shape.push(view.getUint32(6 + 4 * i, true));
    const bytes = this.segment(view.getUint32(2, true));
    if (bytes.byteLength !== byteLength(dtype, shape)) {
      throw malformed(`says ${dtype}[${shape.join(",")}] of a segment of ${bytes.byteLength} bytes`);
    }
    return new Tensor(dtype, shape, bytes);
  }

  private segment(index: number): Uint8Array {
    const segment = this.segments[index];
    if (!segment) throw malformed(`refers to segment ${index} of ${this.segments.length}`);
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
function encodeBigint(value: bigint): ExtData {
  return new ExtData(
    Ext.bigint,
    text.encode.encode(value < 0n ? `-${(-value).toString(16)}` : value.toString(16)),
  );
}

function decodeBigint(data: Uint8Array): bigint {
  const digits = text.decode.decode(data);
  if (!/^-?[0-9a-f]+$/.test(digits)) throw malformed("holds a malformed bigint");
  return digits.startsWith("-") ? -BigInt(`0x${digits.slice(1)}`) : BigInt(`0x${digits}`);
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
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
