/**
 * What all others of their stages do again of a step, in simulations of churn: micro-batches of lost members are dealt to
 * whoever is done with them first, and done among all else (`actors/scheduler/dealt.ts`, `actors/stage/rest.ts`).
 *
 * A stage that has more to do holds up those before and behind it: a step is longer by more than what the stage does again
 * that has most. By how much was found by simulating what is left of programs, of a hundred devices and of a thousand, of
 * which 1, 5 and 20 are lost at once at any time of a step: with `HELD_UP` it is right to a quarter, and too much where one of
 * a thousand is lost.
 */

import { dealCounts } from "../../actors/scheduler/planner/deal.ts";

const HELD_UP = 1.6;

interface Lost {
  count: number;
  /** Of a micro-batch, of each member that is left. */
  passMs: readonly number[];
}

/** Of one step. */
export class DoneAgain {
  /** When stages are done with it. */
  untilMs: number;
  private fromMs: number;
  private readonly lost = new Map<number, Lost>();

  /** @param ownEndMs when they are done with their own. */
  constructor(ownEndMs: number) {
    this.untilMs = ownEndMs;
    this.fromMs = ownEndMs;
  }

  /** So many more micro-batches of a stage are known to be lost from then on. */
  add(stage: number, count: number, knownMs: number, passMs: readonly number[]): void {
    if (knownMs > this.untilMs) {
      this.fromMs = knownMs;
      this.lost.clear();
    }
    this.lost.set(stage, { count: (this.lost.get(stage)?.count ?? 0) + count, passMs });
    const again = [...this.lost.values()].map((each) => dealCounts(each.passMs, each.count, []));
    this.untilMs = this.fromMs + HELD_UP * Math.max(...again);
  }
}
