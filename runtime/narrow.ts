/**
 * Narrowed refs: part of an actor for those who should reach no more of it. `narrow(ref, ["read"])` is a ref with
 * the one method `read`, in its type and at run time; whoever holds it can monitor the actor, and can neither
 * stop, kill nor link to it.
 *
 * The narrowing is the owner's: the actor's node knows the narrowed ref under a number of its own, 53 random bits,
 * and refuses there whatever it does not expose. Nothing the holder does to the ref widens it, on whatever node
 * and after however many hops. A node that holds the join token and means harm cannot forge a wider one either,
 * for it would have to guess the number of the full ref; this is an object capability (Miller, "Robust
 * Composition", 2006). What it can do: pass on a ref it was given, look up registered names, which give full refs,
 * and start actors of the classes a node hosts. So keep a name, and `spawnOn`, for what every member may use.
 */

import type { DownReason } from "../protocols/messages.ts";
import type { DeadLetters } from "./deadletters.ts";
import { RuntimeError } from "./errors.ts";
import type { Reply } from "./mailbox.ts";
import type { ActorRef, MessageName, Ref, RefTarget } from "./ref.ts";

/** An actor, or part of one, that other nodes send to. */
export interface Served extends RefTarget {
  /** It has ended for good. */
  readonly retired: boolean;
  /** Delivers a message; see `Cell.post`. */
  post(method: string, args: unknown[], reply: Reply | null, taken: (() => void) | null): void;
}

/**
 * A ref to the same actor that exposes only `methods`; narrowing a narrowed ref narrows it further. The same
 * methods of the same actor give the same ref. Only on the node where the actor lives.
 * @throws RuntimeError NOT_LOCAL; UNKNOWN_METHOD for a method that `ref` does not expose.
 */
export function narrow<A, K extends MessageName<A>>(ref: Ref<A>, methods: readonly K[]): Ref<Pick<A, K>> {
  const full = ref as unknown as ActorRef;
  if (!full.exporter) {
    throw new RuntimeError(
      "NOT_LOCAL",
      `${full} can be narrowed only where it lives, for its node enforces it`,
    );
  }
  return full.exporter.narrow(full, methods as readonly string[]) as unknown as Ref<Pick<A, K>>;
}

/** The part of an actor that a narrowed ref leads to. */
export class Facet implements Served {
  readonly methods: readonly string[];
  private readonly whole: Served;
  private readonly deadLetters: DeadLetters;

  constructor(whole: Served, methods: readonly string[], deadLetters: DeadLetters) {
    this.whole = whole;
    this.methods = methods;
    this.deadLetters = deadLetters;
  }

  get label(): string {
    return `${this.whole.label} narrowed to ${this.methods.join(", ")}`;
  }

  get retired(): boolean {
    return this.whole.retired;
  }

  tell(method: string, args: unknown[]): void {
    this.whole.tell(method, args);
  }

  ask(method: string, args: unknown[], timeoutMs: number | undefined): Promise<unknown> {
    return this.whole.ask(method, args, timeoutMs);
  }

  post(method: string, args: unknown[], reply: Reply | null, taken: (() => void) | null): void {
    if (this.methods.includes(method)) {
      this.whole.post(method, args, reply, taken);
      return;
    }
    taken?.();
    const error = new RuntimeError("UNKNOWN_METHOD", `${this.label} does not expose ${method}`);
    if (reply) reply.reject(error);
    else this.deadLetters.post(this.label, method, error);
  }

  watch(callback: (reason: DownReason) => void): () => void {
    return this.whole.watch(callback);
  }

  link(): never {
    throw new RuntimeError("NARROWED", `${this.label} does not allow to link to it`);
  }

  unlink(): void {}

  end(): Promise<void> {
    return Promise.reject(new RuntimeError("NARROWED", `${this.label} does not allow to end it`));
  }
}
