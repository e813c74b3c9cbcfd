/**
 * A plan in which the others of a stage do what lost ones would have done: pure. Micro-batches of members that are gone are
 * dealt to those that are left, each to whom it will be done with first; nobody has a stage that it did not have before.
 *
 * That is for stages with many members, which lose one often and where each of the others has a little more to do. Sums are
 * formed in another order then. Where there are few, losses are rare, and a single successor with the same micro-batches
 * comes to the same bits (`recovery/takeover.ts`).
 */

import { GONE, type Plan, type PlanMember, type PlanStage } from "./plan.ts";
import { isAsynchronous } from "./schedule.ts";

/** So many others there must be at least. */
export const OTHERS = 8;

/** Whether a stage of so many members that were left would go on without those that are lost. */
export function isShort({ sharing, members }: PlanStage, lost = 1): boolean {
  return sharing === "data" && members.length - lost >= OTHERS;
}

/**
 * Whether there is a stage that would go on without a lost member in the middle of a step, and every one could then go on
 * with other neighbours, as far as a plan says.
 */
export function mayDeal({ stages, schedule, codecs }: Plan): boolean {
  const isDealt = ({ ranges, sharing, members }: PlanStage) => {
    const isAlone = members.length === 1;
    return ranges.length === 1 && (isAlone || (sharing === "data" && codecs.gradients === null));
  };
  return !isAsynchronous(schedule) && stages.some((stage) => isShort(stage)) && stages.every(isDealt);
}

/** A step in whose middle micro-batches are dealt. */
export interface Midway {
  /** That the step was begun by. */
  readonly begun: Plan;
  /** Since then. */
  readonly elapsedMs: number;
}

/**
 * @param lost device ids. @param midway left out where a step is to begin by the plan.
 * @returns null where a lost member cannot be done without, or none is lost.
 */
export function dealLost(plan: Plan, lost: ReadonlySet<string>, midway?: Midway): Plan | null {
  const isLost = ({ device }: PlanMember) => lost.has(device);
  const stages: PlanStage[] = [];
  for (const stage of plan.stages) {
    const gone = stage.members.filter(isLost);
    if (gone.length > 0 && !isShort(stage, gone.length)) return null;
    stages.push(gone.length > 0 ? { ...stage, members: dealtTo(stage.members, isLost, midway) } : stage);
  }
  if (stages.every((stage, i) => stage === plan.stages[i])) return null;
  const used = new Set(stages.flatMap(({ members }) => members.map(({ device }) => device)));
  const devices = plan.devices.map((device) => {
    if (lost.has(device.id)) return { ...device, used: false, reason: GONE };
    return used.has(device.id) ? device : { ...device, used: false };
  });
  return { ...plan, stages, devices };
}

/**
 * The members that are left, with the micro-batches of the others. In the middle of a step whoever would be through with its
 * own by now is taken to begin with more now, and nothing of what it was dealt in that step is taken to be done: those who wait
 * get more, and nobody who is slow something that others would have done long before.
 */
export function dealtTo(
  members: readonly PlanMember[],
  isLost: (member: PlanMember) => boolean,
  midway?: Midway,
): readonly PlanMember[] {
  const left = members.filter((member) => !isLost(member));
  const dealt = left.map(({ microBatches }) => [...microBatches]);
  // Of a plan without predictions all are as fast.
  const passMs = left.map(({ forwardMs, backwardMs }) => forwardMs + backwardMs || 1);
  const own = midway && ownOf(midway.begun);
  const throughMs = left.map(({ device, microBatches: { length } }, i) => {
    if (!midway) return length * passMs[i]!;
    const count = Math.min(length, own!.get(device) ?? 0);
    return Math.max(midway.elapsedMs, count * passMs[i]!) + (length - count) * passMs[i]!;
  });
  const again = members.filter(isLost).flatMap(({ microBatches }) => microBatches);
  for (const microBatch of again.sort((a, b) => a - b)) {
    let first = 0;
    for (let i = 1; i < left.length; i++) {
      if (throughMs[i]! + passMs[i]! < throughMs[first]! + passMs[first]!) first = i;
    }
    dealt[first]!.push(microBatch);
    throughMs[first]! += passMs[first]!;
  }
  return left.map((member, i) => {
    const microBatches = dealt[i]!.sort((a, b) => a - b);
    return { ...member, microBatches, share: microBatches.length };
  });
}

/** By device, how many micro-batches it has to begin with. */
function ownOf({ stages }: Plan): ReadonlyMap<string, number> {
  return new Map(
    stages.flatMap(({ members }) => members.map((each) => [each.device, each.microBatches.length])),
  );
}
