/**
 * Monitors: being told, exactly once, that an actor is gone, wherever it lived and whatever ended it. A monitor on
 * an actor that is gone already fires at once; one on another node's actor fires when the link to that node is
 * lost, with a reason that names the node. A supervised actor that crashes fires its monitors too, although its
 * ref will work again after the restart: who cares about the state that was lost has to know.
 */

import type { DownReason } from "../protocols/messages.ts";
import type { Ref } from "./ref.ts";

export type { DownReason } from "../protocols/messages.ts";

/** An actor's end, as whoever watches it is told. */
export interface Down {
  /** The ref that was watched. */
  readonly ref: Ref<any>;
  /** How it ended. */
  readonly reason: DownReason;
}

/** A monitor that has not fired. */
export interface Monitor {
  /** Whose end it waits for. */
  readonly ref: Ref<any>;
  /** After this it does not fire any more. Idempotent. */
  cancel(): void;
}

/** Why an actor is gone, for people who do not care where in it: in the error's own words where it crashed. */
export function downText({ code, message, error }: DownReason): string {
  return code === "error" && error ? error.message : message;
}

type Watcher = (reason: DownReason) => void;

/** Tells, soon and once, that the actor was gone already, and how it ended; returns a function that cancels. */
export function soonGone(callback: Watcher, { message, error }: DownReason): () => void {
  return soon(callback, { code: "noactor", message, ...(error ? { error } : {}) });
}

/** Tells soon and once; returns a function that cancels. */
export function soon(callback: Watcher, reason: DownReason): () => void {
  let cancelled = false;
  queueMicrotask(() => {
    if (!cancelled) callback(reason);
  });
  return () => {
    cancelled = true;
  };
}

/** Who watches one actor. */
export class Watchers {
  private readonly watchers = new Set<Watcher>();

  /** Returns a function that takes the watcher away. */
  add(watcher: Watcher): () => void {
    // A wrapper, so that the same function can watch twice.
    const own: Watcher = (reason) => watcher(reason);
    this.watchers.add(own);
    return () => this.watchers.delete(own);
  }

  /** Tells each of them once; one may take another away on the way. */
  fire(reason: DownReason): void {
    for (const watcher of this.watchers) {
      this.watchers.delete(watcher);
      watcher(reason);
    }
  }
}
