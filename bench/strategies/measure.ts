/** A plan measured on a testbed, in one or several runs, as figures for the report. */

import { writeFileSync } from "node:fs";
import { joulesOf } from "../../actors/energy/model.ts";
import { DEVICE_CLASSES } from "../../actors/scheduler/device-classes.ts";
import { type Plan, workersOf } from "../../actors/scheduler/plan.ts";
import { median } from "../statistics.ts";
import type { BedUsage, Testbed } from "../testbed/testbed.ts";
import { difference } from "./difference.ts";
import type { Reference } from "./reference.ts";
import type { Measured, MeasuredDevice, WeightsDifference } from "./result.ts";
import { type PlanRun, type RunSteps, runPlan, type Training, type Weights } from "./run.ts";
import type { Scenario } from "./scenarios.ts";
import { idleShare, timelineOf } from "./timeline.ts";

/** One run of a plan, and what the devices used while its steps were timed. */
export interface BedRun extends PlanRun {
  readonly used: readonly BedUsage[];
  /** After the first step. */
  readonly firstWeights: Weights;
  /** Whether `used.peakBytes` is of this run alone. */
  readonly ownPeaks: boolean;
}

/** @param until see `RunHooks`. */
export async function runOnBed(
  bed: Testbed,
  plan: Plan,
  training: Training,
  steps: RunSteps,
  until: number,
): Promise<BedRun> {
  let before: readonly BedUsage[] = [];
  let after: readonly BedUsage[] = [];
  const ownPeaks = bed.kind === "namespaces" && bed.devices.map(({ pid }) => forgetPeak(pid)).every(Boolean);
  const place = {
    node: bed.node,
    devices: bed.devices.map(({ ref }) => ref),
    unshaped: <T>(work: () => Promise<T>) => bed.unshaped(work),
  };
  let firstWeights: Weights | undefined;
  const run = await bed.guard(() =>
    runPlan(place, plan, training, steps, {
      before: async () => {
        before = await bed.usage();
      },
      after: async () => {
        after = await bed.usage();
      },
      stepped: async (take) => {
        firstWeights ??= await take();
      },
      until,
    }),
  );
  const used = after.map((usage, i) => ({
    sentBytes: usage.sentBytes - before[i]!.sentBytes,
    receivedBytes: usage.receivedBytes - before[i]!.receivedBytes,
    busyMs: usage.busyMs - before[i]!.busyMs,
    lateMs: usage.lateMs === null ? null : usage.lateMs - before[i]!.lateMs!,
    peakBytes: usage.peakBytes,
  }));
  return { ...run, firstWeights: firstWeights!, used, ownPeaks };
}

/** Lets a process's peak of resident memory begin anew; false where the system cannot. */
function forgetPeak(pid: number): boolean {
  try {
    writeFileSync(`/proc/${pid}/clear_refs`, "5");
    return true;
  } catch {
    return false;
  }
}

/** The figures of a plan from its runs. */
export function measuredOf(
  plan: Plan,
  runs: readonly BedRun[],
  reference: Reference,
  { devices }: Pick<Scenario, "devices">,
  batch: number,
): Measured {
  const steps = runs.flatMap((run) => run.steps);
  const stepMs = median(steps.map(({ ms }) => ms));
  const typical = steps.reduce((a, b) => (Math.abs(b.ms - stepMs) < Math.abs(a.ms - stepMs) ? b : a));
  const needs = new Map<string, number>();
  for (const { device, memoryBytes } of plan.stages.flatMap(({ members }) => members)) {
    needs.set(device, (needs.get(device) ?? 0) + memoryBytes);
  }
  const found = devices.flatMap(({ name, class: named }, i): MeasuredDevice[] => {
    const predictedMemoryBytes = needs.get(`${i}`);
    if (predictedMemoryBytes === undefined) return [];
    const each = (of: (usage: BedUsage) => number) =>
      median(runs.map((run) => of(run.used[i]!) / run.steps.length));
    const activity = {
      elapsedMs: stepMs,
      busyMs: each(({ busyMs }) => busyMs),
      sentBytes: each(({ sentBytes }) => sentBytes),
      receivedBytes: each(({ receivedBytes }) => receivedBytes),
    };
    const { elapsedMs: _, ...figures } = activity;
    const peakBytes = runs.every(({ ownPeaks }) => ownPeaks)
      ? Math.max(...runs.map((run) => run.used[i]!.peakBytes))
      : null;
    const lateMs = each(({ lateMs }) => lateMs ?? Number.NaN);
    const modelledJoules = joulesOf(DEVICE_CLASSES[named].power, activity).joules;
    return [
      {
        name,
        ...figures,
        lateMs: Number.isNaN(lateMs) ? null : lateMs,
        peakBytes,
        predictedMemoryBytes,
        modelledJoules,
      },
    ];
  });
  return {
    stepMs,
    steps: runs.map((run) => run.steps.map(({ ms }) => ms)),
    samplesPerSecond: (batch / stepMs) * 1000,
    predictedStepMs: plan.predictedStepMs,
    predictionError: Math.abs(plan.predictedStepMs - stepMs) / stepMs,
    lossDifference: Math.max(
      ...runs.flatMap((run) => run.losses.map((loss, i) => relative(loss, reference.losses[i]!))),
    ),
    weightsDifference: largest(runs.map((run) => differenceOf(run, reference))),
    bubble: median(steps.map((step) => idleShare(step.reports, step.ms))),
    predictedBubble: plan.bubbleFraction,
    devices: found,
    modelledJoulesPerSample: found.reduce((sum, device) => sum + device.modelledJoules, 0) / batch,
    timeline: timelineOf(typical.reports),
    workerNames: workersOf(plan).map(({ member }) => member.deviceName),
  };
}

function differenceOf({ firstWeights, weights, losses }: BedRun, reference: Reference): WeightsDifference {
  const first = difference(firstWeights, reference.weights[0]!);
  return {
    firstByNorm: first.byNorm,
    ...difference(weights, reference.weights[losses.length - 1]!),
  };
}

function largest(differences: readonly WeightsDifference[]): WeightsDifference {
  return {
    firstByNorm: Math.max(...differences.map(({ firstByNorm }) => firstByNorm)),
    byElement: Math.max(...differences.map(({ byElement }) => byElement)),
    byNorm: Math.max(...differences.map(({ byNorm }) => byNorm)),
  };
}

function relative(found: number, expected: number): number {
  return Math.abs(found - expected) / (Math.abs(expected) || 1);
}
