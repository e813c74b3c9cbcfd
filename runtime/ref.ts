/**
 * A ref: the address of an actor with the types of its messages. The same ref works on the actor's own node and
 * on any other; inside messages it travels as its address, and the node that receives it connects on demand.
 *
 * Guarantees. A message is handled at most once. Messages of one sender to one actor are handled in the order
 * they were sent, within one generation of the link between their nodes. Every ask settles: with the result, the
 * method's own error, a timeout, the actor's end, or the loss of its node. Messages that carry no tensor do not
 * wait behind another actor's tensors.
 *
 * Ownership. On the same node arguments pass by reference. A tensor given to an ask is borrowed until the ask has
 * settled; one given to a tell, and one returned by a method, is transferred; a received one belongs to whoever
 * received it.
 */

import type { ActorAddress, DownReason } from "../protocols/messages.ts";
import type { Actor } from "./actor.ts";
import type { LocalTarget } from "./calls.ts";
import type { MethodTable, Target } from "./methods.ts";

/** Names the language calls by itself, and what every actor and every object has: no messages. */
export type NoMessage = keyof Actor | keyof typeof Object.prototype | "then" | "toJSON" | symbol;
/** The names of an actor's messages: those of its public methods but for `NoMessage`. */
export type MessageName<A> = {
  [K in keyof A]: K extends NoMessage ? never : A[K] extends (...args: any[]) => any ? K : never;
}[keyof A];
/** Whether nothing is known of a type. */
export type IsAny<A> = 0 extends 1 & A ? true : false;
/** The arguments of a method. */
export type ArgsOf<F> = F extends (...args: infer Args) => any ? Args : never;
/** What an ask of a method gives. */
export type ResultOf<F> = F extends (...args: any[]) => infer R ? Awaited<R> : never;

/** Send and forget. @throws RuntimeError MAILBOX_FULL, ProtocolError UNENCODABLE, both before anything is sent. */
export type Tell<A> =
  IsAny<A> extends true ? any : { readonly [K in MessageName<A>]: (...args: ArgsOf<A[K]>) => void };
/** Send and wait for the result; always settles. */
export type Ask<A> =
  IsAny<A> extends true
    ? any
    : { readonly [K in MessageName<A>]: (...args: ArgsOf<A[K]>) => Promise<ResultOf<A[K]>> };

/** How to ask. */
export interface AskOptions {
  /** Reject with ASK_TIMEOUT after this long. */
  readonly timeoutMs: number;
}

/** The address of an actor with the types of its messages; plain data inside messages. */
export interface Ref<A> {
  /** Send and forget. */
  readonly tell: Tell<A>;
  /** Send and wait for the result. */
  readonly ask: Ask<A>;
  /** The same actor asked with other options. */
  with(options: AskOptions): { readonly ask: Ask<A> };
  /** Where the actor is. Asking for it makes the actor known to other nodes, as sending the ref does. */
  readonly address: ActorAddress;
  /** Equal for refs to the same actor, for use as a map's key. */
  readonly key: string;
}

/** How to end an actor. */
export interface StopOptions {
  /**
   * First handle everything that has arrived. What arrives later is refused: a tell is a dead letter, an ask is
   * rejected with ACTOR_DOWN. Without it, what has arrived and is not in progress is refused too.
   */
  readonly drain?: boolean;
}

/** What a ref sends to; beside messages, the operations the runtime needs. */
export interface RefTarget extends Target {
  /** The actor, for people. */
  readonly label: string;
  /** Calls back once when the actor is gone; returns a function that cancels. */
  watch(callback: (reason: DownReason) => void): () => void;
  /** As `watch`, and `from` is linked to in return. @throws RuntimeError NARROWED. */
  link(from: ActorRef, callback: (reason: DownReason) => void): () => void;
  /** Takes away what `link` asked for in return. */
  unlink(from: ActorRef): void;
  /** Resolves when the actor has ended. `drain`: it first handles what has arrived, and takes in nothing more. */
  end(kill: boolean, drain?: boolean): Promise<void>;
  /** Where calls can go directly: the actor is of this node and nothing stands before it. */
  readonly inbox?: LocalTarget;
}

/** Gives refs of a node's own actors what they need of it. */
export interface Exporter {
  /** Called when the address is first asked for; most actors are never heard of elsewhere. */
  export(ref: ActorRef): ActorAddress;
  narrow(ref: ActorRef, methods: readonly string[]): ActorRef;
}

export class ActorRef implements Ref<any> {
  readonly target: RefTarget;
  readonly table: MethodTable;
  /** Of the node the actor lives on; undefined for an actor that lives elsewhere or no more. */
  readonly exporter: Exporter | undefined;
  private known: ActorAddress | undefined;
  private readonly timeoutMs: number | undefined;
  private tellFacade: Tell<any> | undefined;
  private askFacade: Ask<any> | undefined;

  constructor(
    place: ActorAddress | Exporter,
    target: RefTarget,
    table: MethodTable,
    timeoutMs: number | undefined,
  ) {
    if ("export" in place) this.exporter = place;
    else this.known = place;
    this.target = target;
    this.table = table;
    this.timeoutMs = timeoutMs;
  }

  get address(): ActorAddress {
    this.known ??= this.exporter!.export(this);
    return this.known;
  }

  /** Its address, if anybody has asked for it. */
  get exported(): ActorAddress | undefined {
    return this.known;
  }

  get tell(): Tell<any> {
    this.tellFacade ??= this.facade("Tell", undefined);
    return this.tellFacade;
  }

  get ask(): Ask<any> {
    this.askFacade ??= this.facade("Ask", this.timeoutMs);
    return this.askFacade;
  }

  with(options: AskOptions): { readonly ask: Ask<any> } {
    return { ask: this.facade("Ask", options.timeoutMs) };
  }

  private facade(kind: "Tell" | "Ask", timeoutMs: number | undefined): any {
    const { local } = this.table;
    const { inbox } = this.target;
    return local && inbox ? new local[kind](inbox, timeoutMs) : new this.table[kind](this.target, timeoutMs);
  }

  get key(): string {
    return `${this.address.node}/${this.address.incarnation}/${this.address.actor}`;
  }

  toString(): string {
    return this.target.label;
  }

  /** What consoles show: the actor, not what is behind it. */
  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return `Ref<${this}>`;
  }
  [Symbol.for("Deno.customInspect")](): string {
    return `Ref<${this}>`;
  }
}

/** What a ref sends to. */
export function targetOf(ref: Ref<any>): RefTarget {
  return (ref as ActorRef).target;
}
