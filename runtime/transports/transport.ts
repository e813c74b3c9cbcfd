/**
 * What every transport is: a way to open pipes, and a pipe is an ordered, reliable, flow-controlled stream of
 * bytes between two nodes. Frames, handshake, chunking, credit and encryption policy are not a transport's
 * business: the link above (`runtime/link.ts`) does them once for all, so a new transport is a page of code and
 * passes one contract suite (`test/contract/transport.contract.ts`).
 */

import type { Channel } from "../../protocols/handshake.ts";
import type { Carrier } from "./carrier.ts";

/** One end of an open connection. */
export interface Pipe {
  /**
   * Offers bytes; returns how many of them were accepted, from the front (0 when the pipe is full). What was
   * accepted has been copied or handed to the operating system: the caller may reuse its memory at once.
   * After a short write the pipe calls `onDrain` once, when it accepts bytes again. Never throws; a closed pipe
   * accepts nothing.
   * @param owned the caller gives the memory away: the bytes are all of their ArrayBuffer and nothing else refers
   *   to it. A pipe within one process may pass it on instead of copying; others ignore this.
   */
  write(bytes: Uint8Array, owned?: boolean): number;
  /** Who is told. Set once, synchronously, by whoever opened or accepted the pipe. */
  handlers: PipeHandlers;
  /** The most bytes that are worth offering in one frame (16 KiB on WebRTC, larger elsewhere). */
  readonly chunkBytes: number;
  /** Where the other end is, for people. */
  readonly peer: string;
  /** Closes both directions; idempotent. `onClose` of both ends fires once. */
  close(error?: Error): void;
  /**
   * Only of an encrypted pipe, and there before its first byte comes: which certificates the ends see. The handshake
   * binds itself to them, so that nobody in between can end the encryption and pass it on.
   */
  readonly channel?: Channel | undefined;
  /**
   * True where the platform itself tells of the other end's death and a living end may be silent for as long as it
   * computes (threads of one process): silence is then no sign of death, and the link waits for the close.
   */
  readonly reportsDeath?: boolean;
}

/** Who is told of what happens on a pipe: the link above it. */
export interface PipeHandlers {
  /**
   * Received bytes. Borrowed for the duration of the call: the transport may reuse the memory afterwards, unless it
   * gives them away.
   * @param owned the bytes are the receiver's to keep.
   */
  onData(bytes: Uint8Array, owned?: boolean): void;
  /** The pipe accepts bytes again after a short write. */
  onDrain(): void;
  /** The pipe is gone; nothing more is delivered. `error` says why unless it was a clean close. */
  onClose(error?: Error): void;
}

/** A listening endpoint. */
export interface Listener {
  /** The address others connect to, with the port that was really taken. */
  readonly address: string;
  /** Takes no more connections and frees the address; open pipes stay. Idempotent. */
  close(): Promise<void>;
}

/** A way to open pipes, by addresses of one scheme. */
export interface Transport {
  /** The scheme of its addresses: `tcp` for `tcp://127.0.0.1:4000`. */
  readonly scheme: string;
  /** Takes connections until the listener is closed. @throws when the address is taken or malformed, naming it. */
  listen(address: string, accept: (pipe: Pipe) => PipeHandlers): Promise<Listener>;
  /** Opens a pipe. @throws when nobody answers within the transport's own patience, naming the address. */
  connect(address: string, handlers: (pipe: Pipe) => PipeHandlers): Promise<Pipe>;
  /** Called once, before all else, by the node that uses it: for transports whose pipes need links that are there. */
  attach?(carrier: Carrier): void;
}
