/**
 * The lives of an actor: how one begins and ends, who is told, and what ends with it. A supervised actor has
 * several, one after the other; any other has one.
 *
 *     down → starting → running → stopping → down (supervised) or dead
 *
 * What most actors never need is made when it is first needed: most have no children, are watched by nobody, and
 * start and stop without waiting for anything; those do so in one go, without a promise or a timer on the way.
 */

import type { DownReason } from "../protocols/messages.ts";
import { type Actor, type ActorClass, type ActorContext, OWNER } from "./actor.ts";
import type { Cell } from "./cell.ts";
import type { CellHost, CellOptions } from "./cell_options.ts";
import type { Timer } from "./clock.ts";
import { asError, downError, firstError, RuntimeError } from "./errors.ts";
import { asPromise } from "./invocations.ts";
import { soonGone, Watchers } from "./monitor.ts";

/** How long an actor may take to stop before it is killed, unless its class or somebody else says otherwise. */
export const SHUTDOWN_MS = 5000;

export abstract class Life {
  readonly options: CellOptions;
  protected readonly host: CellHost;
  protected state: "down" | "starting" | "running" | "stopping" | "dead" = "down";
  protected instance: Actor | undefined;
  /** Counts lives, and the times between them; results of an earlier one are ignored. */
  life = 0;
  /** This life is to end at once, when nothing is in progress any more, or when nothing waits either. */
  protected ending: "kill" | "stop" | "drain" | undefined;
  /** No message is taken in: the cell is dead, or handles what came before its drain. */
  protected closed = false;
  /** Something is to be seen to before messages: an end, a signal. */
  protected urgent = false;
  /** Nobody but the one who asked is told of this life's end. */
  private quiet = false;
  private finalReason: DownReason | undefined;
  private lifeContext: ActorContext | undefined;
  private watchers: Watchers | undefined;
  private ownChildren: Set<Cell> | undefined;
  private ownCleanups: Set<() => void> | undefined;
  /** Resolved when this life is over. */
  private over: PromiseWithResolvers<void> | undefined;
  /** Resolved when this life is killed, for those who wait for `onStart` or `onStop`. */
  private killed: PromiseWithResolvers<void> | undefined;
  /** The least of the shutdown times that were asked for. */
  private shutdownMs: number | undefined;
  private timer: Timer | undefined;

  constructor(host: CellHost, options: CellOptions) {
    this.host = host;
    this.options = options;
  }

  /** Nothing is in progress. */
  protected abstract get idle(): boolean;
  /** The cell as others know it. */
  protected abstract get cell(): Cell;
  /** Sees to what waits, soon, if the actor is running. */
  protected abstract wake(): void;
  /** This life is ending: whoever waits for a method in progress is answered with the error. */
  protected abstract abandon(error: Error): void;
  /** This life is over: its signals are forgotten. */
  protected abstract forget(): void;
  /** There will be no further life: what waits is refused. */
  protected abstract refuseAll(): void;

  /** For people: its name if it has one, class and number. */
  get label(): string {
    const { name, table, id } = this.options;
    return name ? `${name} (${table.className}#${id})` : `${table.className}#${id}`;
  }

  get children(): Set<Cell> {
    this.ownChildren ??= new Set();
    return this.ownChildren;
  }

  /** Functions that undo what the present life has set up elsewhere: its monitors. */
  get cleanups(): Set<() => void> {
    this.ownCleanups ??= new Set();
    return this.ownCleanups;
  }

  get context(): ActorContext {
    this.lifeContext ??= this.host.createContext(this.cell);
    return this.lifeContext;
  }

  /** A life has begun and is not over. */
  get alive(): boolean {
    return this.state !== "down" && this.state !== "dead";
  }

  /** There will be no further life. */
  get retired(): boolean {
    return this.state === "dead";
  }

  /** What an ask of this actor is refused with. */
  protected downError(): RuntimeError {
    const draining = this.closed && this.alive && this.state !== "stopping";
    return downError(this.label, draining ? DRAINING : (this.finalReason ?? NEVER_STARTED));
  }

  /** Begins a life. @throws RuntimeError SPAWN_FAILED with the real error as its cause; the cell is down then. */
  async start(): Promise<void> {
    const starting = this.launch();
    if (starting) await starting;
  }

  /** As `start`, but undefined if the actor runs already, because there was nothing to wait for. */
  launch(): Promise<void> | undefined {
    if (this.state !== "down") {
      const why = this.retired ? "has ended for good" : "runs already";
      return Promise.reject(new RuntimeError("SPAWN_FAILED", `${this.label} ${why}`));
    }
    this.state = "starting";
    this.life++;
    this.quiet = false;
    this.ending = undefined;
    this.shutdownMs = undefined;
    let started: Promise<unknown> | undefined;
    try {
      const instance = construct(this.options.actor, this.options.args);
      instance[OWNER] = this;
      this.instance = instance;
      started = asPromise(instance.onStart());
    } catch (thrown) {
      return this.failStart(asError(thrown));
    }
    if (started) return this.startLater(started);
    if (this.isKilled) return this.failStart(new Error(KILLED_WHILE_STARTING));
    this.begin();
    return undefined;
  }

  watch(callback: (reason: DownReason) => void): () => void {
    if (this.state !== "dead") {
      this.watchers ??= new Watchers();
      return this.watchers.add(callback);
    }
    return this.watchNobody(callback);
  }

  end(kill: boolean, drain = false): Promise<void> {
    if (kill) return this.kill();
    return drain ? this.drain(this.classShutdownMs) : this.stop(this.classShutdownMs);
  }

  /** Ends this life once the methods in progress have settled; by force after `shutdownMs`. */
  stop(shutdownMs: number): Promise<void> {
    if (!this.alive) return Promise.resolve();
    if (this.ending !== "kill") this.ending = "stop";
    return this.endWithin(shutdownMs);
  }

  /** As `stop`, and the supervisor is not told, because it is the one who asks. */
  stopQuietly(shutdownMs: number): Promise<void> {
    this.quiet = true;
    return shutdownMs > 0 ? this.stop(shutdownMs) : this.kill();
  }

  /**
   * Ends this life once everything that has arrived has been handled; by force after `shutdownMs`. What arrives from
   * now on is refused.
   */
  drain(shutdownMs: number): Promise<void> {
    if (!this.alive) return Promise.resolve();
    this.ending ??= "drain";
    this.closed = true;
    return this.endWithin(shutdownMs);
  }

  /** Ends this life at once, without `onStop`. */
  kill(): Promise<void> {
    if (!this.alive) return Promise.resolve();
    const { promise } = this.untilOver();
    if (this.ending !== "kill") {
      this.ending = "kill";
      this.killed?.resolve();
      if (this.state === "running") this.terminate({ code: "killed", message: "it was killed" });
      else for (const child of [...(this.ownChildren ?? [])].reverse()) void child.kill();
    }
    return promise;
  }

  /** No further life: what waits is refused, its name is free. The cell is down or dead already. */
  retire(): void {
    if (this.state === "dead") return;
    this.state = "dead";
    this.closed = true;
    this.refuseAll();
    this.options.parent?.children.delete(this.cell);
    this.host.release(this.cell);
    // Whoever began to watch between two lives hears that there will be no other.
    const { message, error } = this.finalReason ?? NEVER_STARTED;
    this.watchers?.fire({ code: "noactor", message, ...(error ? { error } : {}) });
  }

  /** An error nobody else would hear of: it ends this life. */
  protected crash(error: Error, where: string): void {
    if (this.state !== "running") return;
    const message = `it crashed ${where}: ${error.name}: ${error.message}`;
    this.host.log({ level: "error", message: `${this.label} crashed ${where}`, error });
    const { silentMs } = error as { silentMs?: unknown };
    this.terminate({ code: "error", message, error, ...(typeof silentMs === "number" && { silentMs }) });
  }

  /** Everything in progress is answered at once; `onStop` and the children's end are awaited; then it is told. */
  protected terminate(reason: DownReason): void {
    this.state = "stopping";
    this.finalReason = reason;
    if (!this.idle) this.abandon(this.downError());
    if (reason.code === "killed") {
      this.finish(reason);
      return;
    }
    let stopped: Promise<unknown> | undefined;
    try {
      stopped = asPromise(this.instance!.onStop(reason));
    } catch (thrown) {
      this.logStop(thrown);
    }
    if (stopped) void this.stopLater(stopped, reason);
    else this.finish(reason);
  }

  /** Kills this life if it is not over within its shutdown time. */
  protected limit(): void {
    if (this.timer !== undefined) return;
    const ms = this.shutdownMs ?? this.classShutdownMs;
    if (ms === Number.POSITIVE_INFINITY) return;
    this.timer = this.host.clock.setTimer(() => void this.kill(), ms);
  }

  /** Calls back soon, for this actor is gone. */
  protected watchNobody(callback: (reason: DownReason) => void): () => void {
    return soonGone(callback, this.finalReason ?? NEVER_STARTED);
  }

  private get classShutdownMs(): number {
    return this.options.actor.shutdownMs ?? SHUTDOWN_MS;
  }

  private get isKilled(): boolean {
    return this.ending === "kill";
  }

  private endWithin(shutdownMs: number): Promise<void> {
    const { promise } = this.untilOver();
    if (this.shutdownMs === undefined || shutdownMs < this.shutdownMs) {
      this.shutdownMs = shutdownMs;
      if (this.timer !== undefined) this.clearTimer();
      // A running actor that stops at once needs no timer; that is seen when it is woken.
      if (this.state !== "running") this.limit();
    }
    this.urgent = true;
    this.wake();
    return promise;
  }

  private untilOver(): PromiseWithResolvers<void> {
    this.over ??= Promise.withResolvers();
    return this.over;
  }

  private untilKilled(): Promise<void> {
    this.killed ??= Promise.withResolvers();
    if (this.isKilled) this.killed.resolve();
    return this.killed.promise;
  }

  private clearTimer(): void {
    this.host.clock.clearTimer(this.timer);
    this.timer = undefined;
  }

  private begin(): void {
    this.state = "running";
    this.wake();
  }

  private async startLater(started: Promise<unknown>): Promise<void> {
    try {
      await Promise.race([started, this.untilKilled()]);
      if (this.isKilled) throw new Error(KILLED_WHILE_STARTING);
    } catch (thrown) {
      return this.failStart(asError(thrown));
    }
    this.begin();
  }

  private async failStart(failure: Error): Promise<void> {
    const message = `${this.label} failed to start: ${failure.message}`;
    this.quiet = true;
    this.state = "stopping";
    this.finalReason = { code: "error", message, error: failure };
    const { promise } = this.untilOver();
    this.finish(this.finalReason);
    await promise;
    throw new RuntimeError("SPAWN_FAILED", message, { cause: firstError(failure) });
  }

  private async stopLater(stopped: Promise<unknown>, reason: DownReason): Promise<void> {
    this.limit();
    try {
      await Promise.race([stopped, this.untilKilled()]);
    } catch (thrown) {
      this.logStop(thrown);
    }
    this.finish(reason);
  }

  private logStop(thrown: unknown): void {
    this.host.log({ level: "error", message: `${this.label} failed in onStop`, error: asError(thrown) });
  }

  private finish(reason: DownReason): void {
    if (this.ownChildren?.size) void this.stopChildren(this.ownChildren).then(() => this.complete(reason));
    else this.complete(reason);
  }

  private async stopChildren(children: Set<Cell>): Promise<void> {
    if (!this.isKilled) this.limit();
    // In rounds: what was in progress may start more of them.
    while (children.size > 0) {
      for (const child of [...children].reverse()) {
        await (this.isKilled ? child.kill() : child.stopQuietly(child.classShutdownMs));
        child.retire();
      }
    }
  }

  private complete(reason: DownReason): void {
    // What of this life still runs, because it waits for something, does not get the context of the next one.
    if (this.options.onExit && this.instance) this.instance[OWNER] = { context: this.context };
    this.life++;
    this.instance = undefined;
    this.lifeContext = undefined;
    this.killed = undefined;
    if (this.timer !== undefined) this.clearTimer();
    if (this.ownCleanups) {
      for (const cleanup of this.ownCleanups) cleanup();
      this.ownCleanups = undefined;
    }
    this.forget();
    this.urgent = false;
    this.closed = false;
    this.state = "down";
    const { over, watchers, quiet } = this;
    const { onExit } = this.options;
    this.over = undefined;
    this.watchers = undefined;
    if (!onExit) this.retire();
    watchers?.fire(reason);
    over?.resolve();
    if (!quiet) onExit?.(reason);
  }
}

const DRAINING: DownReason = { code: "normal", message: "it ends once it has handled what came before" };
const NEVER_STARTED: DownReason = { code: "noactor", message: "it was never started" };
const KILLED_WHILE_STARTING = "it was killed while it started";

/** Spelled out for the usual numbers of arguments, because spreading an array costs more than a small constructor. */
function construct(actor: ActorClass, args: readonly unknown[]): Actor {
  switch (args.length) {
    case 0:
      return new actor();
    case 1:
      return new actor(args[0]);
    default:
      return new actor(...args);
  }
}
