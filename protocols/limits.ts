/**
 * The hard limits of a link. They bound what a peer can make this node allocate, whether by accident or by
 * malice; whoever exceeds one loses that link and nothing else.
 */

export interface Limits {
  /** Bytes of a chunk, which bounds how long one stream holds the pipe. */
  readonly frameBytes: number;
  /** Bytes of a message's msgpack header, which holds everything but tensors and large byte strings. */
  readonly headerBytes: number;
  /** How deep arrays and maps in a header may nest. */
  readonly headerDepth: number;
  /** Raw segments (tensors, byte strings) in one message. */
  readonly segments: number;
  /** Bytes of all segments of one message. */
  readonly messageBytes: number;
  /** Messages that may be half received at once on a link; a sender has one per (sender, receiver) stream. */
  readonly openMessages: number;
  /** Bytes of user messages a peer may have sent that their actors have not yet begun to handle. */
  readonly windowBytes: number;
  /** Bytes of own messages that may wait to be sent to a peer before another is refused. */
  readonly queueBytes: number;
}

/** What holds unless a node says otherwise, with the reasons. */
export const DEFAULT_LIMITS: Limits = {
  frameBytes: 2 ** 20,
  // Plain values belong here, bulk data in tensors; a plan of a large cluster printed as JSON is below 1 MiB.
  headerBytes: 4 * 2 ** 20,
  headerDepth: 64,
  // A stage's parameters and moments travel as one message: a thousand layers on one device have 48,000 tensors.
  segments: 2 ** 16,
  messageBytes: 4 * 2 ** 30,
  openMessages: 1024,
  // A gigabit link at 100 ms holds 12 MB in flight; the rest is room for actors that are slower than the link.
  windowBytes: 64 * 2 ** 20,
  // What waits are mostly references to tensors that exist anyway; a gigabyte takes 8 s on a gigabit link.
  queueBytes: 2 ** 30,
};

/** What a peer may make us hold before it has proved that it knows the token. */
export const HANDSHAKE_BYTES = 16 * 1024;
