/**
 * What the search looks up: times and sizes of every range of segments on every device, from prefix sums, and how well
 * groups of devices are connected. The figures are those of `plan-cost.ts`, to be had in no time.
 */

import type { ShardKind } from "../../../nn/shards/plan.ts";
import type { DeviceInfo, DeviceProfile, LinkProfile, Profile, SegmentCost } from "../cost.ts";
import { jointBytes, linkBetween } from "../cost.ts";
import type { CollectiveCost } from "../run-cost.ts";
import {
  type CollectiveWork,
  hopsOf,
  isInTrees,
  meanSent,
  mostSent,
  pieceBytes,
  sentIn,
} from "../simulate/collective.ts";
import { residentBytes } from "./draft.ts";

/** Nothing takes no time at all, so that speeds are finite. */
const LEAST_MS = 1e-9;

/** The links between groups are averaged over so many members of each. */
const MEAN_OF = 6;

/** Prefix sums: `at[i]` is the sum of the first i values. */
function prefix(values: readonly number[]): Float64Array {
  const at = new Float64Array(values.length + 1);
  values.forEach((value, i) => {
    at[i + 1] = at[i]! + value;
  });
  return at;
}

/** What collectives come to, one after the other. */
export interface CollectiveSum {
  /** A member sends, on average. */
  readonly sentBytes: number;
  /** One after the other, until all are through: what the busiest member sends, and the pieces that hops wait for. */
  readonly bytesInRow: number;
  readonly hops: number;
}

/** Of the links from one group to another. */
export interface MeanLink {
  readonly latencyMs: number;
  readonly msPerByte: number;
}

/** Of a range among so many: before its first segment, within it, and behind its last. */
interface CollectiveTables {
  readonly start: readonly CollectiveSum[];
  readonly end: readonly CollectiveSum[];
  readonly inside: Readonly<Record<keyof CollectiveSum, Float64Array>>;
}

interface ShardTables {
  /** By number of ranks. */
  readonly collectives: Map<number, CollectiveTables>;
  readonly most: readonly number[];
  readonly parts: readonly number[];
  readonly divided: Float64Array;
  readonly gradientBytes: Float64Array;
  readonly dividedParameters: Float64Array;
}

export class Tables {
  readonly segments: readonly SegmentCost[];
  readonly devices: readonly DeviceInfo[];
  private readonly profile: Profile;
  private readonly forward: readonly Float64Array[];
  private readonly both: readonly Float64Array[];
  private readonly joint: readonly Float64Array[];
  private readonly step: readonly Float64Array[];
  private readonly resident: Float64Array;
  private readonly stash: Float64Array;
  private readonly parameters: Float64Array;
  private readonly sharded = new Map<ShardKind, ShardTables>();
  private readonly stashBudget: number;
  /** What a pass costs whatever is in it: forward, both, as one run; and an update. */
  private readonly runs: readonly (readonly [number, number, number, number])[];
  private readonly links = new Map<number, LinkProfile>();
  private readonly pairs = new Map<number, Int32Array>();
  /** How many devices each machine has. */
  private readonly neighbours = new Map<string, number>();

  constructor(
    segments: readonly SegmentCost[],
    devices: readonly DeviceInfo[],
    profile: Profile,
    stashBudget: number,
  ) {
    this.segments = segments;
    this.devices = devices;
    this.profile = profile;
    this.stashBudget = stashBudget;
    for (const host of devices.map(({ id }) => profile.hosts?.[id] ?? id)) {
      this.neighbours.set(host, (this.neighbours.get(host) ?? 0) + 1);
    }
    // Devices of a class share their profile, and with it the sums.
    const known = new Map<DeviceProfile, readonly Float64Array[]>();
    const sums = devices.map(({ id }) => {
      const times = profile.devices[id]!;
      let own = known.get(times);
      if (!own) {
        const { forwardMs, backwardMs, jointMs, stepMs } = times;
        const both = forwardMs.map((ms, i) => ms + backwardMs[i]!);
        own = [forwardMs, both, jointMs ?? both, stepMs].map(prefix);
        known.set(times, own);
      }
      return own;
    });
    this.runs = devices.map(({ id }) => {
      const { chunk } = profile.devices[id]!;
      if (!chunk) return [0, 0, 0, 0];
      const { forwardMs, backwardMs, jointMs, stepMs, otherMs } = chunk;
      return [
        forwardMs + otherMs,
        forwardMs + backwardMs + 2 * otherMs,
        ...([jointMs + otherMs, stepMs + otherMs] as const),
      ];
    });
    this.forward = sums.map((each) => each[0]!);
    this.both = sums.map((each) => each[1]!);
    this.joint = sums.map((each) => each[2]!);
    this.step = sums.map((each) => each[3]!);
    this.resident = prefix(segments.map(residentBytes));
    this.stash = prefix(segments.map(({ stashBytes }) => stashBytes));
    this.parameters = prefix(segments.map(({ parameterBytes }) => parameterBytes));
  }

  /** The same for devices with the same times. */
  timesKey(device: number): string {
    const { forwardMs, backwardMs, stepMs, chunk } = this.profile.devices[this.devices[device]!.id]!;
    return JSON.stringify([forwardMs, backwardMs, stepMs, chunk]);
  }

  /** Forward and backward pass of segments [from, to) over one micro-batch; as one run at the end of the model. */
  passMs(device: number, from: number, to: number, recompute: boolean): number {
    const last = to === this.segments.length;
    const sums = last ? this.joint[device]! : this.both[device]!;
    const [forwardRun, runs, jointRun] = this.runs[device]!;
    const again =
      recompute && !last ? this.forward[device]![to]! - this.forward[device]![from]! + forwardRun : 0;
    return Math.max(LEAST_MS, sums[to]! - sums[from]! + again + (last ? jointRun : runs));
  }

  stepMs(device: number, from: number, to: number): number {
    return this.step[device]![to]! - this.step[device]![from]! + this.runs[device]![3];
  }

  parameterBytes(from: number, to: number): number {
    return this.parameters[to]! - this.parameters[from]!;
  }

  /** What goes out behind a segment. */
  activationBytes(to: number): number {
    return to === this.segments.length ? 0 : this.segments[to - 1]!.activationBytes;
  }

  /** The most micro-batches that a device can have in flight; below 1 when the range does not fit it. */
  mostInFlight(device: number, from: number, to: number, recompute: boolean): number {
    const { memoryBytes } = this.devices[device]!;
    if (memoryBytes === undefined) return Number.POSITIVE_INFINITY;
    const stash = this.stash[to]! - this.stash[from]!;
    const again = recompute && to < this.segments.length;
    const input = from === 0 ? 0 : this.segments[from - 1]!.activationBytes;
    const kept = again ? Math.min(stash, input + this.stashBudget) : stash;
    const ends = to === this.segments.length ? jointBytes({ inputBytes: input }) : 0;
    const room = memoryBytes - this.heldBytes(from, to) - ends - (again ? stash : 0);
    if (room < 0) return 0;
    return kept === 0 ? Number.POSITIVE_INFINITY : Math.floor(room / kept);
  }

  /** Among how many a range can be divided, and in how many parts; 1 when it cannot. */
  divisible(kind: ShardKind, from: number, to: number): { ranks: number; parts: number } {
    const { most, parts, divided } = this.shards(kind);
    let ranks = Number.POSITIVE_INFINITY;
    let least = Number.POSITIVE_INFINITY;
    for (let i = from; i < to; i++) {
      ranks = Math.min(ranks, most[i]!);
      least = Math.min(least, parts[i]!);
    }
    return divided[to]! - divided[from]! > 0 ? { ranks, parts: least } : { ranks: 1, parts: 1 };
  }

  /** The part of a range's work, and of its parameters, that goes by the shares; what so many ranks send for it. */
  shardedRange(kind: ShardKind, ranks: number, from: number, to: number) {
    const { divided, gradientBytes, dividedParameters } = this.shards(kind);
    const { start, end, inside } = this.collectives(kind, ranks);
    const of = (sums: Float64Array) => sums[to]! - sums[from]!;
    // Weighed by times of the first device: proportions differ little between devices.
    const work = Math.max(LEAST_MS, of(this.both[0]!));
    const parameters = this.parameterBytes(from, to);
    return {
      dividedWork: Math.min(1, of(divided) / work),
      dividedHeld: parameters === 0 ? 0 : of(dividedParameters) / parameters,
      collectives: sumOf([
        { sentBytes: of(inside.sentBytes), bytesInRow: of(inside.bytesInRow), hops: of(inside.hops) },
        ...[start[from]!, end[to - 1]!],
      ]),
      gradientBytes: of(gradientBytes),
    };
  }

  /** Whatever is in flight: what stays, and what a pass needs while it runs. */
  heldBytes(from: number, to: number): number {
    let working = 0;
    for (let i = from; i < to; i++) working = Math.max(working, this.segments[i]!.workingBytes ?? 0);
    return this.resident[to]! - this.resident[from]! + working;
  }

  /** Whether what a device sends or receives shares an interface. */
  get interfaced(): boolean {
    return this.profile.hosts !== undefined;
  }

  stashBytes(from: number, to: number): number {
    return this.stash[to]! - this.stash[from]!;
  }

  link(from: number, to: number): LinkProfile {
    const key = from * this.devices.length + to;
    let link = this.links.get(key);
    if (!link) {
      link = linkBetween(this.profile, this.devices[from]!.id, this.devices[to]!.id);
      this.links.set(key, link);
    }
    return link;
  }

  /** The mean link from one group to another; of large groups, of some of their members. */
  between(from: readonly number[], to: readonly number[]): MeanLink {
    let latencyMs = 0;
    let msPerByte = 0;
    let count = 0;
    const [stepFrom, stepTo] = [Math.ceil(from.length / MEAN_OF), Math.ceil(to.length / MEAN_OF)];
    for (let a = 0; a < from.length; a += stepFrom) {
      for (let b = 0; b < to.length; b += stepTo) {
        const link = this.link(from[a]!, to[b]!);
        latencyMs += link.latencyMs;
        msPerByte += 1 / link.bytesPerMs;
        count++;
      }
    }
    return { latencyMs: latencyMs / count, msPerByte: msPerByte / count };
  }

  /** Of a device doing nothing; those of one machine share it. */
  idleWatts(device: number): number {
    const { power, id } = this.devices[device]!;
    return power ? power.idleWatts / this.neighbours.get(this.profile.hosts?.[id] ?? id)! : 0;
  }

  /** Of sending so much from one device to another like it. */
  networkJoules(device: number, bytes: number): number {
    const { power } = this.devices[device]!;
    return power ? (power.sentJoulesPerByte + power.receivedJoulesPerByte) * bytes : 0;
  }

  /** The slowest link of those that members of a stage use, in any of some collectives. */
  slowest(members: readonly number[], works: readonly CollectiveWork[]): LinkProfile {
    let latencyMs = 0;
    let bytesPerMs = Number.POSITIVE_INFINITY;
    for (const work of works) {
      const pairs = this.pairsOf(work);
      for (let i = 0; i < pairs.length; i += 2) {
        const link = this.link(members[pairs[i]!]!, members[pairs[i + 1]!]!);
        latencyMs = Math.max(latencyMs, link.latencyMs);
        bytesPerMs = Math.min(bytesPerMs, link.bytesPerMs);
      }
    }
    return { latencyMs, bytesPerMs };
  }

  /** Who sends to whom, one rank and the other; they are asked for again and again. */
  private pairsOf(work: CollectiveWork): Int32Array {
    const key = 2 * work.ranks + (isInTrees(work) ? 1 : 0);
    let pairs = this.pairs.get(key);
    if (!pairs) {
      pairs = Int32Array.from(sentIn(work).flatMap(({ from, to }) => [from, to]));
      this.pairs.set(key, pairs);
    }
    return pairs;
  }

  private shards(kind: ShardKind): ShardTables {
    let tables = this.sharded.get(kind);
    if (tables) return tables;
    const all = this.segments.map(({ sharded }) => sharded?.[kind]);
    tables = {
      collectives: new Map(),
      most: all.map((each) => each?.mostRanks ?? 1),
      parts: all.map((each) => each?.parts ?? 1),
      divided: prefix(
        all.map((each, i) => (each?.dividedWork ?? 0) * (this.both[0]![i + 1]! - this.both[0]![i]!)),
      ),
      gradientBytes: prefix(all.map((each) => each?.gradientBytes ?? 0)),
      dividedParameters: prefix(all.map((each) => each?.dividedParameters ?? 0)),
    };
    this.sharded.set(kind, tables);
    return tables;
  }

  private collectives(kind: ShardKind, ranks: number): CollectiveTables {
    const { collectives } = this.shards(kind);
    let tables = collectives.get(ranks);
    if (tables) return tables;
    const all = this.segments.map(({ sharded }) => sharded?.[kind]);
    const of = (costs: readonly CollectiveCost[] = []) =>
      sumOf(costs.map((cost) => costOf({ ...cost, ranks })));
    const inside = all.map((each) => sumOf([of(each?.forward), of(each?.backward)]));
    tables = {
      start: all.map((each) => of(each?.backwardAtStart)),
      end: all.map((each) => of(each?.forwardAtEnd)),
      inside: {
        sentBytes: prefix(inside.map(({ sentBytes }) => sentBytes)),
        bytesInRow: prefix(inside.map(({ bytesInRow }) => bytesInRow)),
        hops: prefix(inside.map(({ hops }) => hops)),
      },
    };
    collectives.set(ranks, tables);
    return tables;
  }
}

function costOf(work: CollectiveWork): CollectiveSum {
  const hops = hopsOf(work);
  return { sentBytes: meanSent(work), bytesInRow: mostSent(work) + hops * pieceBytes(work), hops };
}

function sumOf(sums: readonly CollectiveSum[]): CollectiveSum {
  const total = (of: (each: CollectiveSum) => number) => sums.reduce((sum, each) => sum + of(each), 0);
  return {
    sentBytes: total(({ sentBytes }) => sentBytes),
    bytesInRow: total(({ bytesInRow }) => bytesInRow),
    hops: total(({ hops }) => hops),
  };
}
