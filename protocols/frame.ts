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
 * received piece straight into that place; any other body is handed over in place when a piece holds it whole,
 * and is gathered first when it does not.
 */

import { ProtocolError } from "./errors.ts";

export const MAGIC = 0x5254;
/** Raised whenever an older peer could misread what a newer one sends. */
export const PROTOCOL_VERSION = 1;
export const FRAME_HEADER_BYTES = 16;

export const FrameKind = {
  /** A step of the handshake; msgpack. The only kind allowed, beside `close`, before the link is ready. */
  handshake: 1,
  /** A whole message without segments; msgpack. */
  message: 2,
  /** The beginning of a message with segments: u32 count, count × u64 lengths in bytes, msgpack header. */
  head: 3,
  /** A piece of one segment of a message that has begun. */
  chunk: 4,
  /** Bytes of credit given back; u64. */
  credit: 5,
  /** Are you there; no body. */
  ping: 6,
  /** I am; no body. */
  pong: 7,
  /** Why the sender closes the link; msgpack [code, message]. The last frame of a link. */
  close: 8,
} as const;
export type FrameKind = (typeof FrameKind)[keyof typeof FrameKind];
const LAST_KIND = FrameKind.close;

export interface FrameHeader {
  readonly kind: FrameKind;
  /** Bytes of the body. */
  readonly length: number;
  readonly message: number;
  readonly chunk: number;
}

/** Writes a frame header at `offset`; sixteen bytes. */
export function writeFrameHeader(view: DataView, offset: number, frame: FrameHeader): void {
  view.setUint16(offset, MAGIC, true);
  view.setUint8(offset + 2, PROTOCOL_VERSION);
  view.setUint8(offset + 3, frame.kind);
  view.setUint32(offset + 4, frame.length, true);
  view.setUint32(offset + 8, frame.message, true);
  view.setUint32(offset + 12, frame.chunk, true);
}

/** A whole frame in memory of its own. For small bodies; chunks are written beside their header, not copied. */
export function encodeFrame(
  kind: FrameKind,
  body: Uint8Array = new Uint8Array(0),
  message = 0,
  chunk = 0,
): Uint8Array {
  const bytes = new Uint8Array(FRAME_HEADER_BYTES + body.byteLength);
  writeFrameHeader(new DataView(bytes.buffer), 0, { kind, length: body.byteLength, message, chunk });
  bytes.set(body, FRAME_HEADER_BYTES);
  return bytes;
}

/** Who is told about frames. It may throw a ProtocolError, which `feed` passes on. */
export interface FrameSink {
  /** Called for every header, before any of its body is kept. Throws if such a frame may not come now. */
  accept(frame: FrameHeader): void;
  /**
   * Where the body of a chunk belongs: memory of exactly `frame.length` bytes, which the reader fills. `null`
   * for a body without a place of its own.
   */
  place(frame: FrameHeader): Uint8Array | null;
  /** A body is complete. If `place` gave memory, `body` is that; otherwise it is borrowed for this call. */
  complete(frame: FrameHeader, body: Uint8Array): void;
}

const EMPTY = new Uint8Array(0);

export class FrameReader {
  private readonly sink: FrameSink;
  private readonly head = new Uint8Array(FRAME_HEADER_BYTES);
  private readonly headView = new DataView(this.head.buffer);
  private headFilled = 0;
  private frame: FrameHeader | null = null;
  private body: Uint8Array = EMPTY;
  private bodyFilled = 0;
  private stopped = false;
  private paused = false;
  private readonly held: Uint8Array[] = [];
  private heldBytes = 0;
  private readonly maxHeldBytes: number;

  /** @param maxHeldBytes how much may come while the reader is paused. */
  constructor(sink: FrameSink, maxHeldBytes: number) {
    this.sink = sink;
    this.maxHeldBytes = maxHeldBytes;
  }

  /** Delivers no further frame until `resume`; what comes meanwhile is kept. For a step that takes time. */
  pause(): void {
    this.paused = true;
  }

  /** @throws as `feed` does. */
  resume(): void {
    this.paused = false;
    this.heldBytes = 0;
    const pieces = this.held.splice(0);
    for (const piece of pieces) this.feed(piece);
  }

  /** Ignores whatever else is fed: the link is closing. */
  stop(): void {
    this.stopped = true;
    this.frame = null;
    this.body = EMPTY;
  }

  /** @throws ProtocolError at the first violation; the reader is of no use afterwards. */
  feed(piece: Uint8Array): void {
    let at = 0;
    while (at < piece.byteLength && !this.stopped) {
      if (this.paused) {
        this.hold(piece.slice(at));
        return;
      }
      if (this.frame) at = this.gather(this.frame, piece, at);
      else if (this.headFilled === 0 && piece.byteLength - at >= FRAME_HEADER_BYTES) {
        const view = new DataView(piece.buffer, piece.byteOffset + at, FRAME_HEADER_BYTES);
        at = this.begin(parseHeader(view), piece, at + FRAME_HEADER_BYTES);
      } else {
        const take = Math.min(FRAME_HEADER_BYTES - this.headFilled, piece.byteLength - at);
        this.head.set(piece.subarray(at, at + take), this.headFilled);
        this.headFilled += take;
        at += take;
        if (this.headFilled < FRAME_HEADER_BYTES) return;
        this.headFilled = 0;
        at = this.begin(parseHeader(this.headView), piece, at);
      }
    }
  }

  /** The pipe has ended. @throws ProtocolError when it ended inside a frame. */
  end(): void {
    if (this.stopped || (!this.frame && this.headFilled === 0)) return;
    const what = this.frame
      ? `${this.bodyFilled} of ${this.frame.length} bytes of a body`
      : `${this.headFilled} of ${FRAME_HEADER_BYTES} bytes of a frame header`;
    throw new ProtocolError("TRUNCATED", `the pipe ended after ${what}`);
  }

  private hold(piece: Uint8Array): void {
    this.heldBytes += piece.byteLength;
    if (this.heldBytes > this.maxHeldBytes) {
      throw new ProtocolError(
        "LIMIT_EXCEEDED",
        `at most ${this.maxHeldBytes} bytes may come before the handshake is over, got ${this.heldBytes}`,
      );
    }
    this.held.push(piece);
  }

  private begin(frame: FrameHeader, piece: Uint8Array, at: number): number {
    this.sink.accept(frame);
    const place = this.sink.place(frame);
    if (!place && piece.byteLength - at >= frame.length) {
      this.sink.complete(frame, piece.subarray(at, at + frame.length));
      return at + frame.length;
    }
    this.frame = frame;
    this.body = place ?? new Uint8Array(frame.length);
    this.bodyFilled = 0;
    return this.gather(frame, piece, at);
  }

  private gather(frame: FrameHeader, piece: Uint8Array, at: number): number {
    const take = Math.min(frame.length - this.bodyFilled, piece.byteLength - at);
    const whole = at === 0 && take === piece.byteLength;
    this.body.set(whole ? piece : piece.subarray(at, at + take), this.bodyFilled);
    this.bodyFilled += take;
    if (this.bodyFilled === frame.length) {
      const body = this.body;
      this.frame = null;
      this.body = EMPTY;
      this.sink.complete(frame, body);
    }
    return at + take;
  }
}

function parseHeader(view: DataView): FrameHeader {
  const magic = view.getUint16(0, true);
  if (magic !== MAGIC) {
    throw new ProtocolError(
      "BAD_MAGIC",
      `expected a frame (magic 0x${MAGIC.toString(16)}), got 0x${magic.toString(16).padStart(4, "0")}`,
    );
  }
  const version = view.getUint8(2);
  if (version !== PROTOCOL_VERSION) throw versionMismatch(version);
  const kind = view.getUint8(3);
  if (kind < 1 || kind > LAST_KIND) {
    throw new ProtocolError("UNEXPECTED_FRAME", `frame kinds are 1 to ${LAST_KIND}, got ${kind}`);
  }
  return {
    kind: kind as FrameKind,
    length: view.getUint32(4, true),
    message: view.getUint32(8, true),
    chunk: view.getUint32(12, true),
  };
}

export function versionMismatch(theirs: number): ProtocolError {
  return new ProtocolError(
    "VERSION_MISMATCH",
    `this node speaks version ${PROTOCOL_VERSION} of the protocol, the other end version ${theirs}`,
  );
}
