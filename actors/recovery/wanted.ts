/**
 * Plans that a run is to go over to, between two steps each. One comes after the other: its stages are made ready while steps
 * go on, then it is ready, and where it has newcomers the run begins with it by a first step in which these have nothing to
 * do (`newcomers.ts`). While it is in that first step, another one may be made ready for those that have come since: then it
 * goes over to that one behind it, which gives the first ones work and begins a first step for the next ones.
 */

import { dealLost } from "../scheduler/dealt.ts";
import { type Plan, usesDevice } from "../scheduler/plan.ts";
import type { Cause, Decision } from "./decision.ts";

/** What going over to a plan has come to. */
export interface MoveOutcome {
  /** That the run goes on with. */
  readonly plan: Plan;
  /** That stages were given. */
  readonly bytes: number;
  /** For which the run stood still. */
  readonly ms: number;
  /** For which stages were made ready before, while steps went on. */
  readonly preparedMs: number;
  /** Why it was worth it when it was gone over to; left out where that was not asked again. */
  readonly why?: string | undefined;
  /** Why it could not be, and the run goes on as it did; left out where it could. */
  readonly failure?: string;
}

/** How a plan was found. */
export interface Found {
  readonly cause: Cause;
  /** That was under way. */
  readonly step: number;
  /** Predicted, of a step by the plan before; null where nobody knows. */
  readonly oldStepMs: number | null;
  /** It, as it was found, and the plan that the run went by. */
  readonly plan: Plan;
  readonly present: Plan;
  /** Decides again by the steps that are left; what is left out has been decided for good. */
  readonly again?: ((stepsLeft: number) => Decision) | undefined;
}

/** A plan to go over to, who hears how that went, and what it has come to so far. */
export interface Wanted {
  plan: Plan;
  /** Undefined of one that somebody asked for. */
  readonly found: Found | undefined;
  done: (outcome: MoveOutcome) => void;
  preparedMs: number;
  bytes: number;
  ms: number;
  /** As it was when its stages were ready; undefined before. */
  why?: string;
}

/** What the run goes over to. */
export interface Next {
  readonly wanted: Wanted;
  /** Another one whose first step is over: whoever was new in it has work from here on. */
  readonly passed: Wanted | undefined;
  /** Another one that was found in its place, is not ready, and not wanted any more. */
  readonly late: Wanted | undefined;
}

export class WantedPlans {
  /** In whose first step the run is. */
  private begun: Wanted | undefined;
  /** Whose stages are ready. */
  private ready: Wanted | undefined;
  /** Whose stages are made ready. */
  private coming: Wanted | undefined;

  /** Whether one is being made ready. */
  get isComing(): boolean {
    return this.coming !== undefined;
  }

  /** Whether the run would go over to one now. */
  get isNext(): boolean {
    return (this.ready ?? this.begun) !== undefined;
  }

  /** Whether stages are made ready, or are, that nobody has taken yet. */
  get isPrepared(): boolean {
    return (this.coming ?? this.ready) !== undefined;
  }

  /** What the run would go over to now, and has not begun with. */
  get readied(): Wanted | undefined {
    return this.ready;
  }

  /** What is ready is not gone over to. */
  refuse(): void {
    this.ready = undefined;
  }

  /** What the run is in the first step of. */
  get inFirstStep(): Wanted | undefined {
    return this.begun;
  }

  /**
   * This one comes, and none that came before. If it was found, and is not in time, the run goes over to one that is ready.
   */
  add(plan: Plan, done: Wanted["done"], found: Found | undefined): Wanted {
    // What somebody asks for is not the same better.
    if (!found) this.ready = undefined;
    this.coming = { plan, done, found, preparedMs: 0, bytes: 0, ms: 0 };
    return this.coming;
  }

  /** It is ready after so long, and gone over to in place of one that was before. @returns whether it is wanted. */
  isReady(wanted: Wanted, preparedMs: number): boolean {
    if (this.coming !== wanted) return false;
    this.coming = undefined;
    // What both have has been made ready for that one.
    wanted.preparedMs = preparedMs + (this.ready?.preparedMs ?? 0);
    this.ready = wanted;
    return true;
  }

  /** Its stages cannot be made ready. @returns whether it is wanted. */
  isRefused(wanted: Wanted): boolean {
    if (this.coming !== wanted) return false;
    this.coming = undefined;
    return true;
  }

  /**
   * What the run goes over to now: what is ready, or else what it has begun with. What comes was found in place of what is
   * ready, and is not wanted any more where that is gone over to; behind what the run has begun with it still is.
   */
  take(): Next | undefined {
    const { begun, ready, coming } = this;
    const wanted = ready ?? begun;
    if (!wanted) return undefined;
    this.begun = undefined;
    this.ready = undefined;
    if (!ready) return { wanted, passed: undefined, late: undefined };
    this.coming = undefined;
    return { wanted, passed: begun, late: coming };
  }

  /** The run is in the first step of it. */
  begin(wanted: Wanted): void {
    this.begun = wanted;
  }

  /** A device is gone: what is wanted is without it, if others do its part, or not wanted any more. @returns whether any had it. */
  lose(id: string): boolean {
    const without = (wanted: Wanted | undefined): Wanted | undefined => {
      if (!wanted || !usesDevice(wanted.plan, id)) return wanted;
      had = true;
      const dealt = dealLost(wanted.plan, new Set([id]));
      if (dealt) wanted.plan = dealt;
      return dealt ? wanted : undefined;
    };
    let had = false;
    this.begun = without(this.begun);
    this.ready = without(this.ready);
    this.coming = without(this.coming);
    return had;
  }

  /** None is wanted. */
  drop(): void {
    this.begun = undefined;
    this.ready = undefined;
    this.coming = undefined;
  }
}
