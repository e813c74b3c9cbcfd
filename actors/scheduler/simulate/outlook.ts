/**
 * What it means for a plan that devices of an imagined cluster come and go: how often the run loses one, and how much of its
 * time that leaves for steps that count. A closed form, for people who choose between plans; no device is simulated.
 *
 * Whoever leaves in a step has that step repeated by all. Losses come as a Poisson process, so a step of length T that
 * losses at rate λ make begin anew, each after a pause D, takes (e^λT − 1)(1/λ + D) on average (Duda, "The effects of
 * checkpointing on program execution time", Information Processing Letters 16, 1983). Steps that a loss takes the run back
 * by are done again besides. Left out: that fewer devices take longer for a step until others come.
 */

import type { Cluster } from "../cluster.ts";
import { type Plan, workersOf } from "../plan.ts";

const HOUR_MS = 3_600_000;

/** From the closing of a lost device's links until its stage is at work elsewhere, from a copy that is there already. */
export const PAUSE_MS = 1000;

export interface ChurnOutlook {
  /** Of devices that the plan uses. */
  readonly lossesPerHour: number;
  /** Part of the time in which a device is there, 0 … 1; null where those that leave do not come back. */
  readonly present: number | null;
  /** Of devices that the plan uses, those that leave at times that the file states. */
  readonly stated: number;
  /** Committed steps that a loss takes the run back by, on average. */
  readonly stepsBack: number;
  /** Steps that count, of those that the run would make undisturbed in the same time, 0 … 1. */
  readonly goodput: number;
}

export interface OutlookRequest {
  readonly cluster: Pick<Cluster, "churn">;
  readonly plan: Plan;
  readonly stepMs: number;
  /** For which the run stands still with each loss; `PAUSE_MS` when left out. */
  readonly pauseMs?: number;
  /** Steps from one checkpoint to the next: what a run without copies goes back to. */
  readonly checkpointEvery: number;
}

/** Null where the cluster's file has nothing of devices that leave. */
export function churnOutlook({
  cluster,
  plan,
  stepMs,
  pauseMs = PAUSE_MS,
  checkpointEvery,
}: OutlookRequest): ChurnOutlook | null {
  const { events, rates } = cluster.churn;
  const used = new Set(workersOf(plan).map(({ member }) => member.device));
  const stated = events.filter(({ device, what }) => what === "leave" && used.has(device)).length;
  const leavesPerHour = rates?.leavesPerHour ?? 0;
  if (leavesPerHour === 0 && events.length === 0) return null;
  const lossesPerHour = leavesPerHour * used.size;
  const { count, every } = plan.copies ?? { count: 0, every: 1 };
  // From the middle of what lies between two steps that can be gone back to.
  const stepsBack = ((count > 0 ? every : checkpointEvery) - 1) / 2;
  const rate = lossesPerHour / HOUR_MS;
  const joins = rates?.joinsPerHour ?? 0;
  return {
    ...{ lossesPerHour, stated, stepsBack },
    present: leavesPerHour > 0 && joins > 0 ? joins / (joins + leavesPerHour) : null,
    goodput: goodputOf(rate, stepMs, pauseMs, stepsBack),
  };
}

/** @param rate of losses in a millisecond. */
function goodputOf(rate: number, stepMs: number, pauseMs: number, stepsBack: number): number {
  if (rate === 0 || stepMs === 0) return 1;
  const lossesPerStep = Math.expm1(rate * stepMs);
  const took = lossesPerStep * (1 / rate + pauseMs);
  return (stepMs / took) * Math.max(0, 1 - lossesPerStep * stepsBack);
}
