/**
 * A link: everything between a pipe of bytes and messages. It shakes hands, frames, cuts and interleaves, spends
 * and gives back credit, and notices silence. One pipe is one generation of a link: it is never mended; what was
 * under way when it broke is lost, and both ends are told.
 *
 * Whatever a peer does wrong closes its link, with a `ProtocolError` that says what it was; the peer is told the
 * code and message in the link's last frame.
 */

import { type Allocate, Assembler, type InMessage, type OutMessage } from "../protocols/chunk.ts";
import type { Codec } from "../protocols/codec.ts";
import { ReceiveWindow, SendWindow } from "../protocols/credit.ts";
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
import { type Envelope, fromWire, isCharged, toWire } from "../protocols/messages.ts";
import type { Replays } from "../protocols/replays.ts";
import type { Clock, Timer } from "./clock.ts";
import { Detector, type Heartbeat } from "./detector.ts";
import { asError, LinkClosedByPeer, RuntimeError } from "./errors.ts";
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
const HANDSHAKE_TIMEOUT_MS = 10_000;

export class Link implements PipeHandlers, FrameSink {
  readonly pipe: Pipe;
  private readonly options: LinkOptions;
  private readonly handlers: LinkHandlers;
  private readonly handshake: Handshake;
  private readonly reader: FrameReader;
  private readonly assembler: Assembler;
  private readonly writer: LinkWriter;
  private readonly sendWindow: SendWindow;
  private readonly receiveWindow: ReceiveWindow;
  private readonly detector: Detector;
  private state: "handshake" | "ready" | "closed" = "handshake";
  private timer: Timer;

  constructor(pipe: Pipe, options: LinkOptions, handlers: LinkHandlers) {
    const { limits, clock } = options;
    this.pipe = pipe;
    this.options = options;
    this.handlers = handlers;
    this.handshake = new Handshake({ ...options, channel: () => pipe.channel });
    this.reader = new FrameReader(this, HANDSHAKE_BYTES + limits.frameBytes);
    this.sendWindow = new SendWindow(limits.windowBytes);
    this.receiveWindow = new ReceiveWindow(limits.windowBytes);
    this.assembler = new Assembler(limits, options.allocate, (cost) => this.receiveWindow.receive(cost));
    this.writer = new LinkWriter(pipe, Math.min(pipe.chunkBytes, limits.frameBytes), this.sendWindow);
    this.detector = new Detector(options.heartbeat, clock.now());
    this.timer = clock.setTimer(() => {
      this.fail(
        new RuntimeError(
          "LINK_SILENT",
          `${pipe.peer} did not finish the handshake in ${HANDSHAKE_TIMEOUT_MS} ms`,
        ),
      );
    }, HANDSHAKE_TIMEOUT_MS);
    if (options.role === "initiator") {
      // In a microtask: a transport may hand out a pipe before it is willing to take bytes.
      queueMicrotask(() => this.writer.control(FrameKind.handshake, this.handshake.hello()));
    }
  }

  /**
   * Sends a message. Those with tensors and those that spend credit take turns by `stream`; all others go first.
   * @throws ProtocolError UNENCODABLE or LIMIT_EXCEEDED, RuntimeError MAILBOX_FULL, before anything is sent.
   */
  send(envelope: Envelope, stream: string): OutMessage | undefined {
    const encoded = this.options.codec.encode(toWire(envelope));
    if (this.state === "closed") return undefined;
    const charged = isCharged(envelope);
    if (!charged && encoded.segments.length === 0) {
      this.writer.control(FrameKind.message, encoded.header);
      return undefined;
    }
    return this.writer.send(stream, encoded, charged);
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

  onData(bytes: Uint8Array): void {
    this.detector.heard(this.options.clock.now());
    this.guarded(() => this.reader.feed(bytes));
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
  }

  place(frame: FrameHeader): Uint8Array | null {
    return frame.kind === FrameKind.chunk ? this.assembler.place(frame) : null;
  }

  complete(frame: FrameHeader, body: Uint8Array): void {
    switch (frame.kind) {
      case FrameKind.message:
        this.deliver(this.assembler.whole(frame, body));
        break;
      case FrameKind.head:
        this.deliver(this.assembler.begin(frame, body));
        break;
      case FrameKind.chunk:
        this.deliver(this.assembler.filled(frame));
        break;
      case FrameKind.credit:
        this.refund(body);
        break;
      case FrameKind.ping:
        this.writer.control(FrameKind.pong);
        break;
      case FrameKind.pong:
        break;
      case FrameKind.close:
        this.closedByPeer(body);
        break;
      case FrameKind.handshake:
        this.advance(this.handshake.receive(body));
    }
  }

  private mostBytes(kind: FrameKind): number {
    const { limits } = this.options;
    if (kind === FrameKind.handshake || kind === FrameKind.close) return HANDSHAKE_BYTES;
    if (kind === FrameKind.message) return limits.headerBytes;
    if (kind === FrameKind.head) return limits.headerBytes + 4 + 8 * limits.segments;
    if (kind === FrameKind.chunk) return limits.frameBytes;
    return kind === FrameKind.credit ? 8 : 0;
  }

  private advance(step: HandshakeStep): void {
    if (step.send) this.writer.control(FrameKind.handshake, step.send);
    if (step.done && step.peer) {
      const { clock, heartbeat } = this.options;
      this.state = "ready";
      clock.clearTimer(this.timer);
      this.timer = clock.setTimer(this.beat, heartbeat.intervalMs);
      this.handlers.onReady(step.peer);
    }
  }

  private deliver(message: InMessage | undefined): void {
    if (!message) return;
    const envelope = fromWire(this.options.codec.decode(message.header, message.segments));
    this.handlers.onMessage(envelope, () => this.taken(message.cost));
  }

  private taken(cost: number): void {
    if (cost === 0 || this.state === "closed") return;
    const grant = this.receiveWindow.release(cost);
    if (grant === 0) return;
    const body = new Uint8Array(8);
    new DataView(body.buffer).setBigUint64(0, BigInt(grant), true);
    this.writer.control(FrameKind.credit, body);
  }

  private refund(body: Uint8Array): void {
    if (body.byteLength !== 8) throw new ProtocolError("BAD_CREDIT", "a credit frame has 8 bytes");
    this.sendWindow.refund(Number(new DataView(body.buffer, body.byteOffset).getBigUint64(0, true)));
    this.writer.schedule();
  }

  private closedByPeer(body: Uint8Array): void {
    const { code, message } = decodeClose(body);
    const told = `${this.pipe.peer} closed the link: ${message}`;
    this.ended(code === GOODBYE ? message : new LinkClosedByPeer(code, told));
    this.pipe.close();
  }

  private readonly beat = (): void => {
    const { clock, heartbeat } = this.options;
    const verdict = this.detector.check(clock.now());
    if (verdict === "silent") {
      this.fail(
        new RuntimeError("LINK_SILENT", `${this.pipe.peer} has been silent for ${heartbeat.patienceMs} ms`),
      );
      return;
    }
    if (verdict === "ask") this.writer.control(FrameKind.ping);
    this.timer = clock.setTimer(this.beat, heartbeat.intervalMs);
  };

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
    this.writer.stop();
    this.options.clock.clearTimer(this.timer);
    this.handlers.onClosed(why);
  }
}
