/**
 * When a run goes over to another plan, and to which: reasons to look for one come together here (`because`), one is looked
 * for while a step is under way, and where it is worth it, it is wanted: its stages are made ready while steps go on
 * (`preparing.ts`), and from then on it is gone over to as soon as the run is between two of them.
 */

import type { Clock } from "../../runtime/index.ts";
import { dealLost } from "../scheduler/dealt.ts";
import { type Plan, usesDevice } from "../scheduler/plan.ts";
import type { RecoveryOptions } from "../scheduler/scheduler-options.ts";
import type { CourseWorld } from "./course.ts";
import { type Cause, isDue, type LastMove } from "./decision.ts";
import { isLinkFailure } from "./links.ts";
import type { Replanner } from "./replanner.ts";
import type { Roster } from "./roster.ts";

/** A plan to go over to, and who hears how that went. */
export interface Wanted {
  plan: Plan;
  done(outcome: MoveOutcome): void;
}

/** Those that say most come first. */
const CAUSES: readonly Cause[] = ["lost", "joined", "drifted"];

export interface MoveOutcome {
  /** That the run goes on with. */
  readonly plan: Plan;
  /** That stages were given. */
  readonly bytes: number;
  /** For which the run stood still. */
  readonly ms: number;
  /** For which stages were made ready before, while steps went on. */
  readonly preparedMs: number;
  /** Why it could not be, and the run goes on as it did; left out where it could. */
  readonly failure?: string;
}

/** Whoever makes the stages of plans ready. */
export interface Preparer {
  /** @throws what a device fails with that cannot do its part. */
  prepare(plan: Plan): Promise<void>;
  /** No plan is wanted. */
  release(): void;
}

export class Moves {
  /** Of a run that was planned here, by what devices were measured as. */
  replanner: Replanner | undefined;
  /** Whether the plan was given, so that there is never another one but for losses. */
  isGiven = false;
  private readonly clock: Clock;
  private readonly roster: Roster;
  private readonly recovery: RecoveryOptions | undefined;
  private readonly preparer: Preparer;
  private wanted: Wanted | undefined;
  /** For how long the stages of what is wanted were made ready; null as long as they are not. */
  private preparedMs: number | null = null;
  private readonly causes = new Set<Cause>();
  /** The step behind which the run went over to another plan, and nobody was lost; and what that cost, in steps. */
  private movedAt: number | null = null;
  private costSteps = 0;
  /** The longest that it took until stages were there. */
  private startMs = 0;

  constructor(
    { roster, clock, recovery }: Pick<CourseWorld, "roster" | "clock" | "recovery">,
    preparer: Preparer,
  ) {
    this.roster = roster;
    this.clock = clock;
    this.recovery = recovery;
    this.preparer = preparer;
  }

  /**
   * The run goes over to this plan, and to none that was wanted before, as soon as its stages are ready and it is between two
   * steps. Resolves when they are, or it is not wanted any more.
   */
  async want(plan: Plan, done: Wanted["done"] = () => {}): Promise<void> {
    const wanted = { plan, done };
    const began = this.clock.now();
    this.wanted = wanted;
    this.preparedMs = null;
    try {
      await this.preparer.prepare(plan);
      if (this.wanted === wanted) this.preparedMs = this.clock.now() - began;
    } catch (error) {
      if (this.wanted !== wanted) return;
      this.take();
      const preparedMs = this.clock.now() - began;
      // Somebody is gone, which is not known yet: there may be a plan without.
      if (isLinkFailure(error)) this.because("lost");
      else done({ plan, bytes: 0, ms: 0, preparedMs, failure: (error as Error).message });
    }
  }

  /** The run has come to what this plan begins with, at this cost, and goes over to it before the next step. */
  goOnTo({ plan, done }: Wanted, before: MoveOutcome): void {
    const all = ({ bytes, ms, ...outcome }: MoveOutcome) => {
      return { ...outcome, bytes: before.bytes + bytes, ms: before.ms + ms, preparedMs: before.preparedMs };
    };
    this.wanted = { plan, done: (outcome) => done(all(outcome)) };
    this.preparedMs = 0;
  }

  /** What is gone over to before the next step; undefined where the run goes on as it does. */
  get next(): Plan | undefined {
    return this.preparedMs === null ? undefined : this.wanted?.plan;
  }

  /** A device is gone: what is wanted is without it, if others of its stages can do its part, and is not wanted otherwise. */
  lose(id: string): void {
    const { wanted } = this;
    if (!wanted || !usesDevice(wanted.plan, id)) return;
    const dealt = dealLost(wanted.plan, new Set([id]));
    if (dealt) wanted.plan = dealt;
    else this.take();
    this.because("lost");
  }

  /** What is wanted, for whoever sees to it now, and for how long it was made ready. */
  take(): (Wanted & Pick<MoveOutcome, "preparedMs">) | undefined {
    const { wanted, preparedMs } = this;
    this.wanted = undefined;
    this.preparedMs = null;
    return wanted && { ...wanted, preparedMs: preparedMs ?? 0 };
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
    this.look(present, step, lastStep);
    if (!this.wanted) this.preparer.release();
  }

  private look(present: Plan, step: number, lastStep: number): void {
    const { recovery, replanner, causes, clock } = this;
    if (!recovery || this.wanted || step >= lastStep) return;
    const bound = this.isGiven ? "it was given, and is carried out as it is" : replanner?.bound(present);
    if (bound && causes.has("joined")) {
      const why = `${bound}; whoever comes keeps copies, and takes over where one is lost`;
      const figures = {
        oldStepMs: null,
        newStepMs: null,
        planMs: 0,
        preparedMs: 0,
        movedBytes: 0,
        moveMs: 0,
      };
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
    const stays = (because: string, preparedMs = 0, moveMs = 0) => {
      const cost = { preparedMs, movedBytes: 0, moveMs };
      recovery.considered?.({ ...found, ...cost, why: because, moved: false, plan: present });
    };
    if (!next) {
      stays(why);
      return;
    }
    void this.want(next, ({ plan, bytes, ms, preparedMs, failure }) => {
      if (cause !== "lost") {
        this.movedAt = step;
        this.costSteps = ms / (figures.oldStepMs ?? ms);
      }
      if (failure !== undefined) return stays(failure, preparedMs, ms);
      const cost = { preparedMs, movedBytes: bytes, moveMs: ms };
      recovery.considered?.({ ...found, ...cost, why, moved: true, plan });
    });
  }
}
