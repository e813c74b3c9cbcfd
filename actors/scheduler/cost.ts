/**
 * What work costs: measured times of segments on devices and of bytes on links, and what follows from them for a
 * stage. Everything here is arithmetic over a profile; nothing is measured here.
 *
 * Times are milliseconds, sizes are bytes, and both are per micro-batch unless a name says otherwise.
 */

import type { ChunkTimes } from "../../nn/profile.ts";
import type { ShardKind } from "../../nn/shards/plan.ts";
import type { DevicePower } from "../energy/model.ts";
import type { StageProgram } from "./program.ts";
import { peakInFlight } from "./program.ts";
import type { CollectiveCost } from "./run-cost.ts";

/**
 * What sharing a segment's work inside a micro-batch comes to, for any number of ranks and any shares: what is divided
 * goes by the shares, the rest everyone has or does. Sizes are of the whole segment.
 */
export interface ShardedSegment {
  readonly mostRanks: number;
  /** Equal parts in which it is given out: shares are whole numbers of them. */
  readonly parts: number;
  /** The part of the kernels' work that is divided, 0 … 1. */
  readonly dividedWork: number;
  /** The part of the stash that is. */
  readonly dividedStash: number;
  /** Of parameters, and with them gradients and the optimiser's state. */
  readonly dividedParameters: number;
  /** Of a pass through it, wherever it is in a chunk. */
  readonly forward: readonly CollectiveCost[];
  readonly backward: readonly CollectiveCost[];
  /** Besides, where a chunk ends with it, or begins: what leaves is made whole. */
  readonly forwardAtEnd: readonly CollectiveCost[];
  readonly backwardAtStart: readonly CollectiveCost[];
  /** Of gradients that are added up over the ranks, once in a step. */
  readonly gradientBytes: number;
}

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
  /** What a pass needs besides while it runs; nothing where nobody has measured it. */
  readonly workingBytes?: number;
  /** How it can be shared inside a micro-batch; a kind that is left out is impossible. */
  readonly sharded?: Readonly<Partial<Record<ShardKind, ShardedSegment>>>;
}

/** A device as the planner sees it. */
export interface DeviceInfo {
  readonly id: string;
  readonly name: string;
  /** What a stage may use; no limit when left out. */
  readonly memoryBytes?: number;
  /** Left out where nobody knows. */
  readonly power?: DevicePower;
}

/** Times of every segment on one device. The backward pass is without recomputation. */
export interface DeviceProfile {
  readonly forwardMs: readonly number[];
  readonly backwardMs: readonly number[];
  /** The optimiser's update, once per step. */
  readonly stepMs: readonly number[];
  /** Of the backward pass in two; half of it each where nobody has measured them. */
  readonly backwardInputMs?: readonly number[];
  readonly backwardWeightMs?: readonly number[];
  /** Forward and backward pass as one run; their sum where nobody has measured it. */
  readonly jointMs?: readonly number[];
  /** Kernels only, of one of so many ranks with equal shares; by the segment's figures where nobody has measured them. */
  readonly sharded?: Readonly<Partial<Record<ShardKind, ShardedTimes>>>;
  /** What runs of a chunk cost whatever it holds, to be added to its segments' times; nothing where nobody has measured it. */
  readonly chunk?: ChunkTimes;
  /** To encode and decode an MB of f32 with a tensor codec, by name; nothing where nobody has measured it. */
  readonly codecMsPerMb?: Readonly<Record<string, number>>;
}

export interface ShardedTimes {
  readonly ranks: number;
  readonly forwardMs: readonly number[];
  readonly backwardMs: readonly number[];
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
  /**
   * By device id, a round trip of a message between whoever drives the steps and the device, in milliseconds: a step takes
   * two of the longest, one to begin and one to commit it. Nothing where nobody has measured it.
   */
  readonly controlMs?: Readonly<Record<string, number>>;
  /** Processor cores that all devices share, when they are processes of one machine. */
  readonly cores?: number;
  /**
   * By device id, the machine that it is a process of, by any name: what leaves a machine goes through one interface, and
   * its power is one machine's. When left out, links share nothing, and every device is a machine of its own.
   */
  readonly hosts?: Readonly<Record<string, string>>;
}

/** A connection that costs nothing: two stages on one device, or an ideal. */
export const FREE_LINK: LinkProfile = { latencyMs: 0, bytesPerMs: Number.POSITIVE_INFINITY };

/** What a stage costs. `backwardMs` and `backwardInputMs` include the forward pass when the stage recomputes. */
export interface StageCost {
  readonly forwardMs: number;
  readonly backwardMs: number;
  /** Of the backward pass in two, where both are known. */
  readonly backwardInputMs?: number;
  readonly backwardWeightMs?: number;
  /** Forward and backward pass as one run. */
  readonly jointMs: number;
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
  /** Within a pass, where its work is shared. */
  readonly forwardCollectives: readonly CollectiveCost[];
  readonly backwardCollectives: readonly CollectiveCost[];
  /** Of gradients that are added up over the ranks, once in a step. */
  readonly sharedGradientBytes: number;
}

/** Of runs that nobody has measured apart from what is in them. */
const NO_CHUNK_TIMES: ChunkTimes = { forwardMs: 0, backwardMs: 0, jointMs: 0, stepMs: 0, otherMs: 0 };

/** A rank's part of the work inside a micro-batch. */
export interface RankPart {
  readonly kind: ShardKind;
  /** 0 … 1. */
  readonly share: number;
}

/**
 * What segments [from, to) cost as one stage on a device.
 * @param stashBudget when recomputing, bytes that may be kept besides the input. The time it saves is not counted on.
 * @param part of it, where the work inside a micro-batch is shared. Every segment must allow that.
 */
export function stageCost(
  segments: readonly SegmentCost[],
  device: DeviceProfile,
  from: number,
  to: number,
  recompute: boolean,
  stashBudget = 0,
  part?: RankPart,
): StageCost {
  const held = segments.slice(from, to);
  const scaled = (values: readonly number[], measured?: (times: ShardedTimes) => readonly number[]) => {
    let sum = 0;
    for (let i = from; i < to; i++)
      sum += values[i]! * partOfWork(segments[i]!, device, i, part, values, measured);
    return sum;
  };
  const divided = (bytes: number, segment: SegmentCost, of: (sharded: ShardedSegment) => number) =>
    part ? bytes * portion(of(segment.sharded![part.kind]!), part.share) : bytes;
  const ofParameters = (segment: SegmentCost, bytes: number) =>
    divided(bytes, segment, ({ dividedParameters }) =>
      segment.parameterBytes === 0 ? 0 : dividedParameters / segment.parameterBytes,
    );
  const total = (bytes: (segment: SegmentCost) => number) => held.reduce((sum, each) => sum + bytes(each), 0);

  const sharded = part ? held.map((each) => each.sharded![part.kind]!) : [];
  const forwardCollectives = [
    ...sharded.flatMap((own) => own.forward),
    ...(sharded.at(-1)?.forwardAtEnd ?? []),
  ];
  const backwardCollectives = [
    ...sharded.flatMap((own) => own.backward),
    ...(sharded[0]?.backwardAtStart ?? []),
  ];
  // Where work is shared, what runs between two collectives is a run of its own.
  const { chunk = NO_CHUNK_TIMES } = device;
  const each = (ms: number, count = 1) => (ms + chunk.otherMs) * count;
  const forwardMs =
    scaled(device.forwardMs, (times) => times.forwardMs) +
    each(chunk.forwardMs, forwardCollectives.length + 1);
  const backwardMs =
    scaled(device.backwardMs, (times) => times.backwardMs) +
    each(chunk.backwardMs, backwardCollectives.length + 1);
  const again = recompute ? forwardMs : 0;
  const { backwardInputMs, backwardWeightMs, jointMs } = device;
  const apart = backwardInputMs && backwardWeightMs;
  const stashBytes = total((each) => divided(each.stashBytes, each, ({ dividedStash }) => dividedStash));
  const inputBytes = from === 0 ? 0 : segments[from - 1]!.activationBytes;
  const besides = held.reduce((most, { workingBytes = 0 }) => Math.max(most, workingBytes), 0);
  return {
    forwardMs,
    backwardMs: backwardMs + again,
    ...(apart
      ? {
          backwardInputMs: scaled(backwardInputMs) + each(chunk.backwardMs) + again,
          backwardWeightMs: scaled(backwardWeightMs) + each(chunk.backwardMs),
        }
      : {}),
    jointMs: jointMs && !part ? scaled(jointMs) + each(chunk.jointMs) : forwardMs + backwardMs,
    stepMs: held.reduce(
      (sum, own, i) => sum + ofParameters(own, device.stepMs[from + i]!),
      each(chunk.stepMs),
    ),
    parameterBytes: total((each) => ofParameters(each, each.parameterBytes)),
    stateBytes: total((each) => ofParameters(each, each.stateBytes ?? 2 * each.parameterBytes)),
    frozenBytes: total((each) => ofParameters(each, each.frozenBytes ?? 0)),
    keptBytes: recompute ? Math.min(stashBytes, inputBytes + stashBudget) : stashBytes,
    workingBytes: (recompute ? stashBytes : 0) + besides,
    inputBytes,
    outputBytes: to === segments.length ? 0 : segments[to - 1]!.activationBytes,
    forwardCollectives,
    backwardCollectives: recompute ? [...forwardCollectives, ...backwardCollectives] : backwardCollectives,
    sharedGradientBytes: sharded.reduce((sum, { gradientBytes }) => sum + gradientBytes, 0),
  };
}

/** A rank's part of something of which so much, 0 … 1, goes by the shares and the rest is everyone's. */
export function portion(divided: number, share: number): number {
  return 1 - divided + divided * share;
}

/** A rank's part of a segment's work: as measured for equal shares where it was, else by what of it is divided. */
export function partOfWork(
  segment: SegmentCost,
  device: DeviceProfile,
  index: number,
  part: RankPart | undefined,
  whole: readonly number[],
  measured?: (times: ShardedTimes) => readonly number[],
): number {
  if (!part) return 1;
  const times = device.sharded?.[part.kind];
  if (!times || !measured || whole[index] === 0) {
    return portion(segment.sharded![part.kind]!.dividedWork, part.share);
  }
  // Of an equal share it is 1 - d + d / ranks.
  const equal = measured(times)[index]! / whole[index]!;
  return Math.max(0, portion(((1 - equal) * times.ranks) / (times.ranks - 1), part.share));
}

/** Whatever the optimiser, training holds the value of each parameter and its accumulated gradient. */
const COPIES_OF_PARAMETERS = 2;

/** What a stage holds whatever is in flight: parameters, gradients, the optimiser's state, and what is frozen. */
export function heldBytes({ parameterBytes, stateBytes, frozenBytes }: StageCost): number {
  return parameterBytes * COPIES_OF_PARAMETERS + stateBytes + frozenBytes;
}

/** What of a segment training changes, and copies are made of: parameters and the optimiser's state. */
export function changingBytes({ parameterBytes, stateBytes }: SegmentCost): number {
  return parameterBytes + (stateBytes ?? 2 * parameterBytes);
}

/**
 * What a stage besides holds whose passes are one run: the next micro-batch comes in while one is worked on and the
 * gradient of the one before goes out, an input and a gradient more than are in flight.
 */
export function jointBytes({ inputBytes }: Pick<StageCost, "inputBytes">): number {
  return 2 * inputBytes;
}

/** Memory a stage needs with so many micro-batches in flight. */
export function memoryBytes(cost: StageCost, inFlight: number): number {
  return heldBytes(cost) + cost.keptBytes * inFlight + cost.workingBytes;
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
