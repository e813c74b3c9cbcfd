/**
 * A running actor: the cell holds the mailbox and the present instance, takes messages, and sees the instance
 * through its life. The cell outlives its instance when a supervisor starts it again, and with it the ref, the
 * name and whatever waits in the mailbox; the message that caused a crash is gone.
 *
 *     down → starting → running → stopping → down (supervised) or dead
 */

import type { DownReason } from "../protocols/messages.ts";
import type { Actor, ActorClass, ActorContext } from "./actor.ts";
import type { Clock } from "./clock.ts";
import type { DeadLetters } from "./deadletters.ts";
import type { Dispatcher, Runnable } from "./dispatcher.ts";
import { ActorFailure, asError, downError, RuntimeError } from "./errors.ts";
import { Invocations, type InvocationsOwner, isThenable } from "./invocations.ts";
import type { Log } from "./log.ts";
import { Mailbox, type Reply, type UserMessage } from "./mailbox.ts";
import type { MethodTable } from "./methods.ts";
import { Watchers } from "./monitor.ts";
import type { ActorRef, RefTarget } from "./ref.ts";
import { within } from "./timeout.ts";

/** What a cell needs of its node. */
export interface CellHost {
  readonly clock: Clock;
  readonly dispatcher: Dispatcher;
  readonly deadLetters: DeadLetters;
  readonly log: Log;
  createRef(cell: Cell): ActorRef;
  createContext(cell: Cell): ActorContext;
  /** The cell is dead. */
  release(cell: Cell): void;
}

export interface CellOptions {
  readonly id: number;
  readonly actor: ActorClass;
  readonly args: readonly unknown[];
  readonly table: MethodTable;
  readonly name: string | undefined;
  readonly parent: Cell | undefined;
  /** Told when a life of the cell has ended other than by its own `stop`; the cell then waits to be restarted. */
  readonly onExit?: ((reason: DownReason) => void) | undefined;
}

/** How long an actor may take to stop before it is killed, unless somebody says otherwise. */
export const SHUTDOWN_MS = 5000;

export class Cell implements RefTarget, Runnable, InvocationsOwner {
  readonly options: CellOptions;
  readonly ref: ActorRef;
  readonly children = new Set<Cell>();
  /** Functions that undo what the present life has set up elsewhere: its monitors. */
  readonly cleanups = new Set<() => void>();
  private readonly host: CellHost;
  private readonly mailbox = new Mailbox<(actor: Actor) => unknown>();
  private readonly watchers = new Watchers();
  private state: "down" | "starting" | "running" | "stopping" | "dead" = "down";
  private instance: Actor | undefined;
  /** Counts lives; results of an earlier one are ignored. */
  private life = 0;
  /** Of the present life. */
  private invocations!: Invocations;
  private scheduled = false;
  private quiet = false;
  private ending = Promise.withResolvers<void>();
  private forced = Promise.withResolvers<void>();
  private finalReason: DownReason = { code: "noactor", message: "it was never started" };

  constructor(host: CellHost, options: CellOptions) {
    this.host = host;
    this.options = options;
    this.ref = host.createRef(this);
    options.parent?.children.add(this);
  }

  /** For people: its name if it has one, class and number. */
  get label(): string {
    const { name, table, id } = this.options;
    return name ? `${name} (${table.className}#${id})` : `${table.className}#${id}`;
  }

  /** Begins a life. @throws RuntimeError SPAWN_FAILED with the real error as its cause; the cell is down then. */
  async start(): Promise<void> {
    this.state = "starting";
    this.life++;
    this.invocations = new Invocations(this);
    this.quiet = false;
    this.mailbox.kill = false;
    this.mailbox.stop = false;
    this.ending = Promise.withResolvers();
    this.forced = Promise.withResolvers();
    let failure: Error | undefined;
    try {
      const instance = new this.options.actor(...this.options.args);
      Object.defineProperty(instance, "context", { value: this.host.createContext(this) });
      this.instance = instance;
      await Promise.race([instance.onStart(), this.forced.promise]);
      if (this.mailbox.kill) failure = new Error("it was killed while it started");
    } catch (thrown) {
      failure = asError(thrown);
    }
    if (failure) {
      const message = `${this.label} failed to start: ${failure.message}`;
      this.quiet = true;
      await this.finish({ code: "error", message, error: failure });
      throw new RuntimeError("SPAWN_FAILED", message, { cause: failure });
    }
    this.state = "running";
    this.wake();
  }

  tell(method: string, args: unknown[]): void {
    this.post(method, args, null, null);
  }

  ask(method: string, args: unknown[], timeoutMs: number | undefined): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const what = () => `${this.label} did not answer ${method}`;
      this.post(method, args, within(timeoutMs, this.host.clock, what, { resolve, reject }), null);
    });
  }

  /**
   * Delivers a message. An undeliverable ask is rejected; an undeliverable tell is a dead letter.
   * @throws RuntimeError MAILBOX_FULL for a tell.
   */
  post(methodName: string, args: unknown[], reply: Reply | null, taken: (() => void) | null): void {
    const method = this.options.table.methods.get(methodName);
    if (!method || this.state === "dead") {
      const error = method ? downError(this.label, this.finalReason) : this.unknownMethod(methodName);
      taken?.();
      if (reply) reply.reject(error);
      else this.deadLetter(methodName, error.message);
      return;
    }
    try {
      this.mailbox.push({ method, args, reply, taken, order: 0 });
    } catch (error) {
      taken?.();
      if (!reply) throw error;
      reply.reject(asError(error));
      return;
    }
    this.wake();
  }

  /** Runs `handler` on the instance ahead of user messages; an error it throws crashes the actor. */
  signal(handler: (actor: Actor) => unknown): void {
    if (this.state === "dead") return;
    this.mailbox.signals.push(handler);
    this.wake();
  }

  watch(callback: (reason: DownReason) => void): () => void {
    if (this.state !== "dead") return this.watchers.add(callback);
    let cancelled = false;
    queueMicrotask(() => {
      if (!cancelled) callback({ code: "noactor", message: this.finalReason.message });
    });
    return () => {
      cancelled = true;
    };
  }

  end(kill: boolean): Promise<void> {
    return kill ? this.kill() : this.stop(SHUTDOWN_MS);
  }

  /** Ends this life once the methods in progress have settled; by force after `shutdownMs`. */
  stop(shutdownMs: number): Promise<void> {
    if (this.state === "dead" || this.state === "down") return Promise.resolve();
    if (!this.mailbox.stop) {
      this.mailbox.stop = true;
      this.forceAfter(shutdownMs);
      this.wake();
    }
    return this.ending.promise;
  }

  /** As `stop`, and the supervisor is not told, because it is the one who asks. */
  stopQuietly(shutdownMs: number): Promise<void> {
    this.quiet = true;
    return this.stop(shutdownMs);
  }

  /** Ends this life at once, without `onStop`. */
  kill(): Promise<void> {
    if (this.state === "dead" || this.state === "down") return Promise.resolve();
    this.mailbox.kill = true;
    this.forced.resolve();
    if (this.state === "running") void this.terminate({ code: "killed", message: "it was killed" });
    return this.ending.promise;
  }

  /** No further life: what waits is refused, its name is free. The cell is down or dead already. */
  retire(): void {
    if (this.state === "dead") return;
    this.state = "dead";
    const error = downError(this.label, this.finalReason);
    for (let message = this.mailbox.take(false); message; message = this.mailbox.take(false)) {
      message.taken?.();
      if (message.reply) message.reply.reject(error);
      else this.deadLetter(message.method.name, error.message);
    }
    this.options.parent?.children.delete(this);
    this.host.release(this);
  }

  /** Handles what waits; called by the dispatcher. */
  run(): void {
    this.scheduled = false;
    while (this.state === "running") {
      if (this.mailbox.stop && this.invocations.idle) {
        void this.terminate({ code: "normal", message: "it stopped" });
        return;
      }
      const signal = this.mailbox.signals.shift();
      if (signal) {
        this.runSignal(signal);
        continue;
      }
      if (this.mailbox.stop || this.mailbox.waiting === 0) return;
      if (!this.host.dispatcher.spend()) {
        this.wake();
        return;
      }
      const message = this.mailbox.take(this.invocations.busy);
      if (!message) return;
      if (message.taken) message.taken();
      this.invocations.start(this.instance!, message);
    }
  }

  onSettled(): void {
    if (!this.scheduled) this.run();
  }

  onThrown(message: UserMessage, error: Error): void {
    if (message.reply && !(error instanceof ActorFailure)) return;
    this.crash(error, `while handling ${message.method.name}`);
  }

  private wake(): void {
    if (this.scheduled || this.state !== "running") return;
    this.scheduled = true;
    this.host.dispatcher.schedule(this);
  }

  private runSignal(handler: (actor: Actor) => unknown): void {
    const life = this.life;
    const failed = (error: unknown) => {
      if (life === this.life) this.crash(asError(error), "in a signal");
    };
    try {
      const result = handler(this.instance!);
      if (isThenable(result)) result.then(undefined, failed);
    } catch (error) {
      failed(error);
    }
  }

  private crash(error: Error, where: string): void {
    if (this.state !== "running") return;
    const message = `it crashed ${where}: ${error.name}: ${error.message}`;
    this.host.log({ level: "error", message: `${this.label} crashed ${where}`, error });
    this.forceAfter(SHUTDOWN_MS);
    void this.terminate({ code: "error", message, error });
  }

  private forceAfter(ms: number): void {
    const life = this.life;
    const timer = this.host.clock.setTimer(() => {
      if (life === this.life) void this.kill();
    }, ms);
    void this.ending.promise.then(() => this.host.clock.clearTimer(timer));
  }

  /** Everything in progress is answered at once; `onStop` and the children's end are awaited; then it is told. */
  private async terminate(reason: DownReason): Promise<void> {
    this.state = "stopping";
    this.invocations.end(downError(this.label, reason));
    if (reason.code !== "killed") {
      try {
        await Promise.race([this.instance!.onStop(reason), this.forced.promise]);
      } catch (thrown) {
        this.host.log({ level: "error", message: `${this.label} failed in onStop`, error: asError(thrown) });
      }
    }
    await this.finish(reason);
  }

  private async finish(reason: DownReason): Promise<void> {
    this.state = "stopping";
    for (const child of [...this.children].reverse()) {
      await (this.mailbox.kill ? child.kill() : child.stopQuietly(SHUTDOWN_MS));
      child.retire();
    }
    this.life++;
    this.instance = undefined;
    for (const cleanup of this.cleanups) cleanup();
    this.cleanups.clear();
    while (this.mailbox.signals.shift());
    this.finalReason = reason;
    this.state = "down";
    const { onExit } = this.options;
    if (!onExit) this.retire();
    this.watchers.fire(reason);
    this.ending.resolve();
    if (!this.quiet) onExit?.(reason);
  }

  private unknownMethod(name: string): RuntimeError {
    const known = [...this.options.table.methods.keys()].join(", ") || "none";
    return new RuntimeError(
      "UNKNOWN_METHOD",
      `${this.label} has no method ${name}; its methods are ${known}`,
    );
  }

  private deadLetter(method: string, reason: string): void {
    this.host.deadLetters.post({ to: this.label, method, reason });
  }
}
