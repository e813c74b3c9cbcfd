/**
 * A supervisor: an actor that starts its children in order, starts them again when they fail, as its strategy
 * says, and gives up (crashes, so that its own supervisor decides) when they fail too often. It stops its
 * children in reverse order when it stops, and takes them with it when it is killed. It knows nothing of what its
 * children do.
 *
 * Semantics are those of Erlang/OTP's `supervisor`; see child_spec.ts for the words. A child's ref, name and
 * queued messages survive its restarts. A child that is not started again loses its ref, and what waits for it is
 * refused; unless it is temporary its place is kept, and `restartChild` (or a restart of its group) starts it there
 * with a new ref. A restart that fails counts as another failure, of the child that did not start, and is tried
 * again. Everything happens one after the other: an end during a restart is looked at when that is done.
 */

import { Actor, type SupervisedChild } from "./actor.ts";
import { CHILD_INTENSITY, type ChildSpec, type SupervisorSpec, TREE_CAP } from "./child_spec.ts";
import { asError, firstError, RuntimeError } from "./errors.ts";
import { RestartWindow } from "./intensity.ts";
import type { DownReason } from "./monitor.ts";
import type { Ref } from "./ref.ts";

interface Child {
  readonly spec: ChildSpec;
  readonly window: RestartWindow;
  /** undefined when it has ended and is not started again by itself. */
  handle: SupervisedChild | undefined;
  restarts: number;
}

/** A child as its supervisor sees it. */
export interface ChildStatus {
  /** Of its specification. */
  readonly id: string;
  /** null when it has ended and is not started again by itself. */
  readonly ref: Ref<any> | null;
  /** Whether it lives now; not while it is being restarted. */
  readonly running: boolean;
  /** How often it has been started again. */
  readonly restarts: number;
}

/** OTP's `count_children`. */
export interface ChildCounts {
  /** Children that have a place, running or not. */
  readonly specs: number;
  /** Children that run now. */
  readonly active: number;
  /** Places of supervisors. */
  readonly supervisors: number;
  /** All other places. */
  readonly workers: number;
}

/** The caps a nested supervisor is under, by its ref. */
const capsAbove = new WeakMap<Ref<any>, readonly RestartWindow[]>();

/** Starts, restarts and stops children as its specification says. */
export class Supervisor extends Actor {
  /** Status must be had while a restart is waiting. */
  static override readonly reentrant: readonly string[] = ["children", "child", "countChildren"];
  /** Its children have their own shutdown times. */
  static override readonly shutdownMs: number = Number.POSITIVE_INFINITY;
  readonly #spec: SupervisorSpec;
  /** In the order of their start. */
  readonly #children = new Map<string, Child>();
  #caps: readonly RestartWindow[] = [];
  #work: Promise<void> = Promise.resolve();
  #stopping = false;

  /** Called by the runtime, with the argument given to `spawn` or `child`. */
  constructor(spec: SupervisorSpec) {
    super();
    this.#spec = spec;
  }

  /** Starts the children; one that fails is this actor's spawn error, and those before it are stopped. */
  override async onStart(): Promise<void> {
    const above = capsAbove.get(this.context.self);
    const own = this.#spec.cap ?? (above ? undefined : TREE_CAP);
    this.#caps = [...(above ?? []), ...(own ? [new RestartWindow(own)] : [])];
    try {
      for (const spec of this.#spec.children) await this.#add(spec);
    } catch (error) {
      await this.#stopAll();
      throw error;
    }
  }

  /** Stops the children in reverse order of their start. */
  override async onStop(): Promise<void> {
    this.#stopping = true;
    // Also ends what a restart in progress is waiting for.
    await this.#stopAll();
    await this.#work;
    await this.#stopAll();
  }

  /** The children in the order of their start. */
  async children(): Promise<ChildStatus[]> {
    return [...this.#children.values()].map(({ spec, handle, restarts }) => ({
      id: spec.id,
      ref: handle?.ref ?? null,
      running: handle?.alive ?? false,
      restarts,
    }));
  }

  /** How many children there are, of which kind, and how many of them run. */
  async countChildren(): Promise<ChildCounts> {
    const all = [...this.#children.values()];
    const supervisors = all.filter(({ spec }) => isSupervisor(spec)).length;
    const active = all.filter(({ handle }) => handle?.alive).length;
    return { specs: all.length, active, supervisors, workers: all.length - supervisors };
  }

  /** The ref of a child. @throws RuntimeError UNKNOWN_CHILD; ACTOR_DOWN when it has ended and keeps only its place. */
  async child(id: string): Promise<Ref<any>> {
    const { handle } = this.#find(id);
    if (!handle)
      throw new RuntimeError("ACTOR_DOWN", `the child "${id}" has ended; restartChild starts it again`);
    return handle.ref;
  }

  /**
   * Starts one more child, after the others.
   * @throws RuntimeError NAME_TAKEN, SPAWN_FAILED; the child is then forgotten.
   */
  startChild(spec: ChildSpec): Promise<Ref<any>> {
    return this.#serially(() => this.#add(spec));
  }

  /** Stops a child; its place is kept for `restartChild`, unless it is temporary. OTP's `terminate_child`. */
  stopChild(id: string): Promise<void> {
    return this.#serially(async () => {
      const found = this.#find(id);
      await this.#halt(found);
      this.#retire(found);
    });
  }

  /**
   * Starts a child that has ended or was stopped, with a new ref. OTP's `restart_child`.
   * @throws RuntimeError UNKNOWN_CHILD, CHILD_RUNNING, SPAWN_FAILED; its place is then kept.
   */
  restartChild(id: string): Promise<Ref<any>> {
    return this.#serially(async () => {
      const found = this.#find(id);
      this.#expectEnded(found);
      try {
        return await this.#run(found);
      } catch (error) {
        this.#retire(found);
        throw error;
      }
    });
  }

  /** Forgets a child that has ended or was stopped. @throws RuntimeError UNKNOWN_CHILD, CHILD_RUNNING. */
  deleteChild(id: string): Promise<void> {
    return this.#serially(async () => {
      this.#expectEnded(this.#find(id));
      this.#children.delete(id);
    });
  }

  async #add(spec: ChildSpec): Promise<Ref<any>> {
    if (this.#children.has(spec.id)) {
      throw new RuntimeError("NAME_TAKEN", `two children have the id "${spec.id}"`);
    }
    if (spec.significant && spec.restart === "permanent") {
      throw new RuntimeError("SPAWN_FAILED", `the child "${spec.id}" is permanent and cannot be significant`);
    }
    const { intensity = CHILD_INTENSITY.intensity, periodMs = CHILD_INTENSITY.periodMs } = this.#spec;
    const window = new RestartWindow(spec.intensity ?? { intensity, periodMs });
    const added: Child = { spec, window, handle: undefined, restarts: 0 };
    this.#children.set(spec.id, added);
    try {
      return await this.#run(added);
    } catch (error) {
      this.#retire(added);
      this.#children.delete(spec.id);
      throw error;
    }
  }

  async #exited(ended: Child, reason: DownReason): Promise<void> {
    // Another child's restart may have dealt with this one in the meantime.
    if (this.#stopping || ended.handle?.alive !== false) return;
    const { restart, significant } = ended.spec;
    if (restart === "permanent" || (restart === "transient" && reason.code !== "normal")) {
      await this.#restart(ended, reason);
      return;
    }
    this.#retire(ended);
    if (significant && this.#hasServed()) this.context.stop();
  }

  /** Whether the supervisor is to stop now that a significant child has ended. */
  #hasServed(): boolean {
    const { autoShutdown } = this.#spec;
    if (autoShutdown !== "all_significant") return autoShutdown === "any_significant";
    return ![...this.#children.values()].some(({ spec, handle }) => spec.significant && handle);
  }

  async #restart(failed: Child, reason: DownReason): Promise<void> {
    for (;;) {
      this.#charge(failed, reason);
      const group = this.#affected(failed);
      for (const each of group.toReversed()) await this.#halt(each);
      try {
        for (const each of group) {
          if (this.#stopping) return;
          if (each !== failed && each.spec.restart === "temporary") {
            this.#retire(each);
            continue;
          }
          failed = each;
          each.restarts++;
          await this.#run(each);
        }
        return;
      } catch (thrown) {
        // Retired by somebody else: this supervisor has been killed.
        if (this.#stopping || failed.handle?.retired) return;
        const error = asError(thrown);
        reason = { code: "error", message: error.message, error };
      }
    }
  }

  #affected(failed: Child): Child[] {
    if (this.#spec.strategy === "one_for_one") return [failed];
    const all = [...this.#children.values()];
    return this.#spec.strategy === "one_for_all" ? all : all.slice(all.indexOf(failed));
  }

  /** Counts a restart. @throws RuntimeError TOO_MANY_RESTARTS when it is one too many. */
  #charge({ spec, window }: Child, reason: DownReason): void {
    const now = this.context.clock.now();
    const budgets = [window, ...this.#caps];
    const count = window.count(now);
    for (const budget of budgets) {
      if ((budget === window ? count : budget.count(now)) <= budget.intensity) continue;
      const whose = budget === window ? "" : " of its tree";
      throw new RuntimeError(
        "TOO_MANY_RESTARTS",
        `gave up on ${spec.id} after ${budget.intensity} restarts${whose} within ${budget.periodMs} ms: ${reason.message}`,
        { cause: firstError(reason.error) },
      );
    }
    const allowed = `restart ${count} of at most ${window.intensity} within ${window.periodMs} ms`;
    const message = `${this.context.self} restarts ${spec.id} (${allowed}): ${reason.message}`;
    this.context.node.log({ level: "warn", message, ...(reason.error ? { error: reason.error } : {}) });
  }

  /** Begins a life of a child; the first one in its place makes its ref. */
  async #run(one: Child): Promise<Ref<any>> {
    one.handle ??= this.#supervise(one);
    await one.handle.start();
    return one.handle.ref;
  }

  #supervise(one: Child): SupervisedChild {
    const { actor, args, name } = one.spec;
    const handle = this.context.supervise(actor, args, {
      ...(name === undefined ? {} : { name }),
      onExit: (reason) =>
        this.#serially(async () => {
          if (one.handle === handle) await this.#exited(one, reason);
        }),
    });
    if (isSupervisor(one.spec)) capsAbove.set(handle.ref, this.#caps);
    return handle;
  }

  async #halt(one: Child): Promise<void> {
    await one.handle?.stop(one.spec.shutdownMs);
  }

  /** It will not be started again by itself. */
  #retire(one: Child): void {
    one.handle?.retire();
    one.handle = undefined;
    if (one.spec.restart === "temporary") this.#children.delete(one.spec.id);
  }

  async #stopAll(): Promise<void> {
    for (const each of [...this.#children.values()].reverse()) {
      await this.#halt(each);
      this.#retire(each);
    }
  }

  #find(id: string): Child {
    const found = this.#children.get(id);
    if (found) return found;
    const known = [...this.#children.keys()].join(", ") || "none";
    throw new RuntimeError("UNKNOWN_CHILD", `the supervisor has no child "${id}"; its children are ${known}`);
  }

  #expectEnded({ spec, handle }: Child): void {
    if (handle)
      throw new RuntimeError("CHILD_RUNNING", `the child "${spec.id}" is running or being restarted`);
  }

  #serially<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#work.then(work);
    this.#work = done.then(
      () => undefined,
      () => undefined,
    );
    return done;
  }
}

function isSupervisor({ actor }: ChildSpec): boolean {
  return actor === (Supervisor as unknown) || actor.prototype instanceof Supervisor;
}
