/**
 * A supervisor: an actor that starts its children in order, starts them again when they fail, as its strategy
 * says, and gives up (crashes, so that its own supervisor decides) when they fail too often. It stops its
 * children in reverse order when it stops. It knows nothing of what its children do.
 *
 * Semantics are those of Erlang/OTP's `supervisor`; see child_spec.ts for the words. A child's ref, name and
 * queued messages survive its restarts; a child that is not to be started again is forgotten, and what waits for it
 * is refused. A restart that fails counts as another failure and is tried again.
 */

import { Actor, type SupervisedChild } from "./actor.ts";
import type { ChildSpec, SupervisorSpec } from "./child_spec.ts";
import { ActorFailure, RuntimeError } from "./errors.ts";
import type { DownReason } from "./monitor.ts";
import type { Ref } from "./ref.ts";

interface Child {
  readonly spec: ChildSpec;
  readonly handle: SupervisedChild;
  running: boolean;
}

export interface ChildStatus {
  readonly id: string;
  readonly ref: Ref<any>;
  readonly running: boolean;
}

export class Supervisor extends Actor {
  /** Status must be had while a restart is waiting. */
  static override readonly reentrant = ["children", "child"];
  readonly #spec: SupervisorSpec;
  #children: Child[] = [];
  /** Times of the restarts within the last period. */
  #restarts: number[] = [];
  /** Exits are handled one after the other, although signals may overlap. */
  #work: Promise<void> = Promise.resolve();
  #stopping = false;

  constructor(spec: SupervisorSpec) {
    super();
    this.#spec = spec;
  }

  override async onStart(): Promise<void> {
    const ids = new Set<string>();
    for (const spec of this.#spec.children) {
      if (ids.has(spec.id)) throw new RuntimeError("NAME_TAKEN", `two children have the id "${spec.id}"`);
      ids.add(spec.id);
    }
    try {
      for (const spec of this.#spec.children) await this.#add(spec);
    } catch (error) {
      await this.#stopAll();
      throw error;
    }
  }

  override async onStop(): Promise<void> {
    this.#stopping = true;
    await this.#work;
    await this.#stopAll();
  }

  /** The children in the order of their start. */
  async children(): Promise<ChildStatus[]> {
    return this.#children.map(({ spec, handle, running }) => ({ id: spec.id, ref: handle.ref, running }));
  }

  /** The ref of a child. @throws RuntimeError ACTOR_DOWN when there is none of this id. */
  async child(id: string): Promise<Ref<any>> {
    return this.#find(id).handle.ref;
  }

  /** Starts one more child, after the others. */
  async startChild(spec: ChildSpec): Promise<Ref<any>> {
    if (this.#children.some((c) => c.spec.id === spec.id)) {
      throw new RuntimeError("NAME_TAKEN", `a child has the id "${spec.id}" already`);
    }
    return this.#serially(() => this.#add(spec));
  }

  /** Stops a child for good. */
  async stopChild(id: string): Promise<void> {
    await this.#serially(async () => {
      const found = this.#find(id);
      await this.#stop(found);
      this.#drop(found);
    });
  }

  async #add(spec: ChildSpec): Promise<Ref<any>> {
    const handle = this.context.supervise(spec.actor, spec.args, {
      ...(spec.name === undefined ? {} : { name: spec.name }),
      onExit: (reason) => {
        added.running = false;
        return this.#serially(() => this.#exited(added, reason));
      },
    });
    const added: Child = { spec, handle, running: false };
    try {
      await handle.start();
    } catch (error) {
      handle.retire();
      throw error;
    }
    added.running = true;
    this.#children.push(added);
    return handle.ref;
  }

  async #exited(failed: Child, reason: DownReason): Promise<void> {
    // Another child's restart may have dealt with this one in the meantime.
    if (this.#stopping || failed.running || !this.#children.includes(failed)) return;
    const { restart } = failed.spec;
    if (restart === "temporary" || (restart === "transient" && reason.code === "normal")) {
      this.#drop(failed);
      return;
    }
    for (;;) {
      this.#count(failed, reason);
      this.context.node.log({ level: "warn", message: `restarting ${failed.spec.id}: ${reason.message}` });
      const group = this.#affected(failed);
      for (const other of [...group].reverse()) await this.#stop(other);
      try {
        for (const each of group) {
          if (this.#stopping) return;
          if (each !== failed && each.spec.restart === "temporary") this.#drop(each);
          else await this.#start(each);
        }
        return;
      } catch (error) {
        reason = { code: "error", message: (error as Error).message, error: error as Error };
      }
    }
  }

  #affected(failed: Child): Child[] {
    if (this.#spec.strategy === "one_for_one") return [failed];
    if (this.#spec.strategy === "one_for_all") return [...this.#children];
    return this.#children.slice(this.#children.indexOf(failed));
  }

  /** @throws ActorFailure when there were too many restarts. */
  #count(failed: Child, reason: DownReason): void {
    const now = this.context.clock.now();
    const { intensity, periodMs } = this.#spec;
    this.#restarts = this.#restarts.filter((at) => at > now - periodMs);
    this.#restarts.push(now);
    if (this.#restarts.length <= intensity) return;
    throw new ActorFailure(
      `gave up on ${failed.spec.id} after ${intensity} restarts within ${periodMs} ms: ${reason.message}`,
      { cause: reason.error },
    );
  }

  async #start(one: Child): Promise<void> {
    await one.handle.start();
    one.running = true;
  }

  async #stop(one: Child): Promise<void> {
    one.running = false;
    await one.handle.stop(one.spec.shutdownMs);
  }

  #drop(one: Child): void {
    one.handle.retire();
    this.#children = this.#children.filter((c) => c !== one);
  }

  async #stopAll(): Promise<void> {
    for (const each of [...this.#children].reverse()) {
      await this.#stop(each);
      each.handle.retire();
    }
    this.#children = [];
  }

  #find(id: string): Child {
    const found = this.#children.find((c) => c.spec.id === id);
    if (!found) throw new RuntimeError("ACTOR_DOWN", `the supervisor has no child "${id}"`);
    return found;
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
