/**
 * The methods of one life of an actor that are in progress: at most one serial one, any number of reentrant ones.
 * It calls them, answers their asks, and forgets them when the life ends, so that a late result of an earlier
 * life reaches nobody.
 */

import type { Actor } from "./actor.ts";
import { asError } from "./errors.ts";
import type { UserMessage } from "./mailbox.ts";

export interface InvocationsOwner {
  /** A method that was waiting has settled, and has been answered. */
  onSettled(): void;
  /** A method has thrown. An ask has been answered with the error. */
  onThrown(message: UserMessage, error: Error): void;
}

export class Invocations {
  private readonly owner: InvocationsOwner;
  private serial: UserMessage | null = null;
  private readonly concurrent = new Set<UserMessage>();

  constructor(owner: InvocationsOwner) {
    this.owner = owner;
  }

  /** A serial method is waiting; no other may start. */
  get busy(): boolean {
    return this.serial !== null;
  }

  get idle(): boolean {
    return this.serial === null && this.concurrent.size === 0;
  }

  /** Calls the message's method. Its result, if it is there at once, answers at once. */
  start(instance: Actor, message: UserMessage): void {
    let result: unknown;
    try {
      result = call(instance, message.method.name, message.args);
    } catch (error) {
      this.thrown(message, error);
      return;
    }
    if (!isThenable(result)) {
      if (message.reply) message.reply.resolve(result);
    } else if (message.method.reentrant) {
      this.concurrent.add(message);
      result.then(
        (value) => this.concurrent.delete(message) && this.settled(message, value),
        (error) => this.concurrent.delete(message) && this.rejected(message, error),
      );
    } else {
      this.serial = message;
      result.then(this.serialSettled, this.serialRejected);
    }
  }

  /** The life is over: whoever waits is answered with the error, and no result counts any more. */
  end(error: Error): void {
    this.serial?.reply?.reject(error);
    for (const message of this.concurrent) message.reply?.reject(error);
    this.serial = null;
    this.concurrent.clear();
  }

  // One pair of functions for all serial methods, since only one is in progress: a message costs no closure.

  private readonly serialSettled = (value: unknown): void => {
    const message = this.serial;
    this.serial = null;
    if (message) this.settled(message, value);
  };

  private readonly serialRejected = (error: unknown): void => {
    const message = this.serial;
    this.serial = null;
    if (message) this.rejected(message, error);
  };

  private settled(message: UserMessage, value: unknown): void {
    if (message.reply) message.reply.resolve(value);
    this.owner.onSettled();
  }

  private rejected(message: UserMessage, error: unknown): void {
    this.thrown(message, error);
    this.owner.onSettled();
  }

  private thrown(message: UserMessage, thrown: unknown): void {
    const error = asError(thrown);
    message.reply?.reject(error);
    this.owner.onThrown(message, error);
  }
}

/** Spelled out for the usual numbers of arguments, because spreading an array costs more than a short call. */
function call(instance: any, name: string, args: unknown[]): unknown {
  switch (args.length) {
    case 0:
      return instance[name]();
    case 1:
      return instance[name](args[0]);
    case 2:
      return instance[name](args[0], args[1]);
    default:
      return instance[name](...args);
  }
}

export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && typeof (value as any).then === "function";
}
