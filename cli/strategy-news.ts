/**
 * Whether a run goes by the strategy that `--strategy` asked for: few devices, or slow lines, make it no pipeline, and a hybrid
 * may have one stage. It is told when a plan is of another one, and again only when a later plan is of yet another: a run that
 * has gone back to what was asked for says so by its plan.
 */

import type { Plan } from "../actors/scheduler/plan.ts";
import type { RunEvent } from "./events.ts";
import { otherStrategy, strategyOf } from "./plan-words.ts";

type StrategyReplaced = Extract<RunEvent, { event: "strategy_replaced" }>;

export class StrategyNews {
  private readonly asked: string | undefined;
  /** What people take the run to go by. */
  private known: string | undefined;

  /** @param asked undefined where nobody asked for any. */
  constructor(asked: string | undefined) {
    this.asked = asked;
    this.known = asked;
  }

  /** The run goes by this plan from here on. @returns what is told; null where it is no news. */
  of(plan: Plan): StrategyReplaced | null {
    const strategy = strategyOf(plan);
    const isNews = strategy !== this.known;
    this.known = strategy;
    const why = otherStrategy(plan, this.asked);
    if (why === null || !isNews) return null;
    return { event: "strategy_replaced", asked: this.asked!, strategy, why };
  }
}
