/**
 * The specification of a supervised child, as data: what to start, when to start it again, and how long it may
 * take to stop. A supervision tree is a list of these, and a supervisor is itself such a child.
 *
 * Source: Erlang/OTP, Supervision Principles, https://www.erlang.org/doc/system/sup_princ.html
 */

import type { Actor, ActorClass } from "./actor.ts";

export interface ChildSpec {
  /** Unique among its siblings. */
  readonly id: string;
  readonly actor: ActorClass;
  readonly args: readonly unknown[];
  /**
   * `permanent`: started again whenever it ends. `transient`: only when it ends abnormally (crashed or killed).
   * `temporary`: never.
   */
  readonly restart: "permanent" | "transient" | "temporary";
  /** Milliseconds it may take to stop before it is killed. */
  readonly shutdownMs: number;
  /** Registered name, which survives restarts. */
  readonly name?: string | undefined;
}

export interface SupervisorSpec {
  /**
   * Which children are started again when one has to be: it alone; all of them; it and those started after it.
   */
  readonly strategy: "one_for_one" | "one_for_all" | "rest_for_one";
  /** The supervisor gives up when more than `intensity` restarts happen within `periodMs`. */
  readonly intensity: number;
  readonly periodMs: number;
  /** Started in this order, stopped in the reverse. */
  readonly children: readonly ChildSpec[];
}

export interface ChildOptions {
  readonly id?: string;
  readonly restart?: ChildSpec["restart"];
  readonly shutdownMs?: number;
  readonly name?: string;
}

/** A child specification with OTP's defaults: permanent, five seconds to stop; the id is the name or class. */
export function child<A extends Actor, Args extends readonly any[]>(
  actor: ActorClass<A, Args>,
  args: Args,
  options: ChildOptions = {},
): ChildSpec {
  return {
    id: options.id ?? options.name ?? actor.name,
    actor: actor as ActorClass,
    args,
    restart: options.restart ?? "permanent",
    shutdownMs: options.shutdownMs ?? 5000,
    name: options.name,
  };
}
