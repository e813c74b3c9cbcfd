/**
 * Dead letters: tells that nobody will handle, with the reason. Nothing vanishes silently: each is counted by its
 * code and can be watched. (An ask is never a dead letter; it is rejected.) What a lost link had not yet sent is
 * here too; what it had, nobody knows whether it arrived.
 */

import { asError } from "./errors.ts";
import type { Log } from "./log.ts";

/** Why a tell was not handled, by codes that stay. */
export const DEAD_LETTER_CODES = [
  /** The actor is gone, or there never was one. */
  "ACTOR_DOWN",
  /** The link to its node is lost, or there was no way to make one. */
  "NODE_LOST",
  /** It has no such method, or the ref does not expose it. */
  "UNKNOWN_METHOD",
  /** Its mailbox, or what waits for its node, is at the limit. */
  "MAILBOX_FULL",
  /** It holds a value that has no form on the wire. */
  "UNENCODABLE",
  /** It is larger than its node accepts. */
  "LIMIT_EXCEEDED",
  /** Anything else; see `error`. */
  "UNDELIVERABLE",
] as const;

/** One of `DEAD_LETTER_CODES`. */
export type DeadLetterCode = (typeof DEAD_LETTER_CODES)[number];

/** A tell that nobody will handle. Its arguments are not kept. */
export interface DeadLetter {
  /** The actor it was for, for people. */
  readonly to: string;
  /** The name it was sent under. */
  readonly method: string;
  /** Why, for programs. */
  readonly code: DeadLetterCode;
  /** Why, for people. */
  readonly reason: string;
  /** What an ask would have been rejected with. */
  readonly error: Error;
}

/** A node's dead letters: `node.deadLetters`. */
export class DeadLetters {
  private readonly log: Log;
  private readonly listeners = new Set<(letter: DeadLetter) => void>();
  private readonly byCode = new Map<DeadLetterCode, number>();

  /** Made by the node. @internal */
  constructor(log: Log) {
    this.log = log;
  }

  /** How many there have been. */
  get count(): number {
    return DEAD_LETTER_CODES.reduce((sum, code) => sum + this.counted(code), 0);
  }

  /** How many of one code there have been. */
  counted(code: DeadLetterCode): number {
    return this.byCode.get(code) ?? 0;
  }

  /** Whoever cannot deliver a tell says so here. */
  post(to: string, method: string, error: Error): void {
    const { code: thrown } = error as { code?: unknown };
    const code = DEAD_LETTER_CODES.find((known) => known === thrown) ?? "UNDELIVERABLE";
    this.byCode.set(code, this.counted(code) + 1);
    const letter: DeadLetter = { to, method, code, reason: error.message, error };
    for (const listener of [...this.listeners]) {
      try {
        listener(letter);
      } catch (error) {
        this.log({ level: "error", message: "a listener to dead letters failed", error: asError(error) });
      }
    }
  }

  /** Told of all from now on; what a listener throws is logged. Returns a function that ends it. */
  watch(listener: (letter: DeadLetter) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }
}
