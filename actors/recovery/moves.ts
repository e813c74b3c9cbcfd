/**
 * When a run goes over to another plan, and to which: reasons to look for one come together here (`because`), one is looked
 * for while a step is under way, and where it is worth it, it is wanted (`wanted.ts`): its stages are made ready while steps go
 * on (`preparing.ts`), and from then on it is gone over to as soon as the run is between two of them. For those that have come
 * one is looked for so late in a step that it is just ready at the end of it.
 */

import type { Clock, Timer } from "../../runtime/index.ts";
import { type Plan, usesDevice } from "../scheduler/plan.ts";
import type { RecoveryOptions } from "../scheduler/scheduler-options.ts";
import type { CourseWorld } from "./course-world.ts";
import { type Cause, gatherMs, isDue, type LastMove } from "./decision.ts";
import { isLinkFailure } from "./links.ts";
import type { Bounds } from "./recovery.ts";
import type { Replanner } from "./replanner.ts";
import type { Roster } from "./roster.ts";
import { UnderWay } from "./under-way.ts";
import { type Found, type MoveOutcome, type Next, type Wanted, WantedPlans } from "./wanted.ts";

/** Those that say most come first. */
const CAUSES: readonly Cause[] = ["lost", "joined", "drifted"];

/** Whoever makes the stages of plans ready. */
export interface Preparer {
  /** @throws what a device fails with that cannot do its part. */
  prepare(plan: Plan): Promise<void>;
  /** No plan is wanted. */
  release(): void;
}

/** A step that is under way. */
interface Stepping {
  /** That it goes by. */
  readonly plan: Plan;
  readonly step: number;
  readonly lastStep: number;
  /** When it is over, by prediction. */
  readonly endMs: number;
  /** Whether it is over, or is to go on in another way, for somebody was lost. */
  isOver: boolean;
}

/** What a change of plans between two steps came to. */
export interface Change {
  /** That the run goes on with. */
  readonly plan: Plan;
  /** Whether newcomers have nothing to do in it. */
  readonly isFirst: boolean;
  /** That stages were given while the run stood still, and in the step before. */
  readonly bytes: number;
  readonly lateBytes: number;
  /** For which it stood still. */
  readonly ms: number;
}

export class Moves {
  /** Of a run that was planned here, by what devices were measured as. */
  replanner: Replanner | undefined;
  /** Whether the plan was given, so that there is never another one but for losses. */
  isGiven = false;
  readonly underWay: UnderWay;
  private readonly clock: Clock;
  private readonly roster: Roster;
  private readonly recovery: RecoveryOptions | undefined;
  private readonly preparer: Preparer;
  private readonly wanted = new WantedPlans();
  private readonly causes = new Set<Cause>();
  /** The step behind which the run went over to another plan, and nobody was lost; and what that cost, in steps. */
  private movedAt: number | null = null;
  private costSteps = 0;
  /** The longest that it took until stages were there. */
  private startMs = 0;
  /** What it took of late to find a plan, and to make its stages ready. */
  private planMs = 0;
  private preparedMs: number | undefined;
  private stepping: Stepping | undefined;
  /** Fires when a plan is to be looked for, for all who have come until then. */
  private gathering: Timer;

  constructor(
    { roster, clock, recovery }: Pick<CourseWorld, "roster" | "clock" | "recovery">,
    preparer: Preparer,
  ) {
    this.roster = roster;
    this.clock = clock;
    this.underWay = new UnderWay(clock);
    this.recovery = recovery;
    this.preparer = preparer;
  }

  /**
   * The run goes over to this plan as soon as its stages are ready and it is between two steps, and to none that was wanted
   * before, but that it goes on from the first step of one which it is in. Resolves when they are, or it is not wanted any more.
   * @param found how; undefined where somebody asks for it.
   */
  async want(plan: Plan, done: Wanted["done"] = () => {}, found?: Found): Promise<void> {
    const wanted = this.wanted.add(plan, done, found);
    const began = this.clock.now();
    try {
      await this.preparer.prepare(plan);
      const ms = this.clock.now() - began;
      if (this.wanted.isReady(wanted, ms)) this.preparedMs = ofLate(ms, this.preparedMs);
    } catch (error) {
      if (!this.wanted.isRefused(wanted)) return;
      const preparedMs = this.clock.now() - began;
      this.count(wanted);
      // Somebody is gone, which is not known yet: there may be a plan without.
      if (isLinkFailure(error)) this.because("lost");
      else done({ plan, bytes: 0, ms: 0, preparedMs, failure: (error as Error).message });
    }
    this.lookInTime();
  }

  /** Whether the run goes over to another plan before the next step. */
  get isNext(): boolean {
    return this.wanted.isNext;
  }

  /** What the run goes over to before this step, for whoever sees to it now; in the middle of it there is nothing. */
  takeNext(step: number): Next | undefined {
    if (this.underWay.isIn(step)) return undefined;
    if (this.stepping) this.stepping.isOver = true;
    this.decideAgain(step);
    const next = this.wanted.take();
    if (next?.late?.found) this.because(next.late.found.cause);
    return next;
  }

  /** What is ready may have been found many steps ago: it is not gone over to where too few are left for it from this one on. */
  private decideAgain(step: number): void {
    const { wanted, stepping, present } = this;
    const { readied } = wanted;
    const { found } = readied ?? {};
    // Where somebody was lost meanwhile, it was decided for other plans.
    if (!readied || !stepping || found?.plan !== readied.plan || found.present !== present) return;
    const decision = found.again?.(stepping.lastStep - step + 1);
    if (!decision) return;
    const { moves, why } = decision;
    readied.why = why;
    if (moves) return;
    wanted.refuse();
    readied.done({ plan: present, bytes: 0, ms: 0, preparedMs: readied.preparedMs, failure: why });
  }

  /** That the run goes by, or is in the first step of; undefined where no step is under way. */
  private get present(): Plan | undefined {
    return this.wanted.inFirstStep?.plan ?? this.stepping?.plan;
  }

  /** What a plan is made by that the run goes on with in this step, without somebody. */
  within(step: number): Pick<Bounds, "replanner" | "midway"> {
    return { replanner: this.replanner, midway: this.underWay.midway(step) };
  }

  /** The run has gone over to it. */
  went({ wanted, passed }: Next, { plan, isFirst, bytes, lateBytes, ms }: Change): void {
    (passed ?? wanted).bytes += lateBytes;
    wanted.bytes += bytes;
    wanted.ms += ms;
    if (passed) tell(passed, plan);
    this.count(wanted);
    if (isFirst) this.begin(wanted);
    else tell(wanted, plan);
  }

  /** The run could not go over to it, goes on by this plan, and has stood still for so long. */
  stayed({ wanted, passed }: Next, plan: Plan, ms: number, failure: string): void {
    wanted.ms += ms;
    this.count(wanted);
    if (passed) this.begin(passed);
    wanted.done({ plan, bytes: 0, ms: wanted.ms, preparedMs: wanted.preparedMs, failure });
  }

  /** Somebody may be lost that has it, since it was taken. */
  private begin(wanted: Wanted): void {
    this.wanted.begin(wanted);
    for (const id of this.roster.lost()) this.lose(id);
  }

  /** Whether there are newcomers who have nothing to do in the step that is under way. */
  get isInFirstStep(): boolean {
    return this.wanted.inFirstStep !== undefined;
  }

  /** Their first step was the last one of the run, which goes by this plan. @param lateBytes that they were given in it. */
  over(plan: Plan, lateBytes: number): void {
    const begun = this.wanted.inFirstStep!;
    begun.bytes += lateBytes;
    tell(begun, plan);
    begun.done = () => {};
  }

  /** What is wanted is not any more. */
  drop(): void {
    this.wanted.drop();
  }

  /** A device is gone: what is wanted is without it, if others of its stages can do its part, and is not wanted otherwise. */
  lose(id: string): void {
    if (this.stepping && usesDevice(this.stepping.plan, id)) this.stepping.isOver = true;
    if (this.wanted.lose(id)) this.because("lost");
  }

  /** There may be a better plan from here on. */
  because(cause: Cause): void {
    this.causes.add(cause);
    this.lookInTime();
  }

  /** Stages were there after so long. */
  started(ms: number): void {
    this.startMs = Math.max(this.startMs, ms);
  }

  /**
   * A step is under way: looks for a better plan if there is reason to. This thread has nothing to do meanwhile. For whoever
   * comes from here on one is looked for in the same step, if what is left of it is enough.
   * @param plan that it goes by. @param step which may have been under way before, when somebody was lost.
   */
  consider(plan: Plan, step: number, lastStep: number): void {
    const { stepping: before, wanted } = this;
    const goesOn = before?.step === step;
    const endMs = goesOn ? before.endMs : this.clock.now() + plan.predictedStepMs;
    this.stepping = { plan, step, lastStep, endMs, isOver: false };
    // Where there are many, one or another is lost in every step.
    if (goesOn && wanted.isNext) this.lookInTime();
    else this.look();
    if (!wanted.isPrepared) this.preparer.release();
  }

  /** No step is under way any more. */
  end(): void {
    this.stepping = undefined;
    this.clock.clearTimer(this.gathering);
  }

  /** Looks for a plan for those that have come, as soon as there is no time for others to come as well. */
  private lookInTime(): void {
    this.clock.clearTimer(this.gathering);
    const { stepping, causes } = this;
    if (!stepping || stepping.step >= stepping.lastStep) return;
    const mayLook = () => stepping === this.stepping && !stepping.isOver && causes.has("joined");
    if (!mayLook()) return;
    const leftMs = stepping.endMs - this.clock.now();
    const takesMs = this.planMs + (this.preparedMs ?? this.startMs);
    const waitMs = gatherMs(leftMs, takesMs, stepping.plan.predictedStepMs);
    if (waitMs === 0) this.look();
    else if (waitMs !== null) this.gathering = this.clock.setTimer(() => mayLook() && this.look(), waitMs);
  }

  private look(): void {
    const { recovery, replanner, causes, clock, wanted, stepping } = this;
    if (!recovery || !stepping || wanted.isComing) return;
    const { step, lastStep } = stepping;
    if (step >= lastStep) return;
    const present = this.present!;
    const bound = this.isGiven ? "it was given, and is carried out as it is" : replanner?.bound(present);
    if (bound && causes.has("joined")) {
      const why = `${bound}; whoever comes keeps copies, and takes over where one is lost`;
      const figures = { oldStepMs: null, newStepMs: null, planMs: 0 };
      const cost = { preparedMs: 0, movedBytes: 0, moveMs: 0 };
      recovery.considered?.({ cause: "joined", moved: false, why, ...figures, ...cost, plan: present });
    }
    if (bound) causes.clear();
    if (!replanner || !isDue(causes, this.lastMove(step))) return;
    // What people have seen is what they are to be told the consequence of.
    const cause = CAUSES.find((each) => causes.has(each))!;
    causes.clear();
    const began = clock.now();
    const alive = this.roster.living().map(({ id }) => id);
    const { next, again, why, ...figures } = replanner.propose(present, alive, lastStep - step, this.startMs);
    const planMs = clock.now() - began;
    this.planMs = ofLate(planMs, this.planMs);
    const about = { cause, ...figures, planMs };
    if (!next) {
      const cost = { preparedMs: 0, movedBytes: 0, moveMs: 0 };
      recovery.considered?.({ ...about, ...cost, why, moved: false, plan: present });
      return;
    }
    const done = ({ plan, bytes, ms, preparedMs, why: now = why, failure }: MoveOutcome) => {
      const cost = { preparedMs, movedBytes: bytes, moveMs: ms };
      const moved = failure === undefined;
      recovery.considered?.({ ...about, ...cost, why: failure ?? now, moved, plan });
    };
    void this.want(next, done, { cause, step, oldStepMs: figures.oldStepMs, plan: next, present, again });
  }

  private lastMove(step: number): LastMove | null {
    if (this.movedAt === null) return null;
    return { stepsSince: step - this.movedAt, costSteps: this.costSteps };
  }

  /** Behind a move there is none for a while. */
  private count({ found, ms }: Wanted): void {
    if (!found || found.cause === "lost") return;
    this.movedAt = found.step;
    this.costSteps = ms / (found.oldStepMs ?? ms);
  }
}

function tell({ done, bytes, ms, preparedMs, why }: Wanted, plan: Plan): void {
  done({ plan, bytes, ms, preparedMs, why });
}

/** The longest of late: what took longer before counts for half of that. */
function ofLate(ms: number, before = 0): number {
  return Math.max(ms, before / 2);
}
