/**
 * A supervisor of any number of children of one kind, started on demand from one specification: OTP's
 * `simple_one_for_one`. Each child is its own affair; by default it is not started again when it ends.
 */

import type { Actor } from "./actor.ts";
import type { ChildSpec, SupervisorSpec } from "./child_spec.ts";
import type { Ref } from "./ref.ts";
import { Supervisor } from "./supervisor.ts";

/** What a dynamic supervisor starts, and its budgets as of any supervisor. */
export interface DynamicSupervisorSpec extends Pick<SupervisorSpec, "intensity" | "periodMs" | "cap"> {
  /** What each child is: its id is followed by a number, its arguments by those given to `start`. No name. */
  readonly template: ChildSpec;
}

/** Starts, watches and stops any number of children of one kind; empty at first. */
export class DynamicSupervisor<A extends Actor = any> extends Supervisor {
  readonly #template: ChildSpec;
  #started = 0;

  /** Called by the runtime, with the argument given to `spawn` or `child`. */
  constructor({ template, ...spec }: DynamicSupervisorSpec) {
    super({ ...spec, strategy: "one_for_one", children: [] });
    this.#template = template;
  }

  /** Starts one more. @throws RuntimeError SPAWN_FAILED. */
  start(...args: unknown[]): Promise<Ref<A>> {
    const { id, args: first } = this.#template;
    return this.startChild({ ...this.#template, id: `${id}-${++this.#started}`, args: [...first, ...args] });
  }
}
