/**
 * One WebRTC connection, from the first signal to its end: a peer connection with one ordered, reliable data channel,
 * which becomes a pipe once it is open.
 */

import type { Clock, Timer } from "../../clock.ts";
import { asError, RuntimeError } from "../../errors.ts";
import { CAPACITY_BYTES, MessagePipe, POLL_MS } from "../message_pipe.ts";
import { nodeAddress } from "../node_address.ts";
import type { Pipe, PipeHandlers } from "../transport.ts";
import { channelOf, type RtcSignal } from "./signals.ts";

/** How long opening may take, with candidates of servers far away. */
export const PATIENCE_MS = 15_000;
/** On a line of 10 Mbit/s a chunk takes 13 ms, which is what a control message may wait. */
const CHUNK_BYTES = 16 * 1024;
/** The most bytes of a message that an end accepts that says nothing about it (RFC 8841, 6). */
const MESSAGE_BYTES = 64 * 1024;
/**
 * The text message that ends a pipe: whoever gets it closes the channel. Closing the channel where its sender is
 * would lose what @roamhq/wrtc has not sent yet (up to 2 MiB beyond `bufferedAmount`).
 */
const END = "end";

export interface AttemptOptions {
  readonly connection: RTCPeerConnection;
  readonly clock: Clock;
  readonly id: string;
  /** The node at the other end. */
  readonly other: string;
  readonly via: string;
  send(signal: RtcSignal): void;
  /** The channel is open. */
  handlers(pipe: Pipe): PipeHandlers;
  /** Everything is released. */
  release(): void;
}

export class Attempt {
  readonly via: string;
  readonly other: string;
  /** The open pipe, or why there is none. */
  readonly opened = Promise.withResolvers<Pipe>();
  private readonly options: AttemptOptions;
  private readonly timer: Timer;
  /** Candidates that came before the description they belong to. */
  private early: RTCIceCandidateInit[] | undefined = [];
  private pipe: MessagePipe | undefined;
  private over = false;

  constructor(options: AttemptOptions) {
    const { connection, clock, other } = options;
    this.options = options;
    this.via = options.via;
    this.other = other;
    this.opened.promise.catch(() => undefined); // the accepting side has nobody who waits
    connection.onicecandidate = ({ candidate }) => {
      if (candidate) this.say("candidate", JSON.stringify(candidate.toJSON()));
    };
    connection.onconnectionstatechange = () => {
      if (connection.connectionState === "failed") this.end("the connection failed: no way for its packets");
    };
    this.timer = clock.setTimer(() => this.end(`no connection within ${PATIENCE_MS} ms`), PATIENCE_MS);
  }

  /** Offers a connection with a channel. */
  call(): void {
    const { connection } = this.options;
    this.adopt(connection.createDataChannel("troupe", { ordered: true }));
    this.guarded(async () => {
      await connection.setLocalDescription(await connection.createOffer());
      this.say("offer", connection.localDescription!.sdp);
    });
  }

  /** Answers an offer. */
  answer(sdp: string): void {
    const { connection } = this.options;
    connection.ondatachannel = ({ channel }) => this.adopt(channel);
    this.guarded(async () => {
      await connection.setRemoteDescription({ type: "offer", sdp });
      await connection.setLocalDescription(await connection.createAnswer());
      this.say("answer", connection.localDescription!.sdp);
      await this.described();
    });
  }

  receive({ kind, text }: RtcSignal): void {
    const { connection } = this.options;
    if (kind === "refuse") {
      this.fail(new RuntimeError("CONNECT_FAILED", `cannot connect to webrtc://${this.other}: ${text}`));
    } else if (kind === "answer") {
      this.guarded(async () => {
        await connection.setRemoteDescription({ type: "answer", sdp: text });
        await this.described();
      });
    } else if (kind === "candidate") {
      this.guarded(async () => {
        const candidate = JSON.parse(text) as RTCIceCandidateInit;
        if (this.early) this.early.push(candidate);
        else await connection.addIceCandidate(candidate);
      });
    }
  }

  /** The way of the signals is lost: an open connection does not need it any more. */
  lost(): void {
    if (!this.pipe) this.end(`the connection to ${this.via} is lost, which passed on its signals`);
  }

  /** Ends it and tells the other end why. */
  end(why: string): void {
    if (this.over) return;
    if (!this.pipe) this.say("refuse", why);
    const address = nodeAddress("webrtc", this.other);
    const error = this.pipe
      ? new RuntimeError("NODE_LOST", `${address}: ${why}`, { node: this.other })
      : new RuntimeError("CONNECT_FAILED", `cannot connect to ${address}: ${why}`, { node: this.other });
    this.fail(error);
  }

  private say(kind: RtcSignal["kind"], text: string): void {
    this.options.send({ kind, attempt: this.options.id, text });
  }

  private async described(): Promise<void> {
    const early = this.early ?? [];
    this.early = undefined;
    for (const candidate of early) await this.options.connection.addIceCandidate(candidate);
  }

  private adopt(channel: RTCDataChannel): void {
    channel.binaryType = "arraybuffer";
    channel.onopen = () => this.ready(channel);
    channel.onclose = () => this.closed();
    channel.onmessage = ({ data }) => {
      this.ready(channel); // bytes may come before the event that says it is open
      if (data === END) this.fail(undefined);
      else if (data instanceof ArrayBuffer) this.pipe?.received(new Uint8Array(data));
    };
    if (channel.readyState === "open") this.ready(channel);
  }

  private ready(channel: RTCDataChannel): void {
    if (this.pipe || this.over) return;
    const { clock, connection, other, handlers } = this.options;
    clock.clearTimer(this.timer);
    const pipe = new MessagePipe({
      carrier: channel as { readonly bufferedAmount: number; send(bytes: Uint8Array<ArrayBuffer>): void },
      ...{ clock, peer: nodeAddress("webrtc", other), channel: channelOf(connection) },
      ...{ chunkBytes: CHUNK_BYTES, messageBytes: MESSAGE_BYTES },
      ...{ capacityBytes: CAPACITY_BYTES, pollMs: POLL_MS },
      shut: () => this.sayEnd(channel),
      abort: () => this.fail(undefined),
    });
    this.pipe = pipe;
    channel.bufferedAmountLowThreshold = CAPACITY_BYTES / 2;
    channel.onbufferedamountlow = pipe.look;
    pipe.handlers = handlers(pipe);
    this.opened.resolve(pipe);
  }

  private sayEnd(channel: RTCDataChannel): void {
    if (channel.readyState === "open") channel.send(END);
    else this.fail(undefined);
  }

  private closed(): void {
    if (this.pipe) this.fail(undefined);
    else this.end("the channel was closed before it was open");
  }

  private guarded(work: () => Promise<void>): void {
    work().catch((error) => {
      if (!this.pipe) this.end(asError(error).message);
    });
  }

  /** Releases everything. The connection is closed a turn later: its library may be in the middle of a callback. */
  private fail(error: Error | undefined): void {
    if (this.over) return;
    this.over = true;
    const { clock, connection, release } = this.options;
    clock.clearTimer(this.timer);
    connection.onicecandidate = null;
    connection.onconnectionstatechange = null;
    clock.defer(() => connection.close());
    release();
    this.opened.reject(error ?? new RuntimeError("CONNECT_FAILED", `webrtc://${this.other} closed`));
    this.pipe?.ended(error);
  }
}
