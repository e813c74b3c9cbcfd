/** Why each device is used or left out, for people: what a step would take with it, and what it takes without. */

import type { DeviceInfo } from "../cost.ts";
import { isSharded, type PlanDevice, type PlanStage } from "../plan.ts";
import { PlanError } from "../plan-error.ts";
import { type Draft, type DraftStage, lanesOf, type Outcome, type Workshop } from "./draft.ts";

export interface ReasonsInput {
  readonly workshop: Workshop;
  readonly chosen: Outcome;
  /** Everything that was settled. */
  readonly outcomes: readonly Outcome[];
  readonly allows: (draft: Draft) => boolean;
  /** A name that a device shares with those that are like it. */
  readonly kinds: readonly string[];
}

/** Of so many kinds of devices that are left out it is tried what they would change. */
const MOST_TRIED = 8;

export function reasonsOf(input: ReasonsInput): PlanDevice[] {
  const { workshop, chosen, kinds } = input;
  const { devices, segments } = workshop.inputs;
  const stageOf = new Map<string, PlanStage>();
  for (const stage of chosen.plan.stages) for (const { device } of stage.members) stageOf.set(device, stage);
  const leftOut = new Map<string, string>();
  return devices.map((device, index) => {
    const stage = stageOf.get(device.id);
    if (stage) {
      const reason = usedReason(device, stage, chosen.plan.stages, segments.length);
      return { id: device.id, name: device.name, used: true, reason };
    }
    const kind = kinds[index]!;
    const reason = leftOut.get(kind) ?? leftOutReason(input, index, leftOut.size < MOST_TRIED);
    leftOut.set(kind, reason);
    return { id: device.id, name: device.name, used: false, reason };
  });
}

/** What a device does that is used. */
export function usedReason(
  { id }: DeviceInfo,
  stage: PlanStage,
  stages: readonly PlanStage[],
  segments: number,
): string {
  const work = ({ members, sharing }: PlanStage) =>
    members.reduce((most, { forwardMs, backwardMs, microBatches }) => {
      const times = isSharded(sharing) ? 1 : microBatches.length;
      return Math.max(most, (forwardMs + backwardMs) * times);
    }, 0);
  const held = stage.ranges.reduce((sum, { from, to }) => sum + to - from, 0);
  const slowest = stages.length > 1 && stages.every((other) => work(other) <= work(stage) * (1 + 1e-9));
  const member = stage.members.find(({ device }) => device === id)!;
  const total = stage.members.reduce((sum, { share }) => sum + share, 0);
  const part =
    stage.members.length === 1
      ? ""
      : isSharded(stage.sharing)
        ? `, ${Math.round((100 * member.share) / total)} % of the work in each (${stage.sharing})`
        : `, ${member.microBatches.length} of ${total} micro-batches (${stage.sharing})`;
  return `holds ${held} of ${segments} segments${part}${slowest ? ", the slowest stage" : ""}`;
}

function leftOutReason(input: ReasonsInput, device: number, tryIt: boolean): string {
  const { workshop, chosen, outcomes, allows } = input;
  const uses = ({ draft }: Pick<Outcome, "draft">) =>
    draft.stages.some(({ members }) => members.includes(device));
  const withIt = outcomes.filter(uses);
  let refused = "no share that includes it fits";
  if (tryIt) {
    for (const draft of withDevice(chosen.draft, device)) {
      if (!allows(draft)) continue;
      const outcome = workshop.outcome(draft);
      if (outcome instanceof PlanError) refused = outcome.message;
      else withIt.push(outcome);
    }
  }
  const best = withIt.reduce<Outcome | null>((a, b) => (a && a.score <= b.score ? a : b), null);
  if (!best) {
    return tryIt ? `left out: ${refused}` : "left out: there are enough others like it or better";
  }
  const { of } = workshop.inputs.objective;
  if (of === "time") {
    return `left out: ${ms(best.plan.predictedStepMs)} a step with it, ${ms(chosen.plan.predictedStepMs)} without`;
  }
  const late = best.plan.predictedStepMs > workshop.inputs.objective.deadlineMs ? ", and too late," : "";
  return `left out: ${best.joules!.toFixed(2)} J a step${late} with it, ${chosen.joules!.toFixed(2)} J without`;
}

/** The chosen draft with one device more: as a member of each stage, and in place of each device. */
function* withDevice(draft: Draft, device: number): Generator<Draft> {
  const fresh = (stage: DraftStage, members: readonly number[]): DraftStage => ({
    ...stage,
    ...{ members, dealt: null, shares: null },
    sharing: members.length === 1 ? null : (stage.sharing ?? "data"),
  });
  for (const [index, stage] of draft.stages.entries()) {
    yield { ...draft, stages: draft.stages.with(index, fresh(stage, [...stage.members, device])) };
    if (lanesOf(stage) === 1 && stage.members.length === 1) {
      yield { ...draft, stages: draft.stages.with(index, fresh(stage, [device])) };
    }
  }
}

function ms(value: number): string {
  return `${value.toFixed(1)} ms`;
}
