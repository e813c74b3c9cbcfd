/**
 * A mailbox: what waits for an actor, in lanes. The lanes in order of precedence are kill, stop, signal and user.
 * Kill and stop are flags, for an actor ends once; signals are never refused, for their number is bounded by the
 * monitors that were asked for; user messages are bounded, and one too many is refused aloud.
 *
 * The user lane is two rings: messages for serial methods, which wait for one another, and for reentrant ones,
 * which do not. Both are taken in order of arrival as long as no serial method is running; while one is, a
 * reentrant message may overtake the serial ones that wait for it.
 */

import { Ring } from "../protocols/ring.ts";
import { RuntimeError } from "./errors.ts";

/** Who is told how a message ended; exactly one of the two is called, once. */
export interface Reply {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export interface Method {
  readonly name: string;
  readonly reentrant: boolean;
}

export interface UserMessage {
  readonly method: Method;
  readonly args: unknown[];
  /** null for a tell. */
  readonly reply: Reply | null;
  /** Called when the message leaves the mailbox, handled or not: its credit goes back. */
  readonly taken: (() => void) | null;
  /** Order of arrival. */
  order: number;
}

/** More than this in one mailbox is a design error, not a burst. */
export const MAILBOX_CAPACITY = 2 ** 20;

export class Mailbox<Signal> {
  kill = false;
  stop = false;
  readonly signals = new Ring<Signal>();
  private readonly serial = new Ring<UserMessage>();
  private reentrant: Ring<UserMessage> | undefined;
  private order = 0;
  private readonly capacity: number;

  constructor(capacity = MAILBOX_CAPACITY) {
    this.capacity = capacity;
  }

  /** @throws RuntimeError MAILBOX_FULL. */
  push(message: UserMessage): void {
    if (this.waiting >= this.capacity) {
      throw new RuntimeError(
        "MAILBOX_FULL",
        `${this.capacity} messages wait already; ${message.method.name} is refused`,
      );
    }
    message.order = this.order++;
    if (message.method.reentrant) {
      this.reentrant ??= new Ring();
      this.reentrant.push(message);
    } else this.serial.push(message);
  }

  /** The next user message that may start now. @param busy a serial method is running. */
  take(busy: boolean): UserMessage | undefined {
    const reentrant = this.reentrant?.peek();
    if (busy) return reentrant && this.reentrant!.shift();
    if (!reentrant) return this.serial.shift();
    const serial = this.serial.peek();
    return serial && serial.order < reentrant.order ? this.serial.shift() : this.reentrant!.shift();
  }

  /** User messages that have not been taken. */
  get waiting(): number {
    return this.serial.length + (this.reentrant?.length ?? 0);
  }
}
