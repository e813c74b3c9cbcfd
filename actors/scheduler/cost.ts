/**
 * What work costs: measured times of segments on devices and of bytes on links, and what follows from them for a
 * stage. Everything here is arithmetic over a profile; nothing is measured here.
 *
 * Times are milliseconds, sizes are bytes, and both are per micro-batch unless a name says otherwise.
 */

import type { StageProgram } from "./program.ts";
import { peakInFlight } from "./program.ts";

/** The smallest piece of the model that can be cut apart, as the planner sees it. */
export interface SegmentCost {
  readonly name: string;
  readonly parameterBytes: number;
  /** Of what the optimiser keeps of the parameters; AdamW's two moments when left out. */
  readonly stateBytes?: number;
  /** Of values that are held and not trained, running statistics twice; none when left out. */
  readonly frozenBytes?: number;
  /** Whether its output depends on a parameter, so that a gradient comes back for it; when left out, it does. */
  readonly trained?: boolean;
  /** What crosses the cut behind this segment; the gradient on its way back is as large. */
  readonly activationBytes: number;
  /** What the forward pass keeps for the backward pass, the segment's input included. */
  readonly stashBytes: number;
}

/** A device as the planner sees it. */
export interface DeviceInfo {
  readonly id: string;
  readonly name: string;
  /** What a stage may use; no limit when left out. */
  readonly memoryBytes?: number;
}

/** Times of every segment on one device. The backward pass is without recomputation. */
export interface DeviceProfile {
  readonly forwardMs: readonly number[];
  readonly backwardMs: readonly number[];
  /** The optimiser's update, once per step. */
  readonly stepMs: readonly number[];
}

/** A directed connection: a message of n bytes occupies it for n / bytesPerMs and arrives `latencyMs` later. */
export interface LinkProfile {
  readonly latencyMs: number;
  readonly bytesPerMs: number;
}

export interface Profile {
  /** By device id. */
  readonly devices: Readonly<Record<string, DeviceProfile>>;
  /** By device ids, `links[from][to]`. */
  readonly links: Readonly<Record<string, Readonly<Record<string, LinkProfile>>>>;
  /** Processor cores that all devices share, when they are processes of one machine. */
  readonly cores?: number;
}

/** A connection that costs nothing: two stages on one device, or an ideal. */
export const FREE_LINK: LinkProfile = { latencyMs: 0, bytesPerMs: Number.POSITIVE_INFINITY };

/** Whatever the optimiser, training holds the value of each parameter and its accumulated gradient. */
const COPIES_OF_PARAMETERS = 2;

/** What a stage costs. `backwardMs` includes the forward pass when the stage recomputes. */
export interface StageCost {
  readonly forwardMs: number;
  readonly backwardMs: number;
  /** Once per step. */
  readonly stepMs: number;
  readonly parameterBytes: number;
  readonly stateBytes: number;
  readonly frozenBytes: number;
  /** What the stage keeps of each micro-batch in flight. */
  readonly keptBytes: number;
  /** What it needs besides for the one micro-batch it is working on. */
  readonly workingBytes: number;
  /** Input from the stage before; 0 at the first position. */
  readonly inputBytes: number;
  /** Output to the stage behind; the last segment's is not sent. */
  readonly outputBytes: number;
}

/**
 * What segments [from, to) cost as one stage on a device.
 * @param stashBudget when recomputing, bytes that may be kept besides the input. The time it saves is not counted on.
 */
export function stageCost(
  segments: readonly SegmentCost[],
  device: DeviceProfile,
  from: number,
  to: number,
  recompute: boolean,
  stashBudget = 0,
): StageCost {
  const sum = (values: readonly number[]) => values.slice(from, to).reduce((a, b) => a + b, 0);
  const held = segments.slice(from, to);
  const forwardMs = sum(device.forwardMs);
  const stashBytes = held.reduce((a, segment) => a + segment.stashBytes, 0);
  const inputBytes = from === 0 ? 0 : segments[from - 1]!.activationBytes;
  return {
    forwardMs,
    backwardMs: sum(device.backwardMs) + (recompute ? forwardMs : 0),
    stepMs: sum(device.stepMs),
    parameterBytes: held.reduce((a, segment) => a + segment.parameterBytes, 0),
    stateBytes: held.reduce((a, segment) => a + (segment.stateBytes ?? 2 * segment.parameterBytes), 0),
    frozenBytes: held.reduce((a, segment) => a + (segment.frozenBytes ?? 0), 0),
    keptBytes: recompute ? Math.min(stashBytes, inputBytes + stashBudget) : stashBytes,
    workingBytes: recompute ? stashBytes : 0,
    inputBytes,
    outputBytes: to === segments.length ? 0 : segments[to - 1]!.activationBytes,
  };
}

/** Memory a stage needs with so many micro-batches in flight. */
export function memoryBytes(cost: StageCost, inFlight: number): number {
  const held = cost.parameterBytes * COPIES_OF_PARAMETERS + cost.stateBytes + cost.frozenBytes;
  return held + cost.keptBytes * inFlight + cost.workingBytes;
}

/** Memory the stage needs when it runs this program. */
export function programMemoryBytes(cost: StageCost, program: StageProgram): number {
  return memoryBytes(cost, peakInFlight(program));
}

/**
 * The link from one device to another.
 * @throws RangeError when the profile has none, naming both.
 */
export function linkBetween(profile: Profile, from: string, to: string): LinkProfile {
  if (from === to) return FREE_LINK;
  const link = profile.links[from]?.[to];
  if (!link) throw new RangeError(`the profile has no link from ${from} to ${to}`);
  return link;
}

/** How long a message occupies its link. */
export function transferMs(bytes: number, link: LinkProfile): number {
  return bytes / link.bytesPerMs;
}
