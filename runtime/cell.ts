/**
 * A running actor: the cell holds the mailbox and the present instance and takes messages to it, one at a time.
 * The cell outlives its instance when a supervisor starts it again, and with it the ref, the name and whatever
 * waits in the mailbox; the message that caused a crash is gone. How a life begins and ends is told in life.ts.
 */

import type { DownReason } from "../protocols/messages.ts";
import { Ring } from "../protocols/ring.ts";
import type { Actor } from "./actor.ts";
import { callWith, type LocalTarget } from "./calls.ts";
import type { CellHost, CellOptions } from "./cell_options.ts";
import type { Runnable } from "./dispatcher.ts";
import { ActorFailure, asError, RuntimeError } from "./errors.ts";
import { asPromise, Invocations, type InvocationsOwner } from "./invocations.ts";
import { Life } from "./life.ts";
import { linksOf } from "./links.ts";
import { type Call, type Carried, Mailbox, type Receiver, type Reply } from "./mailbox.ts";
import { Pending } from "./pending.ts";
import type { ActorRef, RefTarget } from "./ref.ts";
import { within } from "./timeout.ts";

export type { CellHost, CellOptions } from "./cell_options.ts";
export { SHUTDOWN_MS } from "./life.ts";

type Signal = (actor: Actor) => unknown;

export class Cell extends Life implements RefTarget, LocalTarget, Runnable, Receiver, InvocationsOwner {
  readonly ref: ActorRef;
  private readonly mailbox = new Mailbox();
  /** In the dispatcher's hands. */
  private scheduled = false;
  private signals: Ring<Signal> | undefined;
  /** What is in progress in this life. */
  private invocations: Invocations | undefined;

  constructor(host: CellHost, options: CellOptions) {
    super(host, options);
    this.ref = host.createRef(this);
    options.parent?.children.add(this);
  }

  get inbox(): LocalTarget {
    return this;
  }

  tell(method: string, args: unknown[]): void {
    this.post(method, args, null, null);
  }

  ask(method: string, args: unknown[], timeoutMs: number | undefined): Promise<unknown> {
    const asked = new Pending();
    this.post(method, args, this.limited(method, timeoutMs, asked), null);
    return asked.promise;
  }

  request(call: Call, a: unknown, b: unknown, timeoutMs: number | undefined): Promise<unknown> {
    const asked = new Pending();
    this.send(call, this.limited(call.name, timeoutMs, asked), a, b);
    return asked.promise;
  }

  /**
   * Delivers a message by its method's name. An undeliverable ask is rejected; an undeliverable tell is a dead letter.
   * @param taken called when the message leaves the mailbox, handled or not: its credit goes back.
   * @throws RuntimeError MAILBOX_FULL for a tell.
   */
  post(name: string, args: unknown[], reply: Reply | null, taken: (() => void) | null): void {
    const method = this.options.table.methods.get(name);
    if (!method) {
      taken?.();
      this.refuse(name, reply, this.unknownMethod(name));
    } else if (taken) {
      const carried: Carried = { args, taken };
      this.send(method.carried, reply, carried, undefined);
    } else {
      const [call, a, b] = callWith(method, args);
      this.send(call, reply, a, b);
    }
  }

  /** As `post`, for one who knows how the method is called. */
  send(call: Call, reply: Reply | null, a: unknown, b: unknown): void {
    if (this.closed) {
      this.discard(call, reply, a, this.downError());
      return;
    }
    try {
      this.mailbox.push(call, reply, a, b);
    } catch (error) {
      if (call.carried) (a as Carried).taken();
      if (reply === null) throw error;
      reply.reject(asError(error));
      return;
    }
    if (!this.scheduled) this.wake();
  }

  link(from: ActorRef, callback: (reason: DownReason) => void): () => void {
    if (!this.alive) return this.watchNobody(callback);
    linksOf(this).accept(from);
    return this.watch(callback);
  }

  unlink(from: ActorRef): void {
    linksOf(this).release(from);
  }

  /** Runs `handler` on the instance ahead of user messages; an error it throws crashes the actor. */
  signal(handler: Signal): void {
    if (!this.alive) return;
    this.signals ??= new Ring();
    this.signals.push(handler);
    this.urgent = true;
    this.wake();
  }

  /** Handles what waits, up to a slice of it; called by the dispatcher. */
  run(): void {
    this.scheduled = false;
    const { dispatcher } = this.host;
    const { mailbox } = this;
    const allotted = dispatcher.allot();
    let left = allotted;
    mailbox.review();
    while (this.state === "running") {
      if (this.urgent && !this.attend()) break;
      if (left === 0) {
        if (mailbox.waiting > 0) this.wake();
        break;
      }
      if (!mailbox.deliver(this, this.invocations?.busy === true)) {
        break;
      }
      left--;
    }
    mailbox.review();
    dispatcher.spend(allotted - left);
  }

  receive(call: Call, reply: Reply | null, a: unknown, b: unknown): void {
    const { life } = this;
    let result: unknown;
    try {
      result = call.invoke(this.instance, a, b);
    } catch (thrown) {
      const error = asError(thrown);
      if (reply !== null) reply.reject(error);
      this.onThrown(call, reply, error);
      return;
    }
    // Nothing is what most methods return, and the cheapest to see.
    const promise = result === undefined ? undefined : asPromise(result);
    if (promise !== undefined) this.await(promise, call, reply, life);
    else if (reply !== null) reply.resolve(result);
  }

  onSettled(): void {
    if (!this.scheduled) this.run();
  }

  onThrown(call: Call, reply: Reply | null, error: Error): void {
    if (reply === null || error instanceof ActorFailure) this.crash(error, `while handling ${call.name}`);
  }

  protected override get idle(): boolean {
    return this.invocations === undefined || this.invocations.idle;
  }

  protected override get cell(): Cell {
    return this;
  }

  protected override wake(): void {
    if (this.scheduled || this.state !== "running") return;
    this.scheduled = true;
    this.host.dispatcher.schedule(this);
  }

  protected override abandon(error: Error): void {
    this.invocations?.end(error);
  }

  protected override forget(): void {
    this.signals = undefined;
    this.invocations = undefined;
  }

  protected override refuseAll(): void {
    if (this.mailbox.waiting === 0) return;
    const error = this.downError();
    const refused: Receiver = { receive: (call, reply, a) => this.discard(call, reply, a, error) };
    while (this.mailbox.deliver(refused, false));
  }

  /** Sees to an end and to signals; false if no message may be handled now. */
  private attend(): boolean {
    if (this.ending === "stop" && this.idle) {
      this.terminate(STOPPED);
      return false;
    }
    for (let signal = this.signals?.shift(); signal; signal = this.signals?.shift()) {
      this.runSignal(signal);
      if (this.state !== "running") return false;
    }
    if (this.ending === undefined) {
      this.urgent = false;
      return true;
    }
    if (this.idle && (this.ending === "stop" || this.mailbox.waiting === 0)) {
      this.terminate(STOPPED);
      return false;
    }
    this.limit();
    return this.ending === "drain";
  }

  private runSignal(handler: Signal): void {
    const { life } = this;
    const failed = (error: unknown) => {
      if (life === this.life) this.crash(asError(error), "in a signal");
    };
    try {
      asPromise(handler(this.instance!))?.then(undefined, failed);
    } catch (error) {
      failed(error);
    }
  }

  /** A method of this life has returned a promise. If it has ended its own life before, nobody waits for it. */
  private await(result: Promise<unknown>, call: Call, reply: Reply | null, life: number): void {
    if (life === this.life && this.state === "running") {
      this.invocations ??= new Invocations(this);
      this.invocations.add(call, reply, result);
      return;
    }
    reply?.reject(this.downError());
    result.then(undefined, () => {});
  }

  /** A reply with a time limit, which says what kept the actor from answering. */
  private limited(method: string, timeoutMs: number | undefined, reply: Reply): Reply {
    if (timeoutMs === undefined) return reply;
    const what = () => `${this.label} did not answer ${method}`;
    return within(timeoutMs, this.host.clock, what, reply, undefined, () => this.occupation);
  }

  private get occupation(): string {
    const inProgress = this.invocations?.names.join(", ");
    const { waiting } = this.mailbox;
    return [
      ...(inProgress ? [`it is still handling ${inProgress}`] : []),
      ...(waiting > 0 ? [`${waiting} ${waiting === 1 ? "message waits" : "messages wait"}`] : []),
    ].join(" and ");
  }

  private discard(call: Call, reply: Reply | null, a: unknown, error: Error): void {
    if (call.carried) (a as Carried).taken();
    this.refuse(call.name, reply, error);
  }

  private refuse(method: string, reply: Reply | null, error: Error): void {
    if (reply) reply.reject(error);
    else this.host.deadLetters.post(this.label, method, error);
  }

  private unknownMethod(name: string): RuntimeError {
    const known = [...this.options.table.methods.keys()].join(", ") || "none";
    return new RuntimeError(
      "UNKNOWN_METHOD",
      `${this.label} has no method ${name}; its methods are ${known}`,
    );
  }
}

const STOPPED = { code: "normal", message: "it stopped" } as const;
