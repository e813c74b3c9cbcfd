/**
 * What can go wrong between actors and nodes. Code is stable and survives the wire, class does not: an error that
 * comes from another node is a plain `Error` with the same name, message, stack and code.
 */

import type { DownReason } from "../protocols/messages.ts";

/** What went wrong, for programs. A code does not change its meaning. */
export type RuntimeErrorCode =
  /** The actor that was asked is gone; `cause` is its first real error, if it had one. */
  | "ACTOR_DOWN"
  /** No answer within the ask's timeout. */
  | "ASK_TIMEOUT"
  /** The link to a node is lost, or it cannot be reached; `node` says which. */
  | "NODE_LOST"
  /** The actor's mailbox, or what waits for a link, is at its limit. */
  | "MAILBOX_FULL"
  | "UNKNOWN_METHOD"
  /** What only a full ref allows (stopping, killing, linking) was tried with a narrowed one. */
  | "NARROWED"
  /** An operation that is possible only on the node where the actor lives. */
  | "NOT_LOCAL"
  /** A class that the node was not given to host for others. */
  | "UNKNOWN_CLASS"
  | "NAME_TAKEN"
  /** The actor's constructor or `onStart` failed; `cause` is why. */
  | "SPAWN_FAILED"
  /** An actor this one is linked to has ended abnormally; `cause` is the first real error, if there was one. */
  | "LINKED_EXIT"
  | "UNKNOWN_CHILD"
  /** A supervisor's child has to have ended for what was asked. */
  | "CHILD_RUNNING"
  /** A supervisor's children failed more often than it allows; `cause` is the first real error. */
  | "TOO_MANY_RESTARTS"
  /** Nobody answers at an address. */
  | "CONNECT_FAILED"
  /** An address cannot be listened on: taken, malformed, or not allowed. */
  | "LISTEN_FAILED"
  | "NODE_CLOSED"
  /** An actor used its context before it was started. */
  | "NO_CONTEXT"
  /** The node was started anew since; this is what is left of an earlier start of it. */
  | "STALE_INCARNATION"
  /** There is a link to that node already; nothing is wrong. */
  | "LINK_DUPLICATE"
  /** The node does not start that actor for this asker, or not with these arguments; `cause` is why. */
  | "SPAWN_REFUSED"
  | "LINK_SILENT"
  /** Thrown by an actor to say that it cannot go on. */
  | "ACTOR_FAILURE";

/** What the runtime itself throws and rejects with. */
export class RuntimeError extends Error {
  /** The same on every node, where the class is not. */
  override readonly name: string = "RuntimeError";
  /** Compare this, not the class or the message. */
  readonly code: RuntimeErrorCode;
  /** The node concerned, by id. */
  readonly node: string | undefined;

  /** `options`: the error that caused this one, and the id of the node concerned. */
  constructor(
    code: RuntimeErrorCode,
    message: string,
    options?: ErrorOptions & { node?: string | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.node = options?.node;
  }
}

/**
 * Thrown by a method to say that its actor, not only this call, has failed: the caller gets the error and the
 * actor crashes. Any other error thrown in answer to an ask is the asker's alone.
 */
export class ActorFailure extends RuntimeError {
  /** The same on every node, where the class is not. */
  override readonly name = "ActorFailure";

  /** `options.cause`: the error that is why. */
  constructor(message: string, options?: ErrorOptions) {
    super("ACTOR_FAILURE", message, options);
  }
}

/** The other end closed the link and said why; `code` is what it gave. */
export class LinkClosedByPeer extends Error {
  /** The same on every node, where the class is not. */
  override readonly name = "LinkClosedByPeer";
  /** A `RuntimeErrorCode` or `ProtocolErrorCode` of the other end, or whatever else it said. */
  readonly code: string;

  /** Made by a link from its peer's last frame. */
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** What an ask of an actor that is gone is rejected with. */
export function downError(who: string, reason: DownReason): RuntimeError {
  const code = reason.code === "nodelost" ? "NODE_LOST" : "ACTOR_DOWN";
  return new RuntimeError(code, code === "NODE_LOST" ? reason.message : `${who} is gone: ${reason.message}`, {
    node: reason.node,
    cause: reason.error,
  });
}

/** Errors that only pass on another's, which is their cause. */
const PASSED_ON = new Set(["SPAWN_FAILED", "LINKED_EXIT", "TOO_MANY_RESTARTS", "ACTOR_DOWN"]);

/** The error at the beginning of what was passed on from actor to actor; `error` itself if it is that. */
export function firstError(error: Error): Error;
export function firstError(error: Error | undefined): Error | undefined;
export function firstError(error: Error | undefined): Error | undefined {
  let first = error;
  while (first?.cause instanceof Error && PASSED_ON.has(String((first as { code?: unknown }).code))) {
    first = first.cause;
  }
  return first;
}

/** Whatever was thrown, as an Error; what is none becomes the cause of one. Never throws itself. */
export function asError(thrown: unknown): Error {
  return isSound(thrown) ? thrown : new Error(described(thrown), { cause: thrown });
}

/** An error whose name and message can be printed and sent; both can be anything by the time it is thrown. */
function isSound(thrown: unknown): thrown is Error {
  try {
    return thrown instanceof Error && typeof thrown.name === "string" && typeof thrown.message === "string";
  } catch {
    return false;
  }
}

/** An error of another realm, or what looks like one, says what is wrong; anything else is shown as it is. */
function described(thrown: unknown): string {
  try {
    const { message } = Object(thrown) as { message?: unknown };
    return String(message === undefined ? thrown : message);
  } catch {
    return "something was thrown that cannot be shown";
  }
}
