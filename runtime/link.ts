/**
 * A link: everything between a pipe of bytes and messages. It shakes hands, frames, cuts and interleaves, spends
 * and gives back credit, and notices silence. One pipe is one generation of a link: it is never mended; what was
 * under way when it broke is lost, and both ends are told.
 *
 * Whatever a peer does wrong closes its link, with a `ProtocolError` that says what it was; the peer is told in the
 * link's last frame.
 */

import { type Allocate, Assembler, type InMessage } from "../protocols/assemble.ts";
import type { OutMessage } from "../protocols/chunk.ts";
import type { Codec } from "../protocols/codec.ts";
import {
  decodeGrants,
  encodeGrants,
  GRANT_BYTES,
  MOST_GRANTS,
  ReceiveWindow,
  SendWindow,
} from "../protocols/credit.ts";
import { EnvelopeCodec, NAME_BYTES } from "../protocols/envelope.ts";
import { ProtocolError } from "../protocols/errors.ts";
import { type FrameHeader, FrameKind, FrameReader, type FrameSink } from "../protocols/frame.ts";
import {
  decodeClose,
  encodeClose,
  Handshake,
  type HandshakeStep,
  type Identity,
} from "../protocols/handshake.ts";
import { HANDSHAKE_BYTES, type Limits } from "../protocols/limits.ts";
import { type Envelope, streamOf } from "../protocols/messages.ts";
import { ReadMeter } from "../protocols/pace.ts";
import type { Replays } from "../protocols/replays.ts";
import type { Clock, Timer } from "./clock.ts";
import { Detector, type Heartbeat } from "./detector.ts";
import { asError, LinkClosedByPeer, RuntimeError } from "./errors.ts";
import { timesOf } from "./times.ts";
import type { Pipe, PipeHandlers } from "./transports/transport.ts";
import { LinkWriter } from "./writer.ts";

export interface LinkOptions {
  readonly role: "initiator" | "responder";
  readonly self: Identity;
  readonly token: string | undefined;
  /** Fingerprint of the coordinator's certificate, where the token names it. */
  readonly coordinator?: string | undefined;
  /** A responder's memory of handshakes; one for all of a node's links. */
  readonly replays?: Replays | undefined;
  readonly nonce: Uint8Array;
  readonly clock: Clock;
  readonly limits: Limits;
  readonly heartbeat: Heartbeat;
  readonly codec: Codec;
  readonly allocate: Allocate;
}

export interface LinkHandlers {
  /** The handshake is over. Called synchronously before anything the peer sends afterwards. */
  onReady(peer: Identity): void;
  /** A message has come whole. `taken` gives its credit back; call it once. */
  onMessage(envelope: Envelope, taken: () => void): void;
  /** Called once, with the error, or with the words in which either side closed in good order. */
  onClosed(why: Error | string): void;
}

/** In a `close` frame: no complaint, the peer is leaving or does not need this link. */
export const GOODBYE = "GOODBYE";
const free = () => undefined;

export class Link implements PipeHandlers, FrameSink {
  readonly pipe: Pipe;
  private readonly options: LinkOptions;
  private readonly handlers: LinkHandlers;
  private readonly handshake: Handshake;
  private readonly reader: FrameReader;
  private readonly assembler: Assembler;
  private readonly writer: LinkWriter;
  private readonly envelopes: EnvelopeCodec;
  private readonly sendWindow: SendWindow;
  private readonly receiveWindow: ReceiveWindow;
  private detector: Detector;
  /** The pipe passes segments on as they are: they are not cut, and may be larger than a frame elsewhere. */
  private readonly wholeSegments: boolean;
  private readonly readMeter = new ReadMeter();
  private creditScheduled = false;
  /** How far the writer had come at the last heartbeat, and for how long it has not moved. */
  private moved = 0;
  private stalledMs = 0;
  private state: "handshake" | "ready" | "closed" = "handshake";
  private timer: Timer;

  constructor(pipe: Pipe, options: LinkOptions, handlers: LinkHandlers) {
    const { limits, clock } = options;
    this.pipe = pipe;
    this.options = options;
    this.handlers = handlers;
    this.handshake = new Handshake({ ...options, channel: () => pipe.channel });
    this.reader = new FrameReader(this);
    this.sendWindow = new SendWindow();
    this.receiveWindow = new ReceiveWindow(limits.windowBytes);
    this.assembler = new Assembler(limits, options.allocate, this.receiveWindow);
    this.wholeSegments = pipe.chunkBytes === Number.POSITIVE_INFINITY;
    this.writer = new LinkWriter({
      ...{ pipe, clock, window: this.sendWindow, queueBytes: limits.queueBytes },
      chunkBytes: this.wholeSegments ? pipe.chunkBytes : Math.min(pipe.chunkBytes, limits.frameBytes),
      onError: (error) => this.fail(asError(error)),
    });
    this.envelopes = new EnvelopeCodec(options.codec, limits.headerBytes, (name) =>
      this.writer.control(FrameKind.name, name),
    );
    this.detector = new Detector(options.heartbeat, clock.now());
    const { connectMs } = timesOf(options.heartbeat.patienceMs);
    const late = `${pipe.peer} did not finish the handshake in ${connectMs} ms`;
    this.timer = clock.setTimer(() => this.fail(new RuntimeError("LINK_SILENT", late)), connectMs);
    if (options.role === "initiator") {
      // In a microtask: a transport may hand out a pipe before it is willing to take bytes.
      queueMicrotask(() => this.writer.control(FrameKind.handshake, this.handshake.hello()));
    }
  }

  /**
   * Sends a message. Those to one actor keep their order; those with tensors take turns with other actors' and, if
   * they are replies, by `stream`; all others go first. Tensors of tells and replies belong to the receiver from
   * now on: on a pipe within one process their memory is gone when it was theirs alone. Those of an ask are lent.
   * @throws ProtocolError UNENCODABLE or LIMIT_EXCEEDED, RuntimeError MAILBOX_FULL, before anything is sent.
   */
  send(envelope: Envelope, stream: string): OutMessage | undefined {
    const encoded = this.envelopes.encode(envelope);
    if (this.state === "closed") return undefined;
    const pays = streamOf(envelope);
    if (pays > 0) {
      return this.writer.send(pays, encoded, this.wholeSegments && envelope.type === "tell");
    }
    if (encoded.segments.length > 0) return this.writer.send(stream, encoded, this.wholeSegments);
    try {
      this.writer.control(FrameKind.message, encoded.header);
    } catch (error) {
      this.fail(asError(error));
    }
    return undefined;
  }

  /** The sender needs the memory of its tensors back: what is unsent of them is dropped or copied. */
  cancel(message: OutMessage): void {
    this.writer.cancel(message);
  }

  /** Bytes of user messages the peer's actors have not begun to handle. */
  get outstandingBytes(): number {
    return this.sendWindow.outstanding;
  }

  /** Says why and closes, in good order. Messages that have not been written are lost. */
  close(message: string): void {
    this.shut(undefined, GOODBYE, message);
  }

  /** Closes with an error, which the peer is told. */
  fail(error: Error): void {
    const { code } = error as { code?: unknown };
    this.shut(error, typeof code === "string" ? code : "ERROR", error.message);
  }

  // --- from the pipe -------------------------------------------------------------------------------------------

  onData(bytes: Uint8Array, owned = false): void {
    this.detector.heard(this.options.clock.now());
    try {
      this.reader.feed(bytes, owned);
    } catch (error) {
      this.fail(asError(error));
    }
  }

  onDrain(): void {
    this.writer.drained();
  }

  onClose(error?: Error): void {
    if (this.state === "closed") return;
    try {
      this.reader.end();
      this.ended(error ?? new RuntimeError("NODE_LOST", `${this.pipe.peer} closed the connection`));
    } catch (truncated) {
      this.ended(error ?? asError(truncated));
    }
  }

  // --- from the frame reader -----------------------------------------------------------------------------------

  accept(frame: FrameHeader): void {
    const early = frame.kind === FrameKind.handshake || frame.kind === FrameKind.close;
    if (frame.kind !== FrameKind.close && early !== (this.state === "handshake")) {
      throw new ProtocolError(
        "UNEXPECTED_FRAME",
        `a frame of kind ${frame.kind} came in the state ${this.state}`,
      );
    }
    const most = this.mostBytes(frame.kind);
    if (frame.length > most) {
      throw new ProtocolError(
        "LIMIT_EXCEEDED",
        `the body of a frame: at most ${most} bytes, got ${frame.length}`,
      );
    }
    if (frame.kind === FrameKind.chunk) this.assembler.expect(frame);
  }

  place(frame: FrameHeader): Uint8Array | null {
    return frame.kind === FrameKind.chunk ? this.assembler.place(frame) : null;
  }

  adopt(frame: FrameHeader, piece: Uint8Array): boolean {
    return frame.kind === FrameKind.chunk && this.assembler.adopt(frame, piece);
  }

  complete(frame: FrameHeader, bytes: Uint8Array, at: number): void {
    const end = at + frame.length;
    switch (frame.kind) {
      case FrameKind.message: {
        const stream = frame.chunk;
        const cost = stream === 0 ? 0 : this.receiveWindow.receive(stream, frame.length);
        this.deliver(this.envelopes.decode(bytes, undefined, at, end), stream, cost);
        break;
      }
      case FrameKind.head:
        this.assembled(this.assembler.begin(frame, bytes.subarray(at, end)));
        break;
      case FrameKind.chunk: {
        // What is passed on whole is in nobody's way: nothing has to be paced.
        const due = this.wholeSegments ? 0 : this.readMeter.read(frame.length);
        if (due > 0) this.writer.control(FrameKind.read, undefined, due);
        this.assembled(this.assembler.filled(frame));
        break;
      }
      case FrameKind.read:
        this.writer.read(frame.message);
        break;
      case FrameKind.credit:
        this.refund(bytes.subarray(at, end));
        break;
      case FrameKind.name:
        this.envelopes.named(bytes.subarray(at, end));
        break;
      case FrameKind.ping:
        this.writer.control(FrameKind.pong);
        break;
      case FrameKind.pong:
        break;
      case FrameKind.close:
        this.closedByPeer(bytes.subarray(at, end));
        break;
      case FrameKind.handshake:
        this.advance(this.handshake.receive(bytes.slice(at, end)));
    }
  }

  private mostBytes(kind: FrameKind): number {
    const { limits } = this.options;
    if (kind === FrameKind.handshake || kind === FrameKind.close) return HANDSHAKE_BYTES;
    if (kind === FrameKind.message) return limits.headerBytes;
    if (kind === FrameKind.head) return limits.headerBytes + 4 + 8 * limits.segments;
    if (kind === FrameKind.chunk) return this.wholeSegments ? limits.messageBytes : limits.frameBytes;
    if (kind === FrameKind.name) return NAME_BYTES;
    return kind === FrameKind.credit ? MOST_GRANTS * GRANT_BYTES : 0;
  }

  private advance(step: HandshakeStep): void {
    if (step.send) this.writer.control(FrameKind.handshake, step.send);
    if (step.done && step.peer) {
      const { clock, heartbeat } = this.options;
      this.state = "ready";
      clock.clearTimer(this.timer);
      this.detector = new Detector(heartbeat, clock.now());
      this.beatLater();
      this.writer.control(FrameKind.credit, encodeGrants([0, this.receiveWindow.bytes]));
      this.handlers.onReady(step.peer);
    }
  }

  private assembled(message: InMessage | undefined): void {
    if (!message) return;
    const { header, segments, stream, cost } = message;
    this.deliver(this.envelopes.decode(header, segments), stream, cost);
  }

  /** @throws ProtocolError MALFORMED_HEADER, or BAD_CREDIT when it was charged to somebody else or to nobody. */
  private deliver(envelope: Envelope, stream: number, cost: number): void {
    const pays = streamOf(envelope);
    if (pays !== stream) {
      throw new ProtocolError(
        "BAD_CREDIT",
        `a message "${envelope.type}" is charged to the stream ${pays}, not ${stream}`,
      );
    }
    this.handlers.onMessage(envelope, cost === 0 ? free : () => this.taken(stream, cost));
    if (cost > 0) this.giveCredit();
  }

  private taken(stream: number, cost: number): void {
    if (this.state === "closed") return;
    this.receiveWindow.release(stream, cost);
    this.giveCredit();
  }

  /** In a microtask, so that what is taken in one go costs one frame. */
  private giveCredit(): void {
    if (this.creditScheduled || !this.receiveWindow.isDue) return;
    this.creditScheduled = true;
    queueMicrotask(() => {
      this.creditScheduled = false;
      this.guarded(() => {
        while (this.state === "ready" && this.receiveWindow.isDue) {
          this.writer.control(FrameKind.credit, encodeGrants(this.receiveWindow.grants(MOST_GRANTS)));
        }
      });
    });
  }

  private refund(body: Uint8Array): void {
    const grants = decodeGrants(body);
    for (let i = 0; i < grants.length; i += 2) {
      const stream = grants[i]!;
      const bytes = grants[i + 1]!;
      if (stream > 0) this.writer.refund(stream, bytes);
      else {
        this.sendWindow.open(bytes);
        this.writer.opened();
      }
    }
  }

  /** Milliseconds since the last sign of life. */
  readonly silentMs = (): number => this.detector.silence(this.options.clock.now());

  private closedByPeer(body: Uint8Array): void {
    const { code, message } = decodeClose(body);
    const told = `${this.pipe.peer} closed the link: ${message}`;
    this.ended(code === GOODBYE ? message : new LinkClosedByPeer(code, told));
    this.pipe.close();
  }

  private beatLater(): void {
    const ms = this.detector.dueMs;
    this.timer = this.options.clock.setTimer(() => this.beat(ms), ms);
  }

  private beat(ms: number): void {
    const verdict = this.detector.check(this.options.clock.now());
    const silent = this.pipe.reportsDeath ? undefined : this.silence(verdict === "silent", ms);
    if (silent !== undefined) {
      this.fail(new RuntimeError("LINK_SILENT", `${this.pipe.peer} has ${silent} ms`));
      return;
    }
    if (verdict === "ask") this.writer.control(FrameKind.ping);
    this.beatLater();
  }

  /**
   * What to give the peer up for, in words. It may be heard and yet not read: what waits for it would wait for good. That is
   * counted in heartbeats in which it was heard, as long as they should be: one that stands still reads nothing either, nor
   * may this node have seen it while it stood still itself.
   */
  private silence(isSilent: boolean, ms: number): string | undefined {
    const { patienceMs } = this.options.heartbeat;
    const stalled = this.writer.isBlocked && this.writer.progress === this.moved;
    this.moved = this.writer.progress;
    if (!stalled) this.stalledMs = 0;
    else if (this.silentMs() <= ms) this.stalledMs += ms;
    if (isSilent) return `been silent for ${Math.round(this.silentMs())}`;
    return this.stalledMs < patienceMs ? undefined : `read nothing for ${patienceMs}`;
  }

  // --- the end -------------------------------------------------------------------------------------------------

  private guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.fail(asError(error));
    }
  }

  private shut(error: Error | undefined, code: string, message: string): void {
    if (this.state === "closed") return;
    this.writer.finish(FrameKind.close, encodeClose(code, message.slice(0, 2000)));
    this.ended(error ?? message);
    this.pipe.close(error);
  }

  private ended(why: Error | string): void {
    this.state = "closed";
    this.reader.stop();
    this.assembler.clear();
    this.writer.stop();
    this.options.clock.clearTimer(this.timer);
    this.handlers.onClosed(why);
  }
}
