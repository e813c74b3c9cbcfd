/**
 * Credit: a window of bytes per link and direction, so that a sender that is faster than the receiving actors
 * waits, instead of filling their mailboxes. Pure arithmetic; whoever moves the bytes asks these before and tells
 * them after.
 *
 * Credit is spent by whole user messages (tells and asks) when their first byte is sent, and given back when the
 * receiving actor begins to handle them. Replies, signals and the like are free: their number is bounded by what
 * was asked for, and charging them could make two full windows wait for each other.
 *
 * One window for all actors of a node alone would let an actor that is slow stop the others, and two that wait for
 * each other stop for good: one holds up the window with what it does not handle, and what the other waits for is
 * behind the window. So every stream (all messages to one actor) has a small share that is its own:
 *
 *   a message may start while any credit is left, or while less than `STREAM_SHARE_BYTES` of its stream are
 *   outstanding and the window is not overdrawn by more than its own size.
 *
 * A message larger than the window is charged as much as the window. Thus at most two windows and two of the
 * largest messages are ever outstanding, and a message to an actor that handles what it gets goes out whatever
 * other actors do, unless actors that are stuck hold two windows between them. What credit cannot help is an actor
 * whose serial method waits for a message that is behind others to itself.
 *
 * The receiver names the size of its window; until it has, the sender has no credit.
 */

import { ProtocolError } from "./errors.ts";

/** What a message costs beside its own bytes: an envelope in a mailbox is not free. */
export const MESSAGE_OVERHEAD_BYTES = 256;
/**
 * What a stream may have outstanding though the window is used up: some hundred small messages a round trip; a
 * quarter of the window where that is less.
 */
export const STREAM_SHARE_BYTES = 64 * 1024;

/** What messages of one stream have spent and not got back. */
export interface Account {
  /** Bytes of credit. */
  outstanding: number;
}

/** What a message of this many bytes costs in a window of this size. */
export function creditCost(messageBytes: number, windowBytes: number): number {
  return Math.min(messageBytes + MESSAGE_OVERHEAD_BYTES, windowBytes);
}

function mayStart(available: number, windowBytes: number, outstanding: number): boolean {
  if (available > 0) return true;
  return outstanding < Math.min(STREAM_SHARE_BYTES, windowBytes / 4) && available > -windowBytes;
}

/** The sender's side. */
export class SendWindow {
  /** Its size; 0 until the receiver has named it. */
  bytes = 0;
  private available = 0;

  /** The receiver names the size of its window. @throws ProtocolError BAD_CREDIT when it has already. */
  open(bytes: number): void {
    if (this.bytes > 0 || bytes === 0) {
      throw new ProtocolError("BAD_CREDIT", `a window of ${bytes} bytes, where one of ${this.bytes} is open`);
    }
    this.bytes = bytes;
    this.available = bytes;
  }

  /** Spends credit for a message, or returns false if it has to wait. */
  trySpend(account: Account, messageBytes: number): boolean {
    if (!mayStart(this.available, this.bytes, account.outstanding)) return false;
    const cost = creditCost(messageBytes, this.bytes);
    this.available -= cost;
    account.outstanding += cost;
    return true;
  }

  /** Credit came back. @throws ProtocolError BAD_CREDIT if it was never spent. */
  refund(account: Account | undefined, bytes: number): void {
    const outstanding = account?.outstanding ?? 0;
    if (!account || bytes > outstanding) {
      throw new ProtocolError(
        "BAD_CREDIT",
        `the peer gave back ${bytes} bytes of credit, ${bytes - outstanding} more than were spent`,
      );
    }
    account.outstanding -= bytes;
    this.available += bytes;
  }

  /** Bytes sent whose credit has not come back. */
  get outstanding(): number {
    return this.bytes - this.available;
  }
}

interface Tab extends Account {
  /** Taken by its actor and not yet told to the sender. */
  released: number;
}

/** The receiver's side: it knows what the sender may believe, and so notices one that does not wait. */
export class ReceiveWindow {
  /** Its size, which the sender is told first. */
  readonly bytes: number;
  private available: number;
  private released = 0;
  private readonly tabs = new Map<number, Tab>();
  private readonly due: number[] = [];

  /** `bytes` is its size. */
  constructor(bytes: number) {
    this.bytes = bytes;
    this.available = bytes;
  }

  /** A message begins. Returns what it costs. @throws ProtocolError BAD_CREDIT when it should have waited. */
  receive(stream: number, messageBytes: number): number {
    let tab = this.tabs.get(stream);
    if (!tab) {
      tab = { outstanding: 0, released: 0 };
      this.tabs.set(stream, tab);
    }
    if (!mayStart(this.available, this.bytes, tab.outstanding)) {
      throw new ProtocolError(
        "BAD_CREDIT",
        `a message of ${messageBytes} bytes came beyond the window of ${this.bytes}`,
      );
    }
    const cost = creditCost(messageBytes, this.bytes);
    this.available -= cost;
    tab.outstanding += cost;
    return cost;
  }

  /** A message of this cost has been taken by its actor. */
  release(stream: number, cost: number): void {
    const tab = this.tabs.get(stream)!;
    if (tab.released === 0) this.due.push(stream);
    tab.released += cost;
    this.released += cost;
  }

  /**
   * Whether it is time to give credit back: when a quarter of the window has gathered, so that small messages do
   * not each cost a frame; when it is due to as many streams as one frame names, so that an end's memory of those
   * that are gone is small; and at once while a sender may be waiting, which is when the window is used up.
   */
  get isDue(): boolean {
    if (this.released === 0) return false;
    return this.available <= 0 || this.released >= this.bytes / 4 || this.due.length >= MOST_GRANTS;
  }

  /** Takes what is to be given back to up to `most` streams: pairs of stream and bytes, one after the other. */
  grants(most: number): number[] {
    const grants: number[] = [];
    for (const stream of this.due.splice(0, most)) {
      const tab = this.tabs.get(stream)!;
      grants.push(stream, tab.released);
      this.released -= tab.released;
      this.available += tab.released;
      tab.outstanding -= tab.released;
      tab.released = 0;
      if (tab.outstanding === 0) this.tabs.delete(stream);
    }
    return grants;
  }
}

/** Bytes of a grant in a `credit` frame: u32 stream, u64 bytes. Stream 0, once and first, names the window's size. */
export const GRANT_BYTES = 12;
/** Grants in one frame. */
export const MOST_GRANTS = 1024;

/** The body of a `credit` frame. */
export function encodeGrants(grants: readonly number[]): Uint8Array {
  const body = new Uint8Array((grants.length / 2) * GRANT_BYTES);
  const view = new DataView(body.buffer);
  for (let i = 0, at = 0; i < grants.length; i += 2, at += GRANT_BYTES) {
    view.setUint32(at, grants[i]!, true);
    view.setBigUint64(at + 4, BigInt(grants[i + 1]!), true);
  }
  return body;
}

/** @throws ProtocolError BAD_CREDIT when it is not made of grants. */
export function decodeGrants(body: Uint8Array): number[] {
  if (body.byteLength === 0 || body.byteLength % GRANT_BYTES !== 0) {
    throw new ProtocolError(
      "BAD_CREDIT",
      `a credit frame is made of ${GRANT_BYTES} bytes a grant, got ${body.byteLength}`,
    );
  }
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const grants: number[] = [];
  for (let at = 0; at < body.byteLength; at += GRANT_BYTES) {
    grants.push(view.getUint32(at, true), Number(view.getBigUint64(at + 4, true)));
  }
  return grants;
}
