/**
 * A group of devices as one stage: how long it takes for the micro-batches of a step, and what else a plan is compared
 * by, for each way in which its members can share the work. Closed forms, for the search; the simulator settles.
 */

import { apportion } from "../../../nn/shards/assign.ts";
import type { ShardKind } from "../../../nn/shards/plan.ts";
import { transferMs } from "../cost.ts";
import { isSharded, type Sharing } from "../plan.ts";
import { type CollectiveWork, evenMs, meanSent } from "../simulate/collective.ts";
import { deal, dealCounts, sharesBySpeed } from "./deal.ts";
import type { Tables } from "./tables.ts";

/** A group as a stage, with so many micro-batches in flight. */
export interface Choice {
  readonly sharing: Sharing | null;
  readonly recompute: boolean;
  readonly lanes: number;
  /** Those that have something to do. */
  readonly members: readonly number[];
  /** Until the last micro-batch of a step is done, if it never waited. */
  readonly stepMs: number;
  /** Of one micro-batch, forward and backward. */
  readonly passMs: number;
  /** After the last backward pass: adding up gradients and the update. */
  readonly tailMs: number;
  /** Above the idle watts. */
  readonly joules: number;
  readonly idleWatts: number;
}

/**
 * How many of its micro-batches a worker has in flight at most. A lane is a worker that takes micro-batches in turn with
 * others, or several that share the work inside each.
 * @param count it takes of the micro-batches of a step. @param lanesBehind from the next stage on to the last.
 */
export type InFlight = (count: number, lanesBehind: number) => number;

/** What a stage may be. */
export interface Allowed {
  readonly sharings: readonly Sharing[];
  readonly recompute: boolean | "where-needed";
  /** Of the bytes of gradients that members add up, what travels. */
  readonly gradientRatio: number;
  /** Whether a codec makes that of them. */
  readonly encodesSums: boolean;
  readonly localSteps: number;
}

export class Groups {
  private readonly tables: Tables;
  private readonly microBatches: number;
  private readonly inFlight: InFlight;
  private readonly allowed: Allowed;
  /** Whether memory has made a difference since somebody set it to false. */
  bound = false;

  constructor(tables: Tables, microBatches: number, inFlight: InFlight, allowed: Allowed) {
    this.tables = tables;
    this.microBatches = microBatches;
    this.inFlight = inFlight;
    this.allowed = allowed;
  }

  /** All ways that fit memory, in front of a pipeline of so many lanes. */
  choices(members: readonly number[], from: number, to: number, lanesBehind: number): Choice[] {
    const { recompute, sharings } = this.allowed;
    const last = to === this.tables.segments.length;
    const found: Choice[] = [];
    const add = (choice: Choice | null) => {
      if (choice) found.push(choice);
      return choice !== null;
    };
    for (const sharing of members.length === 1 ? [null] : sharings) {
      const attempt = (again: boolean) =>
        isSharded(sharing)
          ? this.sharded(sharing as ShardKind, members, from, to, lanesBehind, again)
          : this.dealt(sharing, members, from, to, lanesBehind, again);
      if (recompute === true && !last) add(attempt(true));
      else if (!add(attempt(false)) && recompute === "where-needed" && !last) add(attempt(true));
    }
    return found;
  }

  /** One device, or several that take micro-batches in turns. */
  private dealt(
    sharing: Sharing | null,
    all: readonly number[],
    from: number,
    to: number,
    lanesBehind: number,
    recompute: boolean,
  ): Choice | null {
    const { tables, microBatches } = this;
    const times = all.map((device) => tables.passMs(device, from, to, recompute));
    const most = all.map((device) => tables.mostInFlight(device, from, to, recompute));
    let counts = all.map(() => microBatches);
    let end = times[0]! * microBatches;
    if (all.length > 1) end = dealCounts(times, microBatches, counts);
    const needs = (count: number) => (count === 0 ? 0 : this.inFlight(count, lanesBehind));
    if (counts.some((count, i) => needs(count) > most[i]!)) {
      this.bound = true;
      const dealt = deal(
        times.map((ms, i) => ({ ms, most: mostDealt(microBatches, most[i]!, needs) })),
        microBatches,
      );
      if (!dealt) return null;
      counts = dealt.map((own) => own.length);
      end = Math.max(...times.map((ms, i) => ms * counts[i]!));
    }
    const working = all.filter((_, i) => counts[i]! > 0);
    if (working.length < all.length && working.length < 2) return null;
    let stepMs = 0;
    let passMs = 0;
    let joules = 0;
    let idleWatts = 0;
    all.forEach((device, i) => {
      if (counts[i] === 0) return;
      const updateMs = tables.stepMs(device, from, to);
      stepMs = Math.max(stepMs, updateMs);
      passMs += (times[i]! * counts[i]!) / microBatches;
      joules += this.busyJoules(device, times[i]! * counts[i]! + updateMs);
      idleWatts += tables.idleWatts(device);
    });
    let reduceMs = 0;
    const ranks = working.length;
    if (ranks > 1) {
      const { localSteps, gradientRatio } = this.allowed;
      const sum = this.sum(tables.parameterBytes(from, to) * gradientRatio, ranks);
      reduceMs = evenMs(sum, tables.slowest(working, [sum])) / localSteps;
      const sent = meanSent(sum) / localSteps;
      for (const device of working) joules += this.joulesPerByte(device) * sent;
    }
    return {
      ...{ sharing, recompute, lanes: ranks, members: working, stepMs: end, passMs },
      ...{ tailMs: reduceMs + stepMs, joules, idleWatts },
    };
  }

  /** Several that share the work inside every micro-batch. */
  private sharded(
    kind: ShardKind,
    members: readonly number[],
    from: number,
    to: number,
    lanesBehind: number,
    recompute: boolean,
  ): Choice | null {
    const { tables, microBatches } = this;
    const ranks = members.length;
    const { ranks: most, parts } = tables.divisible(kind, from, to);
    if (most < ranks) return null;
    const range = tables.shardedRange(kind, ranks, from, to);
    const { dividedWork, dividedHeld, collectives, gradientBytes } = range;
    const times = members.map((device) => tables.passMs(device, from, to, recompute));
    const given = apportion(parts, sharesBySpeed(times, dividedWork));
    const sum = this.sum(gradientBytes, ranks);
    const works = (["all-gather", "all-reduce"] as const).map((op) => ({ op, bytes: 0, ranks }));
    const link = tables.slowest(members, works);
    const collectiveMs = transferMs(collectives.bytesInRow, link) + collectives.hops * link.latencyMs;
    const last = to === tables.segments.length;
    let kernelMs = 0;
    let joules = 0;
    let idleWatts = 0;
    let updateMs = 0;
    for (let i = 0; i < ranks; i++) {
      const device = members[i]!;
      const share = given[i]! / parts;
      const own = times[i]! * (1 - dividedWork + dividedWork * share);
      const held = tables.heldBytes(from, to) * (1 - dividedHeld + dividedHeld * share);
      const stash = tables.stashBytes(from, to) * (1 - dividedWork + dividedWork * share);
      const input = from === 0 ? 0 : tables.activationBytes(from);
      const window = this.inFlight(microBatches, lanesBehind);
      const kept = recompute && !last ? Math.min(stash, input) * window + stash : stash * window;
      if (held + kept > (tables.devices[device]!.memoryBytes ?? Number.POSITIVE_INFINITY)) {
        this.bound = true;
        return null;
      }
      const step = tables.stepMs(device, from, to) * (1 - dividedHeld + dividedHeld * share);
      kernelMs = Math.max(kernelMs, own);
      updateMs = Math.max(updateMs, step);
      const sent = collectives.sentBytes * microBatches + meanSent(sum);
      joules += this.busyJoules(device, own * microBatches + step) + this.joulesPerByte(device) * sent;
      idleWatts += tables.idleWatts(device);
    }
    const passMs = kernelMs + collectiveMs;
    const reduceMs = gradientBytes > 0 ? evenMs(sum, link) : 0;
    return {
      ...{ sharing: kind, recompute, lanes: 1, members, stepMs: passMs * microBatches, passMs },
      ...{ tailMs: reduceMs + updateMs, joules, idleWatts },
    };
  }

  /** Adding up gradients of so many bytes. */
  private sum(bytes: number, ranks: number): CollectiveWork {
    return { op: "all-reduce", bytes, ranks, isEncoded: this.allowed.encodesSums };
  }

  private busyJoules(device: number, busyMs: number): number {
    const power = this.tables.devices[device]!.power;
    return power ? ((power.busyWatts - power.idleWatts) * busyMs) / 1000 : 0;
  }

  private joulesPerByte(device: number): number {
    const power = this.tables.devices[device]!.power;
    return power ? power.sentJoulesPerByte + power.receivedJoulesPerByte : 0;
  }
}

/**
 * The most micro-batches of a step that a device can be given which has room for so many in flight.
 * @param needs in flight with so many of them: the more of these, the more of those.
 */
export function mostDealt(microBatches: number, room: number, needs: (count: number) => number): number {
  let [fits, tooMany] = [0, microBatches + 1];
  while (tooMany - fits > 1) {
    const count = (fits + tooMany) >> 1;
    if (needs(count) > room) tooMany = count;
    else fits = count;
  }
  return fits;
}
