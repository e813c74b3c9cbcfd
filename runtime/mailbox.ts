/**
 * A mailbox: what waits for an actor, in order of arrival, bounded; one message too many is refused aloud. Kill,
 * stop and signals do not wait here: they are lanes of the cell that go before it.
 *
 * There are two lanes here: messages for serial methods, which wait for one another, and for reentrant ones, which
 * do not. Both are taken in order of arrival as long as no serial method is running; while one is, a reentrant
 * message may overtake the serial ones that wait for it.
 *
 * Serial messages lie flat in a ring, four slots each, so that a message on its way costs no object. A reentrant
 * one, which is rare, is an object that remembers how many serial ones had arrived before it.
 */

import { Ring } from "../protocols/ring.ts";
import { RuntimeError } from "./errors.ts";

/** Who is told how a message ended; exactly one of the two is called, once. */
export interface Reply {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

/** A method of a class as it is called with a certain number of arguments. */
export interface Call {
  readonly name: string;
  readonly reentrant: boolean;
  /** The message came over a link: its first slot is a `Carried`. */
  readonly carried: boolean;
  /** Up to two arguments as they are; more of them as an array in `a`. */
  invoke(instance: any, a: any, b: unknown): unknown;
}

/** Arguments that came over a link. */
export interface Carried {
  readonly args: readonly unknown[];
  /** Called when the message leaves the mailbox, handled or not: its credit goes back. */
  taken(): void;
}

/** Where messages go when they leave the mailbox. */
export interface Receiver {
  /** @param reply null for a tell. */
  receive(call: Call, reply: Reply | null, a: unknown, b: unknown): void;
}

interface Reentrant {
  readonly call: Call;
  readonly reply: Reply | null;
  readonly a: unknown;
  readonly b: unknown;
  /** The place in the serial lane that was free when this one arrived. */
  readonly before: number;
}

/** More than this in one mailbox is a design error, not a burst. */
export const MAILBOX_CAPACITY = 2 ** 20;

/** Slots of a message: call, reply, a, b. */
const STRIDE = 4;
const SMALLEST = 8;
/** A ring of more messages than this is given back when it has not been needed for a while. */
const KEPT = 256;
/** How many times in a row little must have waited until a ring is given back. */
const PATIENCE = 64;

const NONE: unknown[] = [];

export class Mailbox {
  private slots = NONE;
  /** Places, not slots; they count on and wrap at 32 bits. */
  private head = 0;
  private tail = 0;
  /** Messages the ring holds: 0 or a power of two. */
  private size = 0;
  /** With this many waiting the next push has to look closer. */
  private room = 0;
  private reentrant: Ring<Reentrant> | undefined;
  private reentrants = 0;
  /** The most that waited since it was last empty, as far as was seen. */
  private peak = 0;
  /** How many times in a row the ring was too large. */
  private quiet = 0;
  private readonly capacity: number;

  constructor(capacity = MAILBOX_CAPACITY) {
    this.capacity = capacity;
  }

  /** @throws RuntimeError MAILBOX_FULL. */
  push(call: Call, reply: Reply | null, a: unknown, b: unknown): void {
    if (((this.tail - this.head) | 0) + this.reentrants >= this.room) this.makeRoom(call);
    const tail = this.tail;
    if (call.reentrant) {
      this.reentrant ??= new Ring();
      this.reentrant.push({ call, reply, a, b, before: tail });
      this.reentrants++;
      return;
    }
    const { slots } = this;
    const at = (tail & (this.size - 1)) * STRIDE;
    slots[at] = call;
    slots[at + 1] = reply;
    slots[at + 2] = a;
    slots[at + 3] = b;
    this.tail = (tail + 1) | 0;
  }

  /** Hands over the next message that may start now; false if there is none. @param busy a serial method runs. */
  deliver(receiver: Receiver, busy: boolean): boolean {
    const head = this.head;
    if (this.reentrants > 0) {
      const first = this.reentrant!.peek()!;
      if (busy || ((first.before - head) | 0) <= 0) {
        this.reentrant!.shift();
        this.reentrants--;
        receiver.receive(first.call, first.reply, first.a, first.b);
        return true;
      }
    }
    if (busy || head === this.tail) return false;
    const { slots } = this;
    const at = (head & (this.size - 1)) * STRIDE;
    const call = slots[at] as Call;
    const reply = slots[at + 1] as Reply | null;
    const a = slots[at + 2];
    const b = slots[at + 3];
    // What has been handed over is not kept alive by a slot. The call is its class's own.
    slots[at + 1] = null;
    slots[at + 2] = undefined;
    slots[at + 3] = undefined;
    this.head = (head + 1) | 0;
    receiver.receive(call, reply, a, b);
    return true;
  }

  /** Messages that have not been handed over. */
  get waiting(): number {
    return ((this.tail - this.head) | 0) + this.reentrants;
  }

  /**
   * Called now and then while messages are handed over: a ring that has long been too large for what waits is given
   * back when it is empty.
   */
  review(): void {
    if (this.size <= KEPT) return;
    const { waiting } = this;
    if (waiting > this.peak) this.peak = waiting;
    if (waiting > 0) return;
    if (this.peak * 8 > this.size) this.quiet = 0;
    else if (++this.quiet >= PATIENCE) {
      this.slots = NONE;
      this.size = this.room = this.quiet = 0;
    }
    this.peak = 0;
  }

  private makeRoom(call: Call): void {
    if (this.waiting >= this.capacity) {
      throw new RuntimeError(
        "MAILBOX_FULL",
        `${this.capacity} messages wait already; ${call.name} is refused`,
      );
    }
    const length = (this.tail - this.head) | 0;
    if (length === this.size) this.grow(length);
    this.room = Math.min(this.size, this.capacity);
  }

  private grow(length: number): void {
    const { slots: old, size: oldSize, head } = this;
    const size = Math.max(SMALLEST, oldSize * 2);
    // Pushed one by one: an array made by its length is a slow one from some length on.
    const grown: unknown[] = [];
    while (grown.length < size * STRIDE) grown.push(undefined);
    for (let place = head; place !== ((head + length) | 0); place = (place + 1) | 0) {
      const from = (place & (oldSize - 1)) * STRIDE;
      const to = (place & (size - 1)) * STRIDE;
      for (let i = 0; i < STRIDE; i++) grown[to + i] = old[from + i];
    }
    this.slots = grown;
    this.size = size;
  }
}
