/**
 * Credit: a window of bytes per link and direction, so that a sender that is faster than the receiving actors
 * waits, instead of filling their mailboxes. Pure arithmetic over two counters; whoever moves the bytes asks
 * these before and tells them after.
 *
 * Credit is spent by whole user messages (tells and asks) when their first byte is sent, and given back when the
 * receiving actor begins to handle them. Replies, signals and the like are not charged: their number is bounded
 * by what was asked for, and charging them could make two full windows wait for each other. A message may start
 * while any credit is left and may overdraw it, so that a message larger than the window still passes; memory is
 * bounded by the window and one message.
 */

import { ProtocolError } from "./errors.ts";

/** What a message costs beside its own bytes: an envelope in a mailbox is not free. */
export const MESSAGE_OVERHEAD_BYTES = 256;

/** The sender's side. */
export class SendWindow {
  readonly bytes: number;
  private available: number;

  constructor(bytes: number) {
    this.bytes = bytes;
    this.available = bytes;
  }

  /** Spends credit for a message, or returns false if it has to wait. */
  trySpend(bytes: number): boolean {
    if (this.available <= 0) return false;
    this.available -= bytes;
    return true;
  }

  /** Credit came back. @throws ProtocolError BAD_CREDIT if it was never spent. */
  refund(bytes: number): void {
    this.available += bytes;
    if (this.available > this.bytes) {
      throw new ProtocolError(
        "BAD_CREDIT",
        `the peer gave back ${bytes} bytes of credit, ${this.available - this.bytes} more than were spent`,
      );
    }
  }

  /** Bytes sent whose credit has not come back. */
  get outstanding(): number {
    return this.bytes - this.available;
  }
}

/** The receiver's side: it knows what the sender may believe, and so notices one that does not wait. */
export class ReceiveWindow {
  private readonly bytes: number;
  private available: number;
  private released = 0;

  constructor(bytes: number) {
    this.bytes = bytes;
    this.available = bytes;
  }

  /** A charged message begins. @throws ProtocolError BAD_CREDIT when the sender had no credit left. */
  receive(bytes: number): void {
    if (this.available <= 0) {
      throw new ProtocolError(
        "BAD_CREDIT",
        `a message of ${bytes} bytes came beyond the window of ${this.bytes}`,
      );
    }
    this.available -= bytes;
  }

  /**
   * A message has been taken by its actor. Returns how many bytes to give back now: 0 until a quarter of the
   * window has gathered, so that small messages do not each cost a credit frame. What is held back is less than
   * a quarter, so a waiting sender is never left without.
   */
  release(bytes: number): number {
    this.released += bytes;
    if (this.released < this.bytes / 4) return 0;
    const grant = this.released;
    this.released = 0;
    this.available += grant;
    return grant;
  }
}
