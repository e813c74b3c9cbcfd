/**
 * What the search looks up: times and sizes of every range of segments on every device, from prefix sums, and how well
 * groups of devices are connected. The figures are those of `plan-cost.ts`, to be had in no time.
 */

import type { ShardKind } from "../../../nn/shards/plan.ts";
import type { DeviceInfo, DeviceProfile, LinkProfile, Profile, SegmentCost } from "../cost.ts";
import { jointBytes, linkBetween } from "../cost.ts";
import type { CollectiveCost } from "../run-cost.ts";
import { ringSteps } from "../simulate/ring.ts";
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

/** What the collectives of a range come to, of one micro-batch in both directions. */
export interface RingWork {
  /** A rank sends (ranks - 1) / ranks of that. */
  readonly bytes: number;
  /** It takes (ranks - 1) messages for each of these. */
  readonly rounds: number;
  /** Between two; what is short takes one. */
  readonly roundsOfTwo: number;
}

/** Of the links from one group to another. */
export interface MeanLink {
  readonly latencyMs: number;
  readonly msPerByte: number;
}

interface ShardTables {
  readonly start: readonly RingWork[];
  readonly end: readonly RingWork[];
  readonly most: readonly number[];
  readonly parts: readonly number[];
  readonly divided: Float64Array;
  readonly bytes: Float64Array;
  readonly rounds: Float64Array;
  readonly roundsOfTwo: Float64Array;
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

  /** The part of a range's work, and of its parameters, that goes by the shares; what is sent for it. */
  shardedRange(kind: ShardKind, from: number, to: number) {
    const { divided, bytes, rounds, roundsOfTwo } = this.shards(kind);
    const { start, end, gradientBytes, dividedParameters } = this.shards(kind);
    const of = (sums: Float64Array) => sums[to]! - sums[from]!;
    // Weighed by times of the first device: proportions differ little between devices.
    const work = Math.max(LEAST_MS, of(this.both[0]!));
    const parameters = this.parameterBytes(from, to);
    return {
      dividedWork: Math.min(1, of(divided) / work),
      dividedHeld: parameters === 0 ? 0 : of(dividedParameters) / parameters,
      ring: {
        bytes: of(bytes) + start[from]!.bytes + end[to - 1]!.bytes,
        rounds: of(rounds) + start[from]!.rounds + end[to - 1]!.rounds,
        roundsOfTwo: of(roundsOfTwo) + start[from]!.roundsOfTwo + end[to - 1]!.roundsOfTwo,
      } satisfies RingWork,
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

  /** The narrowest link and the longest way of a ring of devices. */
  ring(members: readonly number[]): LinkProfile {
    let latencyMs = 0;
    let bytesPerMs = Number.POSITIVE_INFINITY;
    members.forEach((member, i) => {
      const link = this.link(member, members[(i + 1) % members.length]!);
      latencyMs = Math.max(latencyMs, link.latencyMs);
      bytesPerMs = Math.min(bytesPerMs, link.bytesPerMs);
    });
    return { latencyMs, bytesPerMs };
  }

  private shards(kind: ShardKind): ShardTables {
    let tables = this.sharded.get(kind);
    if (tables) return tables;
    const all = this.segments.map(({ sharded }) => sharded?.[kind]);
    const inside = all.map((each) => ringWork([...(each?.forward ?? []), ...(each?.backward ?? [])]));
    tables = {
      most: all.map((each) => each?.mostRanks ?? 1),
      parts: all.map((each) => each?.parts ?? 1),
      divided: prefix(
        all.map((each, i) => (each?.dividedWork ?? 0) * (this.both[0]![i + 1]! - this.both[0]![i]!)),
      ),
      bytes: prefix(inside.map(({ bytes }) => bytes)),
      rounds: prefix(inside.map(({ rounds }) => rounds)),
      roundsOfTwo: prefix(inside.map(({ roundsOfTwo }) => roundsOfTwo)),
      start: all.map((each) => ringWork(each?.backwardAtStart ?? [])),
      end: all.map((each) => ringWork(each?.forwardAtEnd ?? [])),
      gradientBytes: prefix(all.map((each) => each?.gradientBytes ?? 0)),
      dividedParameters: prefix(all.map((each) => each?.dividedParameters ?? 0)),
    };
    this.sharded.set(kind, tables);
    return tables;
  }
}

/** Collectives as a ring does them: an all-reduce is a scatter of sums and a gathering of them. */
export function ringWork(collectives: readonly CollectiveCost[]): RingWork {
  const weight = (op: CollectiveCost["op"]) => (op === "all-reduce" ? 2 : 1);
  return {
    bytes: collectives.reduce((sum, { op, bytes }) => sum + weight(op) * bytes, 0),
    rounds: collectives.reduce((sum, { op }) => sum + weight(op), 0),
    roundsOfTwo: collectives.reduce((sum, { op, bytes }) => sum + ringSteps(op, bytes, 2), 0),
  };
}

/** How long a ring of so many takes for collectives of a range. */
export function ringMs({ bytes, rounds, roundsOfTwo }: RingWork, ranks: number, link: LinkProfile): number {
  const steps = ranks === 2 ? roundsOfTwo : rounds * (ranks - 1);
  return (bytes * (ranks - 1)) / ranks / link.bytesPerMs + steps * link.latencyMs;
}
