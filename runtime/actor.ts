/**
 * What an actor is to the one who writes it: a class. Its public methods are its messages; its fields are its
 * state, which nobody else touches; it handles one message at a time, the next when the method has settled.
 *
 * What happens when a method throws follows from who is told. In answer to an ask the error is the asker's and
 * the actor lives on, as a server answers one bad request and serves the next; an `ActorFailure` is the asker's
 * and ends the actor too. In a tell or in `onDown` nobody else would hear of it, so the actor crashes and its
 * supervisor decides. Methods declared in `static reentrant` may run while others wait; signals (`onDown`,
 * `onExit`) are delivered even while a method is waiting.
 *
 * An actor that waits, in a serial method, for what only a later message of its own can bring waits for ever: an ask
 * of itself, or of another that asks it back. Nobody but the method knows that it waits, so the runtime cannot tell
 * this from work in progress. Declare one of the methods reentrant, or give the ask a timeout (a node's
 * `askTimeoutMs` gives one to all): its error names the methods the actor was still handling.
 *
 * Methods that TypeScript calls `private` are public to the language: use `#names` for what no message may reach.
 */

import type { Clock } from "./clock.ts";
import { firstError, RuntimeError } from "./errors.ts";
import type { Down, DownReason, Monitor } from "./monitor.ts";
import type { NodeRuntime } from "./node.ts";
import type { SpawnOptions } from "./node_options.ts";
import type { Random } from "./random.ts";
import type { Ref, StopOptions } from "./ref.ts";

/** A class of actors, as `spawn` takes it; `Args` are its constructor's. */
export type ActorClass<A extends Actor = Actor, Args extends readonly any[] = any[]> = (new (
  ...args: Args
) => A) & { readonly reentrant?: readonly string[]; readonly shutdownMs?: number };

/** What an actor can do beside computing. Available from `onStart` on, not in the constructor. */
export interface ActorContext {
  /** This actor's own ref, the same in all its lives. */
  readonly self: Ref<any>;
  /** The node it lives on. */
  readonly node: NodeRuntime;
  /** The node's; an actor that waits takes its time from here, so that it can be tested. */
  readonly clock: Clock;
  /** The node's. */
  readonly random: Random;
  /**
   * Starts a child: an actor that is stopped when this one ends, children in reverse order of their start. That a
   * child ends or crashes is its own affair; monitor it, or leave it to a supervisor.
   */
  spawn<A extends Actor, Args extends readonly any[]>(
    actor: ActorClass<A, Args>,
    args: Args,
    options?: SpawnOptions,
  ): Promise<Ref<A>>;
  /** `onDown` will be called once, when `ref`'s actor is gone. */
  monitor(ref: Ref<any>): Monitor;
  /** `onDown` will not be called for it. Idempotent. */
  demonitor(monitor: Monitor): void;
  /**
   * Links this actor and another: when one ends abnormally, `onExit` of the other is called, which crashes it too
   * unless the class says otherwise. At once if the other is gone already. See links.ts.
   * @throws RuntimeError NARROWED.
   */
  link(ref: Ref<any>): void;
  /** Takes the link away on both sides; harmless where there is none. */
  unlink(ref: Ref<any>): void;
  /** Starts a child, as `spawn`, and links to it. */
  spawnLinked<A extends Actor, Args extends readonly any[]>(
    actor: ActorClass<A, Args>,
    args: Args,
    options?: SpawnOptions,
  ): Promise<Ref<A>>;
  /** Ends this actor once the methods in progress have settled; with `drain`, after what has arrived. */
  stop(options?: StopOptions): void;
  /** Starts a child whose end is reported to `onExit` and which can be started again; supervisors are made of it. */
  supervise(actor: ActorClass, args: readonly unknown[], options: SuperviseOptions): SupervisedChild;
}

/** What `ActorContext.supervise` needs beside the class and its arguments. */
export interface SuperviseOptions extends SpawnOptions {
  /** The child has ended, unless `stop` was called. Called as a signal: an error thrown here crashes this actor. */
  onExit(reason: DownReason): void | Promise<void>;
}

/** A child in its supervisor's hands. Its ref, name and queued messages outlive its restarts. */
export interface SupervisedChild {
  /** The same in all its lives. */
  readonly ref: Ref<any>;
  /** It has been started and has not ended since. */
  readonly alive: boolean;
  /** It will not start again. */
  readonly retired: boolean;
  /** Runs it, for the first time or again. @throws RuntimeError SPAWN_FAILED, also when it runs already. */
  start(): Promise<void>;
  /** Ends this life of it, by force after `shutdownMs` (0: at once); messages go on waiting. */
  stop(shutdownMs: number): Promise<void>;
  /** Ends it for good, at once if it lives: its name is free, what waits for it is refused. */
  retire(): void;
}

/** The cell an instance lives in, set before `onStart`. */
export const OWNER = Symbol("owner");

/** The class that actors extend. */
export abstract class Actor {
  /** Names of methods that may run while others are waiting. */
  static readonly reentrant: readonly string[] = [];
  /** Milliseconds it may take to stop before it is killed, unless whoever stops it says otherwise. */
  static readonly shutdownMs: number = 5000;
  /** Set by the runtime. @internal */
  [OWNER]: { readonly context: ActorContext } | undefined;

  /** What the actor can do beside computing. @throws RuntimeError NO_CONTEXT in the constructor. */
  get context(): ActorContext {
    const owner = this[OWNER];
    if (!owner) {
      throw new RuntimeError(
        "NO_CONTEXT",
        `${this.constructor.name} has a context from onStart on, not before`,
      );
    }
    return owner.context;
  }

  /** Before the first message. An error here is the spawn's error. */
  onStart(): void | Promise<void> {}
  /** After the last message, whatever the reason; not after a kill. Bounded by the shutdown time. */
  onStop(_reason: DownReason): void | Promise<void> {}
  /** A monitored actor is gone. */
  onDown(_down: Down): void | Promise<void> {}
  /**
   * A linked actor is gone. By default an abnormal end is this actor's too: it crashes with LINKED_EXIT. Override
   * it to trap exits.
   */
  onExit({ ref, reason }: Down): void | Promise<void> {
    if (reason.code === "normal") return;
    const cause = firstError(reason.error);
    throw new RuntimeError("LINKED_EXIT", `the linked ${ref} is gone: ${reason.message}`, { cause });
  }
}
