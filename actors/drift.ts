/**
 * When a device is not as fast any more as it was measured to be: another program came or went, its processor grew hot,
 * its battery low. Pure: from what operations took and what they were predicted to take to a factor for each device.
 *
 * A step's ratio says little on a machine that others use too; the median over the last steps says more. Where steps are
 * short that is not enough: what disturbs one disturbs the next hundred too, so a ratio is that of several together, and the
 * median is always of some seconds of work. A factor is kept until the median is far from it (hysteresis), so that whoever
 * acts on it does not act twice on one change, or on noise.
 */

import type { ModelProfile } from "../nn/profile.ts";
import type { DeviceProfile, Profile } from "./scheduler/cost.ts";
import { type Plan, workersOf } from "./scheduler/plan.ts";
import { type CostInputs, planCost } from "./scheduler/plan-cost.ts";
import { type ChunkCost, kernelMsOf } from "./scheduler/run-cost.ts";
import type { OperationSpan } from "./stage.ts";

/** What is known of one device. Plain data; `NO_DRIFT` to begin with. */
export interface Drift {
  /** How many times as long as predicted its work takes, as last believed. */
  readonly factor: number;
  /** Of the last steps, or of several together where they are short, the newest last: how many times as long as predicted. */
  readonly ratios: readonly number[];
  /** Steps since, which are too short so far to say anything. */
  readonly gathered: StepTime;
}

const NOTHING: StepTime = { measuredMs: 0, predictedMs: 0 };

export const NO_DRIFT: Drift = { factor: 1, ratios: [], gathered: NOTHING };

/** Ratios that a median is taken over; until there are so many, nothing is said. */
const RATIOS = 7;
/** Work of the device that they are of together, at least: other programs come for a good part of a second, and go again. */
const LEAST_MS = 2000;
/** The median is believed where it is so many times the factor, or its inverse. */
const THRESHOLD = 1.2;

/** What a step's kernels took on one worker, and what they were predicted to take. */
export interface StepTime {
  readonly measuredMs: number;
  readonly predictedMs: number;
}

/**
 * A step's time in kernels, from its spans.
 * @param chunks of the worker, as predicted.
 * @param otherMs that a run was predicted to cost outside of kernels, which `chunks` include and spans do not.
 */
export function stepTime(
  spans: readonly OperationSpan[],
  chunks: readonly ChunkCost[],
  otherMs: number,
): StepTime {
  let measuredMs = 0;
  let predictedMs = 0;
  for (const { op, chunk = 0, kernelMs } of spans) {
    const predicted = kernelMsOf(op, chunks[chunk]!);
    if (predicted === undefined) continue;
    measuredMs += kernelMs + otherMs;
    predictedMs += predicted;
  }
  return { measuredMs, predictedMs };
}

/** What is known of a device after another step. A step that nothing was predicted of leaves it as it was. */
export function observe(drift: Drift, step: StepTime): Drift {
  if (!(step.measuredMs > 0 && step.predictedMs > 0)) return drift;
  const gathered = together(drift.gathered, step);
  if (gathered.measuredMs < LEAST_MS / RATIOS) return { ...drift, gathered };
  const ratios = [...drift.ratios, gathered.measuredMs / gathered.predictedMs].slice(-RATIOS);
  const { factor } = drift;
  if (ratios.length < RATIOS) return { factor, ratios, gathered: NOTHING };
  const middle = [...ratios].sort((a, b) => a - b)[RATIOS >> 1]!;
  const change = middle / factor;
  const isFar = change > THRESHOLD || change < 1 / THRESHOLD;
  return { factor: isFar ? middle : factor, ratios, gathered: NOTHING };
}

function together(a: StepTime, b: StepTime): StepTime {
  return { measuredMs: a.measuredMs + b.measuredMs, predictedMs: a.predictedMs + b.predictedMs };
}

/** One worker of a plan, and what it was predicted to take. */
export interface WatchedWorker {
  /** Device id. */
  readonly device: string;
  readonly chunks: readonly ChunkCost[];
  /** Of its device's profile. */
  readonly otherMs: number;
}

/** Follows the devices of a run, step by step. */
export class DriftWatch {
  private readonly workers: readonly WatchedWorker[];
  private known: Readonly<Record<string, Drift>> = {};

  constructor(workers: readonly WatchedWorker[]) {
    this.workers = workers;
  }

  /** By device id; who has not been seen yet is left out. */
  get drifts(): Readonly<Record<string, Drift>> {
    return this.known;
  }

  /**
   * Takes a step in.
   * @param spans by worker.
   * @returns ids of the devices whose factor has changed by it: their profiles are not to be relied on any more.
   */
  observe(spans: readonly (readonly OperationSpan[])[]): string[] {
    const before = this.known;
    const times: Record<string, StepTime> = {};
    this.workers.forEach(({ device, chunks, otherMs }, i) => {
      times[device] = together(times[device] ?? NOTHING, stepTime(spans[i]!, chunks, otherMs));
    });
    this.known = Object.fromEntries(
      Object.entries(times).map(([device, time]) => [device, observe(before[device] ?? NO_DRIFT, time)]),
    );
    return Object.keys(times).filter(
      (device) => this.known[device]!.factor !== (before[device] ?? NO_DRIFT).factor,
    );
  }
}

/**
 * Follows the devices of a plan that was made from measured profiles. Null where more processes of one machine compute
 * than it has cores: how long their kernels take says then how many they are.
 */
export function watchPlan(plan: Plan, inputs: CostInputs): DriftWatch | null {
  const { cores = Number.POSITIVE_INFINITY, devices } = inputs.profile;
  const workers = workersOf(plan);
  if (workers.length > cores) return null;
  const { chunks } = planCost(plan, inputs).run;
  return new DriftWatch(
    workers.map(({ member: { device } }, i) => ({
      ...{ device, chunks: chunks[i]!, otherMs: devices[device]!.chunk?.otherMs ?? 0 },
    })),
  );
}

/** Whether the device is believed to be slower or faster than its profile. */
export function hasDrifted({ factor }: Drift): boolean {
  return factor !== 1;
}

/** From here on a factor is not 1.0 when it is rounded. */
const LEAST_SAID = 1.05;

/** For people: "laptop takes 1.4 times as long as it was measured to"; or that it does so no more. */
export function driftText(name: string, { factor }: Pick<Drift, "factor">): string {
  const isAsMeasured = Math.max(factor, 1 / factor) < LEAST_SAID;
  if (isAsMeasured) return `${name} is as fast again as it was measured to be`;
  return factor >= 1
    ? `${name} takes ${factor.toFixed(1)} times as long as it was measured to`
    : `${name} is ${(1 / factor).toFixed(1)} times as fast as it was measured to be`;
}

/** Profiles as they are now. @param drifts by device id; who is left out is as measured. */
export function correctedProfile(profile: Profile, drifts: Readonly<Record<string, Drift>>): Profile {
  const devices = Object.entries(profile.devices).map(([id, device]) => [
    id,
    scaled(device, drifts[id]?.factor ?? 1),
  ]);
  return { ...profile, devices: Object.fromEntries(devices) };
}

/**
 * What is known of the devices of a run, also of those that do nothing in it: a machine that is slow for one of its devices is
 * slow for the others too, by as much as it is at least for all that are seen.
 * @param hosts machines, by device id.
 */
export function machineDrifts(
  drifts: Readonly<Record<string, Drift>>,
  hosts: Readonly<Record<string, string>>,
): Readonly<Record<string, Drift>> {
  const least = new Map<string, Drift>();
  for (const [id, drift] of Object.entries(drifts)) {
    const host = hosts[id];
    if (host === undefined) continue;
    const before = least.get(host);
    if (!before || drift.factor < before.factor) least.set(host, drift);
  }
  const others = Object.entries(hosts).flatMap(([id, host]): [string, Drift][] => {
    const drift = least.get(host);
    return drift && !drifts[id] ? [[id, drift]] : [];
  });
  return { ...drifts, ...Object.fromEntries(others) };
}

/** A device's own profile, as it is now. */
export function correctedModelProfile(profile: ModelProfile, { factor }: Drift): ModelProfile {
  return scaled(profile, factor);
}

/** All times in it, wherever they are: figures whose names end in "Ms". */
function scaled<T extends ModelProfile | DeviceProfile>(profile: T, factor: number): T {
  const scale = (value: unknown, isTime: boolean): unknown => {
    if (typeof value === "number") return isTime ? value * factor : value;
    if (Array.isArray(value)) return value.map((each) => scale(each, isTime));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([name, each]) => [name, scale(each, name.endsWith("Ms"))]),
    );
  };
  return (factor === 1 ? profile : scale(profile, false)) as T;
}
