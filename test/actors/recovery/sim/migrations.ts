/** Other plans for a run that make the same result, drawn from chance. */

import type { Plan } from "../../../../actors/scheduler/plan.ts";
import { isAsynchronous } from "../../../../actors/scheduler/schedule.ts";
import type { Model } from "../../../../nn/model.ts";
import { findSegments } from "../../../../nn/segments.ts";
import type { Random } from "../../../../runtime/random.ts";
import { planOf } from "../../plans.ts";
import { cuts, pick, type Shape } from "./shapes.ts";

export interface Candidate {
  /** Plan id. */
  readonly id: string;
  readonly name: string;
}

/**
 * The plan with another device in one of its stages whose members share micro-batches, and these dealt anew: to the same
 * result but for the order in which is added up. Null where there is none, or it would not be the same.
 */
export function grownPlan(
  plan: Plan,
  model: Model,
  among: readonly Candidate[],
  random: Random,
): Plan | null {
  const used = new Set(plan.stages.flatMap(({ members }) => members.map(({ device }) => device)));
  const free = among.filter(({ id }) => !used.has(id));
  const open = plan.stages.filter(
    ({ sharing, members }) => sharing === "data" && members.length < plan.microBatches,
  );
  const hasStatistics = findSegments(model).some(({ statistics }) => Object.keys(statistics).length > 0);
  if (free.length === 0 || open.length === 0 || hasStatistics || isAsynchronous(plan.schedule)) return null;
  const { id, name } = pick(random, free);
  const grown = pick(random, open);
  const [first] = grown.members;
  const all = [...grown.members, { ...first!, device: id, deviceName: name }];
  const members = all.map((member, rank) => {
    const microBatches = Array.from({ length: plan.microBatches }, (_, m) => m).filter(
      (m) => m % all.length === rank,
    );
    return { ...member, microBatches, share: microBatches.length };
  });
  const stages = plan.stages.map((stage) => (stage === grown ? { ...stage, members } : stage));
  return { ...plan, stages, devices: [...plan.devices, { id, name, used: true, reason: "" }] };
}

/**
 * The same stages elsewhere; or, of a pipeline, others. A run that was asked for one device has not measured what others
 * need to know, and never makes another plan than that.
 * @param among devices that it may use.
 */
export function anotherPlan(
  plan: Plan,
  { model, strategy }: Pick<Shape, "model" | "strategy">,
  among: readonly Candidate[],
  random: Random,
): Plan {
  const isPipeline = plan.stages.every(({ members, ranges }) => members.length === 1 && ranges.length === 1);
  const isCut = isPipeline && strategy !== "single" && !isAsynchronous(plan.schedule) && random.next() < 0.6;
  return moved(isCut ? cutAgain(plan, model, random) : plan, among, random);
}

function cutAgain({ microBatches, schedule }: Plan, model: Model, random: Random): Plan {
  const segments = findSegments(model).length;
  const count = 1 + random.integer(Math.min(4, segments));
  const stages = cuts(random, segments, count).map((to) => ({ to: [to] }));
  return planOf(model, { stages, schedule, microBatches });
}

function moved(plan: Plan, among: readonly Candidate[], random: Random): Plan {
  const left = [...among];
  const next = () => {
    if (left.length === 0) left.push(...among);
    return left.splice(random.integer(left.length), 1)[0]!;
  };
  const stages = plan.stages.map((stage) => ({
    ...stage,
    members: stage.members.map((member) => {
      const { id, name } = next();
      return { ...member, device: id, deviceName: name };
    }),
  }));
  const used = new Set(stages.flatMap(({ members }) => members.map(({ device }) => device)));
  const devices = among.map(({ id, name }) => ({ id, name, used: used.has(id), reason: "" }));
  return { ...plan, stages, devices };
}
