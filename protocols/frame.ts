/**
 * Frames: how messages are told apart on an ordered pipe of bytes. Every transport is such a pipe, so there is
 * one frame format for all of them. A frame is sixteen bytes of header, little-endian, then the body:
 *
 *     offset 0  u16  magic 0x5254 ("TR")
 *            2  u8   protocol version
 *            3  u8   kind
 *            4  u32  length of the body in bytes
 *            8  u32  message id: which message of this link and direction a header or chunk belongs to
 *           12  u32  chunk number within the message, from 0
 *
 * The reader is fed pieces of any size. A body with a known place (a chunk of a tensor) is copied once, from the
 * received piece straight into that place, or not at all when the piece is exactly that body and ours to keep;
 * any other body is handed over in place when a piece holds it whole, and is gathered first when it does not.
 * Memory for a body is asked for when its first byte has come, not when its header claims it.
 */

import { ProtocolError } from "./errors.ts";

export const MAGIC = 0x5254;
/** Raised whenever an older peer could misread what a newer one sends. */
export const PROTOCOL_VERSION = 3;
export const FRAME_HEADER_BYTES = 16;

/** What a frame is for, by the number in its header. */
export const FrameKind = {
  /** A step of the handshake; msgpack. The only kind allowed, beside `close`, before the link is ready. */
  handshake: 1,
  /** A whole message without segments; see `envelope.ts`. */
  message: 2,
  /** The beginning of a message with segments: u32 count, count × u64 lengths in bytes, the message. */
  head: 3,
  /** A piece of one segment of a message that has begun. */
  chunk: 4,
  /** Credit: first the size of the window, then what is given back; see `credit.ts`. */
  credit: 5,
  /** Are you there; no body. */
  ping: 6,
  /** I am; no body. */
  pong: 7,
  /** Why the sender closes the link; msgpack [code, message]. The last frame of a link. */
  close: 8,
  /** So many bytes of chunks have been read since the last one, in the message field; no body. See `pace.ts`. */
  read: 9,
  /** The name of a method, UTF-8: what the next number stands for. See `envelope.ts`. */
  name: 10,
} as const;
/** One of the numbers above. */
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];
const LAST_KIND = FrameKind.name;

/** The header of a frame, without magic and version, which are always the same. */
export interface FrameHeader {
  /** What the body is. */
  readonly kind: FrameKind;
  /** Bytes of the body. */
  readonly length: number;
  /** Of a head or chunk the message it belongs to, counted for each link and direction. */
  readonly message: number;
  /** Of a chunk its number; of a `message` or `head` the stream that pays for it, 0 if it is free. */
  readonly chunk: number;
}

/** Writes a frame header at `offset`; sixteen bytes. */
export function writeFrameHeader(
  view: DataView,
  offset: number,
  kind: FrameKind,
  length: number,
  message: number,
  chunk: number,
): void {
  view.setUint16(offset, MAGIC, true);
  view.setUint8(offset + 2, PROTOCOL_VERSION);
  view.setUint8(offset + 3, kind);
  view.setUint32(offset + 4, length, true);
  view.setUint32(offset + 8, message, true);
  view.setUint32(offset + 12, chunk, true);
}

/** A whole frame in memory of its own. For small bodies; chunks are written beside their header, not copied. */
export function encodeFrame(
  kind: FrameKind,
  body: Uint8Array = new Uint8Array(0),
  message = 0,
  chunk = 0,
): Uint8Array {
  const bytes = new Uint8Array(FRAME_HEADER_BYTES + body.byteLength);
  writeFrameHeader(new DataView(bytes.buffer), 0, kind, body.byteLength, message, chunk);
  bytes.set(body, FRAME_HEADER_BYTES);
  return bytes;
}

/**
 * Who is told about frames. It may throw a ProtocolError, which `feed` passes on. Frames are borrowed: the reader
 * uses the same object for the next one.
 */
export interface FrameSink {
  /** Called for every header, before any of its body is kept. Throws if such a frame may not come now. */
  accept(frame: FrameHeader): void;
  /**
   * The first byte of a body has come. Where does it belong: memory of exactly `frame.length` bytes, which the
   * reader fills? `null` for a body without a place of its own.
   */
  place(frame: FrameHeader): Uint8Array | null;
  /** The piece is the body, whole, and the receiver's to keep. Returns whether it is kept. */
  adopt(frame: FrameHeader, piece: Uint8Array): boolean;
  /** A body is complete. If it had a place or was adopted it is there; else it is `bytes[at, at + length)`, borrowed. */
  complete(frame: FrameHeader, bytes: Uint8Array, at: number): void;
}

const EMPTY = new Uint8Array(0);

class Header implements FrameHeader {
  kind: FrameKind = FrameKind.ping;
  length = 0;
  message = 0;
  chunk = 0;

  /** @throws ProtocolError BAD_MAGIC, VERSION_MISMATCH, UNEXPECTED_FRAME. */
  read(bytes: Uint8Array, at: number): void {
    const magic = bytes[at]! | (bytes[at + 1]! << 8);
    if (magic !== MAGIC) {
      throw new ProtocolError(
        "BAD_MAGIC",
        `expected a frame (magic 0x${MAGIC.toString(16)}), got 0x${magic.toString(16).padStart(4, "0")}`,
      );
    }
    const version = bytes[at + 2]!;
    if (version !== PROTOCOL_VERSION) throw versionMismatch(version);
    const kind = bytes[at + 3]!;
    if (kind < 1 || kind > LAST_KIND) {
      throw new ProtocolError("UNEXPECTED_FRAME", `frame kinds are 1 to ${LAST_KIND}, got ${kind}`);
    }
    this.kind = kind as FrameKind;
    this.length = readUint32(bytes, at + 4);
    this.message = readUint32(bytes, at + 8);
    this.chunk = readUint32(bytes, at + 12);
  }
}

/** Finds the frames in a stream of bytes that comes in pieces of any size. A link owns one. */
export class FrameReader {
  private readonly sink: FrameSink;
  private readonly head = new Uint8Array(FRAME_HEADER_BYTES);
  private headFilled = 0;
  private readonly frame = new Header();
  /** A header has come, and its body not yet or not all of it. */
  private inBody = false;
  /** Where the body is being gathered; null until its first byte has come. */
  private body: Uint8Array | null = null;
  private bodyFilled = 0;
  private stopped = false;

  /** `sink` is told of every frame, within `feed`. */
  constructor(sink: FrameSink) {
    this.sink = sink;
  }

  /** Ignores whatever else is fed: the link is closing. */
  stop(): void {
    this.stopped = true;
    this.inBody = false;
    this.body = null;
  }

  /**
   * Takes the next bytes of the pipe, borrowed, and tells the sink what they complete.
   * @param owned `piece` is the receiver's to keep.
   * @throws ProtocolError at the first violation; the reader is of no use afterwards.
   */
  feed(piece: Uint8Array, owned = false): void {
    let at = 0;
    while (at < piece.byteLength && !this.stopped) {
      if (this.inBody) at = this.gather(piece, at, owned);
      else if (this.headFilled === 0 && piece.byteLength - at >= FRAME_HEADER_BYTES) {
        this.frame.read(piece, at);
        at += FRAME_HEADER_BYTES;
        this.begin();
      } else {
        const take = Math.min(FRAME_HEADER_BYTES - this.headFilled, piece.byteLength - at);
        this.head.set(piece.subarray(at, at + take), this.headFilled);
        this.headFilled += take;
        at += take;
        if (this.headFilled < FRAME_HEADER_BYTES) return;
        this.headFilled = 0;
        this.frame.read(this.head, 0);
        this.begin();
      }
    }
  }

  /** The pipe has ended. @throws ProtocolError when it ended inside a frame. */
  end(): void {
    if (this.stopped || (!this.inBody && this.headFilled === 0)) return;
    const what = this.inBody
      ? `${this.bodyFilled} of ${this.frame.length} bytes of a body`
      : `${this.headFilled} of ${FRAME_HEADER_BYTES} bytes of a frame header`;
    throw new ProtocolError("TRUNCATED", `the pipe ended after ${what}`);
  }

  /** A header has come whole. */
  private begin(): void {
    const { frame } = this;
    this.sink.accept(frame);
    if (frame.length === 0) this.sink.complete(frame, EMPTY, 0);
    else this.inBody = true;
  }

  /** Takes what a piece has of the body. @returns where the rest of the piece begins. */
  private gather(piece: Uint8Array, at: number, owned: boolean): number {
    const { frame, sink } = this;
    if (!this.body) {
      if (owned && at === 0 && piece.byteLength === frame.length && sink.adopt(frame, piece)) {
        this.inBody = false;
        sink.complete(frame, piece, 0);
        return frame.length;
      }
      const place = sink.place(frame);
      if (!place && piece.byteLength - at >= frame.length) {
        this.inBody = false;
        const { length } = frame;
        sink.complete(frame, piece, at);
        return at + length;
      }
      this.body = place ?? new Uint8Array(frame.length);
      this.bodyFilled = 0;
    }
    const take = Math.min(frame.length - this.bodyFilled, piece.byteLength - at);
    const whole = at === 0 && take === piece.byteLength;
    this.body.set(whole ? piece : piece.subarray(at, at + take), this.bodyFilled);
    this.bodyFilled += take;
    if (this.bodyFilled === frame.length) {
      const { body } = this;
      this.inBody = false;
      this.body = null;
      this.bodyFilled = 0;
      sink.complete(frame, body, 0);
    }
    return at + take;
  }
}

/** Little-endian; cheaper than a view that serves once. */
export function readUint32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

export function versionMismatch(theirs: number): ProtocolError {
  return new ProtocolError(
    "VERSION_MISMATCH",
    `this node speaks version ${PROTOCOL_VERSION} of the protocol, the other end version ${theirs}`,
  );
}
