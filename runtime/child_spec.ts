/**
 * The specification of a supervised child, as data: what to start, when to start it again, how often, and how long
 * it may take to stop. A supervision tree is a list of these, and a supervisor is itself such a child.
 *
 * Source: Erlang/OTP, Supervision Principles, https://www.erlang.org/doc/system/sup_princ.html
 */

import type { Actor, ActorClass } from "./actor.ts";
import type { Intensity } from "./intensity.ts";

/** What a supervisor needs to know of a child. `child` makes one with defaults. */
export interface ChildSpec {
  /** Unique among its siblings. */
  readonly id: string;
  /** The class; a supervisor's makes the child a subtree. */
  readonly actor: ActorClass;
  /** For its constructor, in every life the same objects: a child that writes to them changes its next life. */
  readonly args: readonly unknown[];
  /**
   * `permanent`: started again whenever it ends. `transient`: only when it ends abnormally (crashed or killed).
   * `temporary`: never, and forgotten when it ends.
   */
  readonly restart: "permanent" | "transient" | "temporary";
  /** Milliseconds it may take to stop before it is killed; 0 kills it at once, Infinity waits for as long as it takes. */
  readonly shutdownMs: number;
  /** How often it may be started again; by default its supervisor's. */
  readonly intensity?: Intensity | undefined;
  /** Its end of its own accord may end its supervisor, see `autoShutdown`. Not for permanent children. */
  readonly significant?: boolean | undefined;
  /** Registered name, which survives restarts. */
  readonly name?: string | undefined;
}

/** What a supervisor does, and with whom: the argument of `Supervisor`. */
export interface SupervisorSpec {
  /**
   * Which children are started again when one has to be: it alone; all of them; it and those started after it.
   */
  readonly strategy: "one_for_one" | "one_for_all" | "rest_for_one";
  /**
   * How often each child may be started again, unless its own specification says otherwise: the supervisor gives
   * up, and crashes, when one child needs more than `intensity` restarts within `periodMs`. By default
   * once within five seconds, as in OTP. Counted per child, unlike OTP, so that many healthy children that each
   * fail once do not end the tree.
   */
  readonly intensity?: number;
  /** Milliseconds in which `intensity` restarts are allowed. Default 5000. */
  readonly periodMs?: number;
  /**
   * How many restarts there may be in the whole tree below, nested supervisors included: one more, and every
   * supervisor from there up to this one gives up in turn. A tree whose root names none has `TREE_CAP`; a nested
   * supervisor that names one has its own beside those above it. A supervisor that is not itself the child of a
   * supervisor is a root.
   */
  readonly cap?: Intensity;
  /**
   * Whether the supervisor stops when a significant child has ended and is not started again: `any_significant`
   * of them, or the last (`all_significant`).
   */
  readonly autoShutdown?: "never" | "any_significant" | "all_significant";
  /** Started in this order, stopped in the reverse. */
  readonly children: readonly ChildSpec[];
}

/** OTP's default, for each child. */
export const CHILD_INTENSITY: Intensity = { intensity: 1, periodMs: 5000 };

/**
 * The cap of a tree that names none. Budgets of nested supervisors multiply with depth (three levels of three
 * restarts are 27 for one child), the cap adds: a storm anywhere ends after this many restarts of the whole tree.
 * A hundred a minute is eight children that fail without end at OTP's default rate, far more than a tree needs that
 * is healing from the loss of a node.
 */
export const TREE_CAP: Intensity = { intensity: 100, periodMs: 60_000 };

/** What `child` may be told otherwise than its defaults. */
export type ChildOptions = Partial<Omit<ChildSpec, "actor" | "args">>;

/**
 * A child specification with OTP's defaults: permanent; five seconds to stop, supervisors as long as it takes; the
 * id is the name or class.
 */
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
    shutdownMs: options.shutdownMs ?? actor.shutdownMs ?? 5000,
    intensity: options.intensity,
    significant: options.significant,
    name: options.name,
  };
}
