/** What may be asked of the planner, and what of it makes no sense. */

import { SHARD_KINDS, type ShardKind } from "../../../nn/shards/plan.ts";
import { tensorCodec } from "../../../protocols/codecs/compressed.ts";
import { TensorError } from "../../../protocols/tensor.ts";
import type { DeviceInfo, Profile, SegmentCost } from "../cost.ts";
import { profileOf } from "../partition.ts";
import { SHARINGS, STRATEGIES, type Strategy } from "../plan.ts";
import { PlanError } from "../plan-error.ts";
import { isAsynchronous, SCHEDULES, type ScheduleName } from "../schedule.ts";
import { type Objective, objectiveOf } from "./objective.ts";

export interface PlanOptions {
  /** A name of `STRATEGIES` or "auto"; text, because it comes from people. */
  readonly strategy: string;
  /** A name in `SCHEDULES`, or "auto" for the best of those that train as one device does. */
  readonly schedule: string;
  readonly microBatches: number;
  /**
   * Keep a chunk's input only, and repeat its forward pass when going backward: everywhere, nowhere, or in stages that
   * would not fit otherwise.
   */
  readonly recompute: boolean | "where-needed";
  /** With recomputation, bytes of each micro-batch that a chunk may keep all the same, besides its input; else 0. */
  readonly stashBytes?: number;
  /** "time", or "energy" of a step; time when left out. */
  readonly objective?: string;
  /** With energy: no step may take longer. */
  readonly deadlineMs?: number;
  /** With strategy local: steps between two meetings; 1 when left out. */
  readonly localSteps?: number;
  /** Copies of what each stage holds that are to have room on other devices; none when left out. */
  readonly copies?: number;
  /** Tensor codecs that may be used where that is better; they change the result. None when left out. */
  readonly codecs?: { readonly activations?: readonly string[]; readonly gradients?: readonly string[] };
}

export interface PlanRequest {
  readonly segments: readonly SegmentCost[];
  /** In pipeline order. */
  readonly devices: readonly DeviceInfo[];
  readonly profile: Profile;
  readonly options: PlanOptions;
}

/** The same, known to make sense. */
export interface CheckedOptions {
  readonly strategy: Strategy | "auto";
  /** To choose among. */
  readonly schedules: readonly ScheduleName[];
  readonly objective: Objective;
  readonly activationCodecs: readonly (string | null)[];
  readonly gradientCodecs: readonly (string | null)[];
}

/** @throws PlanError in one line. */
export function checkOptions({ segments, devices, profile, options }: PlanRequest): CheckedOptions {
  const { microBatches, objective, deadlineMs, localSteps = 1, codecs = {}, copies = 0 } = options;
  const strategy = oneOf("strategy", options.strategy, ["auto", ...STRATEGIES]);
  const schedules = scheduleNames(options.schedule);
  if (!Number.isInteger(microBatches) || microBatches < 1) {
    throw new PlanError(`${microBatches} micro-batches were asked for, it takes a whole number from 1 up`);
  }
  if (!Number.isInteger(localSteps) || localSteps < 1) {
    throw new PlanError(`${localSteps} local steps were asked for, it takes a whole number from 1 up`);
  }
  if (!Number.isInteger(copies) || copies < 0) {
    throw new PlanError(`${copies} copies were asked for, it takes a whole number from 0 up`);
  }
  if (localSteps > 1 && strategy !== "local") {
    throw new PlanError(`${localSteps} local steps are for strategy local, it is ${strategy}`);
  }
  if (isShared(strategy) && schedules.every(isAsynchronous)) {
    throw new PlanError(
      `schedule ${options.schedule} updates within a step, and devices of strategy ${strategy} update together at its ` +
        "end: use it with strategy pipeline, or another schedule",
    );
  }
  const isSharding = SHARD_KINDS.some((kind) => kind === strategy);
  if (isSharding && schedules.every((name) => name === "zero-bubble")) {
    throw new PlanError(
      `schedule zero-bubble makes a backward pass in two parts, devices of strategy ${strategy} make theirs in one: use ` +
        "another schedule",
    );
  }
  if ((strategy === "data" || strategy === "local") && microBatches < 2 && devices.length > 1) {
    throw new PlanError(
      `strategy ${strategy} deals micro-batches to devices, and there is only ${microBatches}: use more micro-batches`,
    );
  }
  const whole = isSharding ? segments.findIndex(({ sharded }) => !sharded?.[strategy as ShardKind]) : -1;
  if (whole >= 0 && devices.length > 1) {
    throw new PlanError(
      `strategy ${strategy} cannot divide ${segments[whole]!.name} of this model, and takes transformers without running ` +
        "statistics: use data, pipeline, hybrid or auto",
    );
  }
  if (devices.length === 0) throw new PlanError("no devices to plan for, at least 1 is needed");
  checkDevices(segments, devices, profile);
  const goal = objectiveOf(objective, deadlineMs);
  const powerless = goal.of === "energy" ? devices.find(({ power }) => !power) : undefined;
  if (powerless) {
    throw new PlanError(
      `nobody knows the power of ${powerless.name}: without that of all devices, plan for time`,
    );
  }
  return {
    ...{ strategy, schedules, objective: goal },
    activationCodecs: [null, ...known(codecs.activations)],
    gradientCodecs: [null, ...known(codecs.gradients)],
  };
}

/** Whether all devices of the strategy share one stage. */
function isShared(strategy: Strategy | "auto"): boolean {
  return SHARINGS.some((sharing) => sharing === strategy);
}

function oneOf<T extends string>(what: string, given: string, names: readonly T[]): T {
  const found = names.find((name) => name === given);
  if (!found) throw new PlanError(`${what} "${given}" is not available, use one of ${names.join(", ")}`);
  return found;
}

function scheduleNames(given: string): readonly ScheduleName[] {
  const names = Object.keys(SCHEDULES) as ScheduleName[];
  const found = oneOf("schedule", given, ["auto", ...names]);
  return found === "auto" ? names.filter((name) => !isAsynchronous(name)) : [found];
}

function known(names: readonly string[] = []): readonly string[] {
  for (const name of names) {
    try {
      tensorCodec(name);
    } catch (error) {
      if (error instanceof TensorError) throw new PlanError(error.message);
      throw error;
    }
  }
  return names;
}

function checkDevices(
  segments: readonly SegmentCost[],
  devices: readonly DeviceInfo[],
  profile: Profile,
): void {
  const ids = new Set<string>();
  for (const device of devices) {
    if (ids.has(device.id)) throw new PlanError(`two devices have the id ${device.id}`);
    ids.add(device.id);
    const { forwardMs, backwardMs, stepMs } = profileOf(profile, device);
    for (const times of [forwardMs, backwardMs, stepMs]) {
      if (times.length !== segments.length) {
        throw new PlanError(
          `the profile of ${device.name} has times of ${times.length} segments, the model has ${segments.length}`,
        );
      }
    }
  }
}
