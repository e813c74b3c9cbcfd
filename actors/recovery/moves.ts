/**
 * When a run goes over to another plan, and to which: reasons to look for one come together here (`because`), one is looked
 * for while a step is under way, and where it is worth it, it is wanted until the run is between two steps.
 */

import type { Clock } from "../../runtime/index.ts";
import type { Plan } from "../scheduler/plan.ts";
import type { RecoveryOptions } from "../scheduler/scheduler-options.ts";
import { type Cause, isDue, type LastMove } from "./decision.ts";
import type { Replanner } from "./replanner.ts";
import type { Roster } from "./roster.ts";

/** A plan to go over to, and who hears how that went. */
export interface Wanted {
  readonly plan: Plan;
  done(outcome: MoveOutcome): void;
}

/** Those that say most come first. */
const CAUSES: readonly Cause[] = ["lost", "joined", "drifted"];

export interface MoveOutcome {
  /** That stages were given. */
  readonly bytes: number;
  /** For which the run stood still. */
  readonly ms: number;
  /** Why it could not be, and the run goes on as it did; left out where it could. */
  readonly failure?: string;
}

export class Moves {
  /** Of a run that was planned here, by what devices were measured as. */
  replanner: Replanner | undefined;
  /** Whether the plan was given, so that there is never another one but for losses. */
  isGiven = false;
  private readonly clock: Clock;
  private readonly roster: Roster;
  private readonly recovery: RecoveryOptions | undefined;
  private wanted: Wanted | undefined;
  private readonly causes = new Set<Cause>();
  /** The step behind which the run went over to another plan, and nobody was lost; and what that cost, in steps. */
  private movedAt: number | null = null;
  private costSteps = 0;
  /** The longest that it took until stages were there. */
  private startMs = 0;

  constructor(roster: Roster, clock: Clock, recovery: RecoveryOptions | undefined) {
    this.roster = roster;
    this.clock = clock;
    this.recovery = recovery;
  }

  /** The run goes over to this plan before the next step. */
  want(plan: Plan, done: Wanted["done"] = () => {}): void {
    this.wanted = { plan, done };
  }

  /** What is wanted; undefined where the run goes on as it does. */
  get next(): Plan | undefined {
    return this.wanted?.plan;
  }

  /** What is wanted, for whoever sees to it now. */
  take(): Wanted | undefined {
    const { wanted } = this;
    this.wanted = undefined;
    return wanted;
  }

  /** There may be a better plan from here on. */
  because(cause: Cause): void {
    this.causes.add(cause);
  }

  /** Stages were there after so long. */
  started(ms: number): void {
    this.startMs = Math.max(this.startMs, ms);
  }

  private lastMove(step: number): LastMove | null {
    if (this.movedAt === null) return null;
    return { stepsSince: step - this.movedAt, costSteps: this.costSteps };
  }

  /**
   * Looks for a better plan if there is reason to. This thread has nothing to do while a step is under way.
   * @param present plan. @param step that is under way.
   */
  consider(present: Plan, step: number, lastStep: number): void {
    const { recovery, replanner, causes, clock } = this;
    if (!recovery || this.wanted || step >= lastStep) return;
    const bound = this.isGiven ? "it was given, and is carried out as it is" : replanner?.bound(present);
    if (bound && causes.has("joined")) {
      const why = `${bound}; whoever comes keeps copies, and takes over where one is lost`;
      const figures = { oldStepMs: null, newStepMs: null, planMs: 0, movedBytes: 0, moveMs: 0 };
      recovery.considered?.({ cause: "joined", moved: false, why, ...figures, plan: present });
    }
    if (bound) causes.clear();
    if (!replanner || !isDue(causes, this.lastMove(step))) return;
    // What people have seen is what they are to be told the consequence of.
    const cause = CAUSES.find((each) => causes.has(each));
    causes.clear();
    const began = clock.now();
    const alive = this.roster.living().map(({ id }) => id);
    const { next, why, ...figures } = replanner.propose(present, alive, lastStep - step, this.startMs);
    const found = { cause: cause!, ...figures, planMs: clock.now() - began };
    const stays = (because: string, moveMs = 0) => {
      recovery.considered?.({ ...found, why: because, moved: false, movedBytes: 0, moveMs, plan: present });
    };
    if (!next) {
      stays(why);
      return;
    }
    this.want(next, ({ bytes, ms, failure }) => {
      if (cause !== "lost") {
        this.movedAt = step;
        this.costSteps = ms / (figures.oldStepMs ?? ms);
      }
      if (failure !== undefined) stays(failure, ms);
      else recovery.considered?.({ ...found, why, moved: true, movedBytes: bytes, moveMs: ms, plan: next });
    });
  }
}
