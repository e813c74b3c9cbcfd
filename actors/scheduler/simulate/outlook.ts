/**
 * What it means for a plan that devices of an imagined cluster come and go: how often the run loses one, and how much of its
 * time that leaves for steps that count. A closed form, for people who choose between plans; no device is simulated.
 *
 * Losses come as a Poisson process, at a rate λ. Where stages keep what they have sent, whoever takes the place of a lost
 * device does again what that had done of the step under way, half of its part of one on average, and its part of the steps
 * that copies are behind; nobody else repeats anything. With the pause D a loss then takes a time C in which no step goes on, and
 * 1 / (1 + λC) of the run's is left: who is lost in that time is got over in it too.
 *
 * Else all repeat the step. One of length T that losses make begin anew, each after a pause D, takes (e^λT − 1)(1/λ + D) on
 * average (Duda, "The effects of checkpointing on program execution time", Information Processing Letters 16, 1983). Steps
 * that a loss takes the run back by are done again besides.
 *
 * Left out: that fewer devices take longer for a step until others come; that what is done again may fit into time in which
 * others wait anyhow, or be dealt to several; that what was sent has to be sent again; two losses at once, where one had
 * what the other's successor needs.
 */

import type { Cluster } from "../cluster.ts";
import { type Plan, workersOf } from "../plan.ts";
import { isAsynchronous } from "../schedule.ts";
import { isRepeatable } from "../specs.ts";

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
  /** What is done again with each loss: the lost device's part of steps, by whoever takes its place, or steps, by all. */
  readonly again: "part" | "steps";
  /** Committed steps of which that is done again, on average, besides the one that is under way. */
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
  const isPart = count > 0 && repeatsParts(plan, every);
  const partMs = (1 / 2 + stepsBack) * workMs(plan);
  return {
    ...{ lossesPerHour, stated, again: isPart ? "part" : "steps", stepsBack },
    present: leavesPerHour > 0 && joins > 0 ? joins / (joins + leavesPerHour) : null,
    goodput: isPart
      ? 1 / (1 + rate * (pauseMs + partMs))
      : goodputOfRepeated(rate, stepMs, pauseMs, stepsBack),
  };
}

/**
 * Whether a loss has the lost device's part of steps done again, and nothing else: `StageSpec.keepsSent`. Members that train
 * on their own keep nothing of earlier steps, and one device's part is the step.
 */
function repeatsParts(plan: Plan, every: number): boolean {
  const isLocal = plan.stages.some(({ sharing }) => sharing === "local");
  const isShared = workersOf(plan).length > 1 && isRepeatable(plan) && !isAsynchronous(plan.schedule);
  return isShared && (every === 1 || !isLocal);
}

/** Of a device in a step, on average over those that are used: each is lost as often as another. */
function workMs(plan: Plan): number {
  const workers = workersOf(plan);
  const sum = workers.reduce((ms, { member: { microBatches, forwardMs, backwardMs } }) => {
    return ms + microBatches.length * (forwardMs + backwardMs);
  }, 0);
  return sum / new Set(workers.map(({ member }) => member.device)).size;
}

/** Where all repeat the step. @param rate of losses in a millisecond. */
function goodputOfRepeated(rate: number, stepMs: number, pauseMs: number, stepsBack: number): number {
  if (rate === 0 || stepMs === 0) return 1;
  const lossesPerStep = Math.expm1(rate * stepMs);
  const took = lossesPerStep * (1 / rate + pauseMs);
  return (stepMs / took) * Math.max(0, 1 - lossesPerStep * stepsBack);
}
