/** What one member of a stage does that takes a lost one's place in a simulated step, besides its own. */

import type { Worker } from "../../actors/scheduler/plan.ts";

export interface LostAlone {
  /** How many micro-batches the lost one had. */
  readonly own: number;
  readonly others: readonly Worker[];
  /** By device, milliseconds of others' work that it has taken over in this step; this is added to it. */
  readonly taken: Map<string, number>;
  /** Part of a step in which members of the stage wait, and when they are done with their own work. */
  readonly idle: number;
  readonly ownEnd: number;
  /** When it has all it needs. */
  readonly fromMs: number;
}

/** When that is done, by the one who has least to do. */
export function doneByOne({ own, others, taken, idle, ownEnd, fromMs }: LostAlone): number {
  const pass = ({ member }: Worker) => member.forwardMs + member.backwardMs;
  const busyMs = (other: Worker) =>
    other.member.microBatches.length * pass(other) + (taken.get(other.member.device) ?? 0);
  const one = others.reduce((a, b) => (busyMs(b) < busyMs(a) ? b : a));
  const { device } = one.member;
  const work = (taken.get(device) ?? 0) + own * pass(one);
  taken.set(device, work);
  // Until its own work is done it has the time for it in which it would wait.
  const early = Math.max(0, ownEnd - fromMs) * idle;
  return work <= early ? fromMs + work / idle : Math.max(fromMs, ownEnd) + work - early;
}
