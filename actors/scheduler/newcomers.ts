/**
 * Newcomers of a plan, and a first step for them: pure. Where members of a stage have all of its weights each and share
 * micro-batches, whoever comes can be given a copy of these while the others are at work: it has no micro-batches in its
 * first step, so that its gradients are nothing, gets the sums that all members get, and updates what it was given with
 * them. From then on it has what they have, and its part of the micro-batches. So nobody waits for what it is given, unless
 * that takes longer than a step.
 */

import { dealtTo } from "./dealt.ts";
import type { Plan, PlanStage } from "./plan.ts";

/** Devices that have nothing to do in a plan, and come into a stage all of whose members stay in it. */
export function newcomersOf(present: Plan, next: Plan): ReadonlySet<string> {
  const joined = joinedBy(present, next);
  const found = next.stages.flatMap(({ members }, i) => {
    const before = joined[i];
    return before ? members.filter(({ device }) => !isIn(before, device)) : [];
  });
  return new Set(found.map(({ device }) => device));
}

/**
 * The plan as it is for the first step of newcomers: others of their stages have their micro-batches.
 * @returns null where there are no newcomers.
 */
export function withoutWork(next: Plan, present: Plan): Plan | null {
  const joined = joinedBy(present, next);
  if (joined.every((before) => before === undefined)) return null;
  const stages = next.stages.map((stage, i): PlanStage => {
    const before = joined[i];
    if (!before) return stage;
    const dealt = dealtTo(stage.members, ({ device }) => !isIn(before, device));
    const members = stage.members.map((member) => {
      const same = dealt.find(({ device }) => device === member.device);
      return same ?? { ...member, microBatches: [], share: 0 };
    });
    return { ...stage, members };
  });
  return { ...next, stages };
}

/** Whether a plan has members that have nothing to do. */
export function hasIdle({ stages }: Plan): boolean {
  return stages.some(({ members }) => members.some(({ microBatches }) => microBatches.length === 0));
}

/** By stage of the next plan, the one that newcomers come into; undefined where there are none, or others have come or gone. */
function joinedBy(present: Plan, next: Plan): (PlanStage | undefined)[] {
  const isAtWork = (device: string) => present.stages.some((stage) => isIn(stage, device));
  return next.stages.map((stage) => {
    if (stage.sharing !== "data" || present.microBatches !== next.microBatches) return undefined;
    const before = present.stages.find((other) => isAlike(other, stage));
    if (!before?.members.every(({ device }) => isIn(stage, device))) return undefined;
    // Where one has taken another's place, it is there twice.
    if (hasTwice(before) || hasTwice(stage)) return undefined;
    const others = stage.members.filter(({ device }) => !isIn(before, device));
    return others.length > 0 && !others.some(({ device }) => isAtWork(device)) ? before : undefined;
  });
}

/** Whether each member has the same of the model, and all of it. */
function isAlike(a: PlanStage, b: PlanStage): boolean {
  if (a.sharing !== null && a.sharing !== "data") return false;
  return a.recompute === b.recompute && JSON.stringify(a.ranges) === JSON.stringify(b.ranges);
}

function hasTwice({ members }: PlanStage): boolean {
  return new Set(members.map(({ device }) => device)).size < members.length;
}

function isIn({ members }: PlanStage, device: string): boolean {
  return members.some((member) => member.device === device);
}
