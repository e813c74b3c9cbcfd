/**
 * Whether a plan holds together, and whether it is for the run that it is given to: what a plan can be wrong in that its
 * programs cannot know. Programs have their own proof (`validate.ts`), which comes last.
 */

import { tensorCodec } from "../../protocols/codecs/compressed.ts";
import { TensorError } from "../../protocols/tensor.ts";
import type { SegmentCost } from "./cost.ts";
import { isSharded, type Plan, type PlanMember, type PlanStage, planPrograms } from "./plan.ts";
import { PlanError } from "./plan-error.ts";
import { isForModel } from "./planner/digest.ts";
import { ProgramError } from "./program.ts";
import { isDealt } from "./routes.ts";
import { validatePrograms } from "./validate.ts";

/** @throws PlanError in one line that names the stage or the device at fault. */
export function checkPlan(plan: Plan): void {
  const { stages, microBatches } = plan;
  if (stages.length === 0) throw new PlanError("the plan has no stages, at least 1 is needed");
  stages.forEach(({ stage }, index) => {
    if (stage !== index) throw new PlanError(`stage ${index} of the plan says that it is stage ${stage}`);
  });
  checkRanges(stages);
  checkDevices(plan);
  for (const stage of stages) checkSharing(stage, microBatches);
  const local = stages.some(({ sharing }) => sharing === "local");
  if (plan.localSteps > 1 && !local) {
    throw new PlanError(`the plan has ${plan.localSteps} local steps, and no stage with sharing "local"`);
  }
  if (local && stages.length > 1) throw new PlanError('sharing "local" is for a plan of one stage');
  checkCodecs(plan);
  if (plan.forwardOnly >= stages.flatMap(({ ranges }) => ranges).length) {
    throw new PlanError(`forwardOnly is ${plan.forwardOnly}: no position would be left to train`);
  }
  try {
    validatePrograms(planPrograms(plan));
  } catch (error) {
    if (error instanceof ProgramError)
      throw new PlanError(`the plan cannot be carried out: ${error.message}`);
    throw error;
  }
}

/** Ranges must be whole numbers, cover the model without gap or overlap, and go forward within a stage. */
function checkRanges(stages: readonly PlanStage[]): void {
  for (const { stage, ranges } of stages) {
    if (ranges.length === 0) throw new PlanError(`stage ${stage} holds no segments`);
    for (const { from, to } of ranges) {
      if (from >= to) {
        throw new PlanError(`stage ${stage} holds segments from ${from} up to ${to}: that is none`);
      }
    }
    for (let i = 1; i < ranges.length; i++) {
      if (ranges[i]!.from < ranges[i - 1]!.to) {
        throw new PlanError(
          `stage ${stage} goes in a cycle: segment ${ranges[i]!.from} comes behind ${ranges[i - 1]!.to - 1}`,
        );
      }
    }
  }
  const held = stages.flatMap(({ stage, ranges }) => ranges.map((range) => ({ stage, ...range })));
  const order = [...held].sort((a, b) => a.from - b.from || a.to - b.to);
  let at = 0;
  let before = "the beginning";
  for (const { stage, from, to } of order) {
    if (from > at) {
      throw new PlanError(
        `there is a gap: nobody holds segments ${at} to ${from - 1}, before stage ${stage}`,
      );
    }
    if (from < at) {
      throw new PlanError(`stages overlap: segment ${from} is held by ${before} and by stage ${stage}`);
    }
    at = to;
    before = `stage ${stage}`;
  }
  const firsts = stages.map(({ ranges }) => ranges[0]!.from);
  const back = firsts.findIndex((from, i) => i > 0 && from < firsts[i - 1]!);
  if (back > 0) {
    throw new PlanError(
      `the plan goes in a cycle: stage ${back} begins at segment ${firsts[back]}, before stage ${back - 1}, ` +
        "which it comes behind",
    );
  }
}

/** A device may be in several places: it is where it has taken over those of others. */
function checkDevices({ stages, devices }: Plan): void {
  const known = new Map(devices.map((device) => [device.id, device]));
  if (known.size < devices.length) throw new PlanError("the plan lists a device twice");
  for (const { stage, members } of stages) {
    if (members.length === 0) throw new PlanError(`stage ${stage} has no members`);
    for (const { device, deviceName } of members) {
      if (!known.has(device)) {
        throw new PlanError(
          `stage ${stage} names device "${device}" (${deviceName}), which the plan does not have; it has ` +
            [...known.keys()].join(", "),
        );
      }
    }
  }
}

function checkSharing({ stage, sharing, members }: PlanStage, microBatches: number): void {
  if (members.length === 1 && sharing !== null) {
    throw new PlanError(`stage ${stage} has 1 member and nobody to share with, its sharing is "${sharing}"`);
  }
  if (members.length > 1 && sharing === null) {
    throw new PlanError(`stage ${stage} has ${members.length} members, and no sharing that says how`);
  }
  for (const { device, share } of members) {
    if (!(share > 0 && Number.isFinite(share))) {
      throw new PlanError(
        `stage ${stage}: the share of device "${device}" is ${share}, it is a number above 0`,
      );
    }
  }
  const taker = new Map<number, string>();
  for (const member of members) {
    checkMicroBatches(stage, member, microBatches);
    if (!isDealt(sharing)) continue;
    for (const microBatch of member.microBatches) {
      const other = taker.get(microBatch);
      if (other !== undefined) {
        throw new PlanError(
          `stage ${stage}: micro-batch ${microBatch} is dealt to device "${other}" and to "${member.device}"`,
        );
      }
      taker.set(microBatch, member.device);
    }
    if (member.share !== member.microBatches.length) {
      throw new PlanError(
        `stage ${stage}: the share of device "${member.device}" is ${member.share}, it takes ` +
          `${member.microBatches.length} micro-batches: with sharing "${sharing}" they are the same`,
      );
    }
  }
  for (let microBatch = 0; microBatch < microBatches; microBatch++) {
    if (isDealt(sharing)) {
      if (!taker.has(microBatch))
        throw new PlanError(`stage ${stage}: micro-batch ${microBatch} is dealt to nobody`);
      continue;
    }
    const without = members.find((member) => member.microBatches[microBatch] !== microBatch);
    if (without) {
      const what = isSharded(sharing) ? `sharing "${sharing}"` : "one member";
      throw new PlanError(
        `stage ${stage}: device "${without.device}" does not take micro-batch ${microBatch}; with ${what} it takes all`,
      );
    }
  }
}

function checkMicroBatches(stage: number, member: PlanMember, count: number): void {
  const { device, microBatches } = member;
  if (microBatches.length === 0)
    throw new PlanError(`stage ${stage}: device "${device}" takes no micro-batches`);
  microBatches.forEach((microBatch, i) => {
    if (microBatch >= count) {
      throw new PlanError(`stage ${stage}: device "${device}" takes micro-batch ${microBatch} of ${count}`);
    }
    if (i > 0 && microBatch === microBatches[i - 1]) {
      throw new PlanError(`stage ${stage}: micro-batch ${microBatch} is dealt to device "${device}" twice`);
    }
    if (i > 0 && microBatch < microBatches[i - 1]!) {
      throw new PlanError(`stage ${stage}: micro-batches of device "${device}" are not in order`);
    }
  });
}

function checkCodecs({ codecs }: Plan): void {
  for (const name of [codecs.activations, codecs.gradients]) {
    try {
      if (name !== null) tensorCodec(name);
    } catch (error) {
      if (error instanceof TensorError) throw new PlanError(error.message);
      throw error;
    }
  }
}

/** What a plan is to be carried out with. */
export interface PlanUse {
  readonly segments: readonly SegmentCost[];
  readonly microBatches: number;
  /** Ids of the devices that are there. */
  readonly devices: readonly string[];
}

/** Whether a plan is for this run. @throws PlanError in one line. */
export function requirePlan(plan: Plan, { segments, microBatches, devices }: PlanUse): void {
  const end = Math.max(...plan.stages.flatMap(({ ranges }) => ranges.map(({ to }) => to)));
  if (end !== segments.length) {
    throw new PlanError(`the plan is for a model of ${end} segments, this one has ${segments.length}`);
  }
  if (plan.microBatches !== microBatches) {
    throw new PlanError(
      `the plan is for ${plan.microBatches} micro-batches, the run has ${microBatches}: use --micro-batches ` +
        `${plan.microBatches}`,
    );
  }
  if (!isForModel(plan.digest, segments, microBatches)) {
    throw new PlanError(
      "the plan is for another model or batch: its digest is not of these segments; make a plan for it with troupe plan",
    );
  }
  const there = new Set(devices);
  for (const { stage, members } of plan.stages) {
    for (const { device, deviceName } of members) {
      if (there.has(device)) continue;
      throw new PlanError(
        `stage ${stage} of the plan is on device "${device}" (${deviceName}), which is not there: there are ` +
          `${devices.length}, ${devices.slice(0, 8).join(", ")}`,
      );
    }
  }
}
