/**
 * How often a run keeps what a step leaves, by what that costs it: pure. It begins as the plan says (`pace.ts`), and goes by
 * measurement from there on: steps with copies on their way take longer than steps without, by medians, and of every so
 * many steps so many are with. Where that is more than copies may cost, fewer steps are kept; where it is clearly less,
 * more are. What the spread of step times may be the cause of is no reason to keep fewer.
 *
 * Where replicas make copies by themselves of each step's gradients, those of every step are as many bytes as whole ones of
 * every few steps. So every step is kept where that costs as little, and where it does not, at once so few that it pays to
 * give them whole.
 *
 * Where copies are always on their way there is nothing to compare with: then a point waits for a step, now and then.
 */

import { median } from "../../nn/profile/rounds.ts";
import { MOST_COST } from "./pace.ts";

/** Steps of each kind that are compared, the newest. */
const WINDOW = 16;
/** Steps that were made before so many others are compared no more. */
const MOST_AGE = 96;
/** As many have to be known of each kind. */
const LEAST_STEPS = 4;
/** A point waits after so many steps with copies in a row; twice as soon while little is known. */
const STEPS_IN_A_ROW = 16;
/** As long as copies cost no more than this part of what they may, they would be no trouble if there were more of them. */
const ROOM = 0.8;
/** Whoever loses a device does not lose more steps than this with it. */
const MOST_EVERY = 32;
/** As many points in a row that were given whole are no chance either. */
const MOST_WHOLE = 3;
/** Steps until gradients are tried again that were measured to cost too much; twice as many each further time. */
const RETRY = 256;
/** A difference is no chance where it is so many times its standard error. */
const SURE = 3;
/** Standard deviations of the median of normal values over their median absolute deviation, times the root of how many they are. */
const ERROR_OF_MEDIAN = 1.86;

/** What copies were measured to cost. */
export interface CopyCost {
  /** Milliseconds of a step without. */
  readonly stepMs: number;
  /** More, of one with copies on their way. */
  readonly extraMs: number;
  /** What copies make the run longer by, as a part of it. */
  readonly part: number;
}

/** A step: how many there were before it, and how long it took. */
interface Passed {
  readonly at: number;
  readonly ms: number;
}

export class Cadence {
  /** Of so many steps one is kept, at most. */
  every: number;
  /** As last compared. */
  private known: CopyCost | null = null;
  private readonly plain: Passed[] = [];
  private readonly copying: Passed[] = [];
  /** Steps with copies since the last one without. */
  private inARow = 0;
  /** Since it began: steps with copies, and of both kinds. */
  private copied = 0;
  private steps = 0;
  /** Steps that copies of one point are on their way for. */
  private perPoint = 1;
  private since = 0;
  private gain: number;
  /** Points in a row whose copies were given whole, though they might not have been. */
  private whole = 0;
  /** Gradients are not to be tried before so many steps; how often they were found to cost too much. */
  private notBefore = 0;
  private found = 0;

  /**
   * @param every as the plan says.
   * @param gain so many times as large as its gradients a step's copies are, where replicas can make them of those; else 1.
   */
  constructor(every: number, gain = 1) {
    this.every = every;
    this.gain = gain;
  }

  /** Whether replicas are to be given gradients, where they have copies of the step before. */
  get follows(): boolean {
    return this.gain > 1 && this.every === 1;
  }

  /** A step is over. @param isCopying whether copies were on their way in it. */
  passed(ms: number, isCopying: boolean): void {
    const own = isCopying ? this.copying : this.plain;
    own.push({ at: this.steps, ms });
    this.steps++;
    // The run may go faster or slower than it did.
    const isOld = (at: number) => at <= this.steps - MOST_AGE;
    if (own.length > WINDOW) own.shift();
    for (const steps of [this.plain, this.copying]) while (steps[0] && isOld(steps[0].at)) steps.shift();
    this.inARow = isCopying ? this.inARow + 1 : 0;
    if (!isCopying) return;
    this.copied++;
    this.since++;
  }

  /** Whether the next point is to wait for a step without copies, so that there is something to compare with. */
  get lacksPlain(): boolean {
    const most = this.plain.length < LEAST_STEPS ? STEPS_IN_A_ROW / 2 : STEPS_IN_A_ROW;
    return this.inARow >= most;
  }

  /**
   * All copies of a step are where they are to be.
   * @param isWhole whether all were given whole. @returns whether it goes by another number of steps from here on.
   */
  complete(isWhole = true): boolean {
    this.perPoint = Math.max(1, this.since);
    this.since = 0;
    this.whole = this.follows && isWhole ? this.whole + 1 : 0;
    if (this.whole >= MOST_WHOLE) this.gain = 1;
    const { every } = this;
    const compared = this.compare();
    if (!compared) return false;
    this.known = this.cost ?? this.known;
    const { stepMs, extraMs, errorMs } = compared;
    /** Steps from one point to the next with which copies cost so much. */
    const enough = (ms: number, cost: number) => Math.ceil((ms * this.perPoint) / (cost * stepMs) - 1e-9);
    const mayFollow = this.gain > 1 && this.steps >= this.notBefore;
    const fewest = Math.max(enough(extraMs + errorMs, ROOM * MOST_COST), this.perPoint);
    if (enough(extraMs - SURE * errorMs, MOST_COST) > this.apart) {
      const times = this.follows ? this.gain : 1;
      if (this.follows) this.notBefore = this.steps + RETRY * 2 ** this.found++;
      this.every = Math.min(Math.max(enough(times * extraMs, MOST_COST), every + 1), MOST_EVERY);
    } else if (mayFollow && every > 1 && fewest <= this.gain) {
      this.every = 1;
    } else if (every > this.perPoint) {
      this.every = Math.min(every, Math.max(fewest, Math.ceil(every / 2)));
    }
    if (this.every === every) return false;
    // Steps with copies come out otherwise from here on.
    this.copying.length = 0;
    return true;
  }

  /** Steps from one that is kept to the next: as many as copies are on their way for, at least. */
  get apart(): number {
    return Math.max(this.every, this.perPoint);
  }

  /** Null as long as too few steps of either kind are known, or steps differ too much to say. */
  get cost(): CopyCost | null {
    const compared = this.compare();
    if (!compared) return this.known;
    const { stepMs, extraMs, errorMs } = compared;
    if (errorMs > MOST_COST * stepMs && extraMs < SURE * errorMs) return null;
    return { stepMs, extraMs, part: (extraMs * this.copied) / (stepMs * this.steps) };
  }

  private compare() {
    const plain = this.plain.map(({ ms }) => ms);
    const copying = this.copying.map(({ ms }) => ms);
    if (plain.length < LEAST_STEPS || copying.length < LEAST_STEPS) return null;
    const stepMs = median(plain);
    if (!(stepMs > 0)) return null;
    const withMs = median(copying);
    const apart = [
      ...plain.map((ms) => Math.abs(ms - stepMs)),
      ...copying.map((ms) => Math.abs(ms - withMs)),
    ];
    const errorMs = ERROR_OF_MEDIAN * median(apart) * Math.sqrt(1 / plain.length + 1 / copying.length);
    return { stepMs, extraMs: Math.max(0, withMs - stepMs), errorMs };
  }
}
