/**
 * Sharing the model's segments out among an ordered row of devices: contiguous ranges, at least one segment each,
 * so that the slowest stage is as fast as it can be. In a pipeline's steady state the slowest stage sets the pace.
 *
 * A stage's weight is its compute time per micro-batch plus the time its own sends occupy their links (latency
 * hides behind other micro-batches and is left to the simulator). Exact dynamic programming over (device, cut),
 * O(devices · segments²): first the smallest possible maximum, then, among the shares that reach it, the smallest
 * sum, which is the time a micro-batch takes to travel through the pipeline. Ranges that do not fit a device's
 * memory are not considered.
 */

import {
  type DeviceInfo,
  jointBytes,
  linkBetween,
  memoryBytes,
  type Profile,
  type SegmentCost,
  stageCost,
  transferMs,
} from "./cost.ts";
import type { SegmentRange } from "./plan.ts";
import { PlanError } from "./plan-error.ts";
import { peakInFlight } from "./program.ts";
import { chainShape, SCHEDULES, type ScheduleName } from "./schedule.ts";

export interface PartitionRequest {
  readonly segments: readonly SegmentCost[];
  /** In pipeline order. */
  readonly devices: readonly DeviceInfo[];
  readonly profile: Profile;
  readonly schedule: ScheduleName;
  readonly microBatches: number;
  readonly recompute: boolean;
  /** With `recompute`, bytes of each micro-batch that a stage may keep besides its input; 0 when left out. */
  readonly stashBytes?: number;
}

export interface Partition {
  /** One range per device, in order. */
  readonly ranges: readonly SegmentRange[];
  /** Weight of the slowest stage, in milliseconds per micro-batch. */
  readonly slowestMs: number;
}

/** @throws PlanError when there are more devices than segments, or when no share fits the devices' memory. */
export function partition(request: PartitionRequest): Partition {
  const { segments, devices } = request;
  if (devices.length === 0) throw new PlanError("no devices to plan for, at least 1 is needed");
  if (devices.length > segments.length) {
    throw new PlanError(
      `${devices.length} devices are more than the model's ${segments.length} segments: ` +
        `use at most ${segments.length} devices`,
    );
  }
  const weigh = stageWeights(request);
  const slowestMs = best(weigh, devices.length, segments.length, Math.max).value;
  if (slowestMs === Number.POSITIVE_INFINITY) throw new PlanError(doesNotFit(request));
  const paced: Weigh = (device, from, to) => {
    const ms = weigh(device, from, to);
    return ms <= slowestMs ? ms : Number.POSITIVE_INFINITY;
  };
  const { cuts } = best(paced, devices.length, segments.length, (a, b) => a + b);
  const ranges = devices.map((_, device) => ({ from: cuts[device]!, to: cuts[device + 1]! }));
  return { ranges, slowestMs };
}

/** Weight of segments [from, to) on a device, in milliseconds per micro-batch; Infinity where they do not fit. */
export type Weigh = (device: number, from: number, to: number) => number;

/** The weights that `partition` minimises the maximum of. */
export function stageWeights(request: PartitionRequest): Weigh {
  const { segments, devices, profile, schedule, microBatches, recompute, stashBytes } = request;
  const inFlight = SCHEDULES[schedule](chainShape(devices.length, microBatches)).map((program) =>
    peakInFlight(program),
  );
  return (index, from, to) => {
    const device = devices[index]!;
    const last = index === devices.length - 1;
    const cost = stageCost(segments, profileOf(profile, device), from, to, recompute && !last, stashBytes);
    const ends = last ? jointBytes(cost) : 0;
    if (memoryBytes(cost, inFlight[index]!) + ends > (device.memoryBytes ?? Number.POSITIVE_INFINITY)) {
      return Number.POSITIVE_INFINITY;
    }
    const down = devices[index + 1];
    const up = devices[index - 1];
    const sendMs =
      (down ? transferMs(cost.outputBytes, linkBetween(profile, device.id, down.id)) : 0) +
      (up ? transferMs(cost.inputBytes, linkBetween(profile, device.id, up.id)) : 0);
    return cost.forwardMs + cost.backwardMs + sendMs;
  };
}

/** A device's measured times. @throws PlanError when there are none. */
export function profileOf(profile: Profile, device: DeviceInfo) {
  const measured = profile.devices[device.id];
  if (!measured) throw new PlanError(`device ${device.name} has no profile: measure it before planning`);
  return measured;
}

/** The best cuts under a monotone way of joining stage weights (`max` or sum). Infinity when there are none. */
function best(
  weigh: Weigh,
  devices: number,
  segments: number,
  join: (a: number, b: number) => number,
): { readonly value: number; readonly cuts: readonly number[] } {
  // value[j]: the best for the devices so far over segments [0, j); from[k][j]: where device k starts then.
  let value = Array.from({ length: segments + 1 }, (_, j) => (j === 0 ? 0 : Number.POSITIVE_INFINITY));
  const starts: number[][] = [];
  for (let device = 0; device < devices; device++) {
    const next = new Array<number>(segments + 1).fill(Number.POSITIVE_INFINITY);
    const start = new Array<number>(segments + 1).fill(0);
    for (let to = device + 1; to <= segments - (devices - device - 1); to++) {
      for (let from = device; from < to; from++) {
        const before = value[from]!;
        if (before === Number.POSITIVE_INFINITY) continue;
        const joined = join(before, weigh(device, from, to));
        if (joined < next[to]!) {
          next[to] = joined;
          start[to] = from;
        }
      }
    }
    value = next;
    starts.push(start);
  }
  const cuts = [segments];
  for (let device = devices - 1; device >= 0; device--) cuts.unshift(starts[device]![cuts[0]!]!);
  return { value: value[segments]!, cuts };
}

function doesNotFit({ segments, devices, schedule, microBatches, recompute }: PartitionRequest): string {
  const nothing = { forwardMs: [], backwardMs: [], stepMs: [] };
  const whole = memoryBytes(stageCost(segments, nothing, 0, segments.length, recompute), 1);
  const limits = devices.map(({ name, memoryBytes }) =>
    memoryBytes === undefined ? name : `${name} ${mebibytes(memoryBytes)}`,
  );
  const advice = recompute
    ? "use more devices or smaller micro-batches"
    : "use more devices or recomputation";
  return (
    `the model needs about ${mebibytes(whole)} and does not fit the devices (${limits.join(", ")}) ` +
    `with ${schedule} and ${microBatches} micro-batches: ${advice}`
  );
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
