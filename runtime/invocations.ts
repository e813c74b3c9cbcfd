/**
 * The methods of one life of an actor that returned a promise which has not settled: at most one serial one, any
 * number of reentrant ones. They are answered when it settles, and forgotten when the life ends, so that a late
 * result of an earlier life reaches nobody. An actor whose methods return at once never has any.
 */

import { asError } from "./errors.ts";
import type { Call, Reply } from "./mailbox.ts";

export interface InvocationsOwner {
  /** A method that was waiting has settled, and has been answered. */
  onSettled(): void;
  /** A method has thrown. An ask, which is one with a reply, has been answered with the error. */
  onThrown(call: Call, reply: Reply | null, error: Error): void;
}

interface Invocation {
  readonly call: Call;
  readonly reply: Reply | null;
}

export class Invocations {
  private readonly owner: InvocationsOwner;
  /** The serial method in progress. */
  private serial: Call | null = null;
  private serialReply: Reply | null = null;
  private concurrent: Set<Invocation> | undefined;

  constructor(owner: InvocationsOwner) {
    this.owner = owner;
  }

  /** A serial method is waiting; no other may start. */
  get busy(): boolean {
    return this.serial !== null;
  }

  get idle(): boolean {
    return this.serial === null && !this.concurrent?.size;
  }

  /** Names of the methods in progress. */
  get names(): string[] {
    const names = [...(this.concurrent ?? [])].map(({ call }) => call.name);
    return this.serial ? [this.serial.name, ...names] : names;
  }

  /** A method has been called and has returned a promise. */
  add(call: Call, reply: Reply | null, result: Promise<unknown>): void {
    if (!call.reentrant) {
      this.serial = call;
      this.serialReply = reply;
      result.then(this.serialSettled, this.serialRejected);
      return;
    }
    this.concurrent ??= new Set();
    const { concurrent } = this;
    const invocation: Invocation = { call, reply };
    concurrent.add(invocation);
    result.then(
      (value) => {
        if (concurrent.delete(invocation)) this.settled(reply, value);
      },
      (error) => {
        if (concurrent.delete(invocation)) this.rejected(call, reply, error);
      },
    );
  }

  /** The life is over: whoever waits is answered with the error, and no result counts any more. */
  end(error: Error): void {
    const { serialReply, concurrent } = this;
    this.serial = this.serialReply = null;
    this.concurrent = undefined;
    serialReply?.reject(error);
    if (!concurrent) return;
    const waiting = [...concurrent];
    concurrent.clear();
    for (const { reply } of waiting) reply?.reject(error);
  }

  // One pair of functions for all serial methods, since only one is in progress: a message costs no closure.

  private readonly serialSettled = (value: unknown): void => {
    if (this.serial === null) return;
    const reply = this.serialReply;
    this.serial = this.serialReply = null;
    this.settled(reply, value);
  };

  private readonly serialRejected = (error: unknown): void => {
    const call = this.serial;
    if (call === null) return;
    const reply = this.serialReply;
    this.serial = this.serialReply = null;
    this.rejected(call, reply, error);
  };

  private settled(reply: Reply | null, value: unknown): void {
    if (reply !== null) reply.resolve(value);
    this.owner.onSettled();
  }

  private rejected(call: Call, reply: Reply | null, thrown: unknown): void {
    const error = asError(thrown);
    reply?.reject(error);
    this.owner.onThrown(call, reply, error);
    this.owner.onSettled();
  }
}

/**
 * What a method returned, as a promise that settles once and later, whatever the value's own `then` does; undefined
 * for anything that `await` would not wait for. Never throws.
 */
export function asPromise(value: unknown): Promise<unknown> | undefined {
  if (value === null || (typeof value !== "object" && typeof value !== "function")) return undefined;
  try {
    if (typeof (value as { then?: unknown }).then !== "function") return undefined;
  } catch (error) {
    return Promise.reject(error);
  }
  return Promise.resolve(value);
}
