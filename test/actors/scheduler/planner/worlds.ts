/** Made-up models, devices and links for planners, drawn from a seed so that a failing case can be repeated. */

import type {
  DeviceInfo,
  LinkProfile,
  Profile,
  SegmentCost,
  ShardedSegment,
} from "../../../../actors/scheduler/cost.ts";
import type { PlanRequest } from "../../../../actors/scheduler/planner.ts";

/** mulberry32. */
export function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export interface WorldSize {
  readonly devices: number;
  readonly segments: number;
  readonly microBatches: number;
  /** Whether segments can be shared inside a micro-batch. */
  readonly sharded?: boolean;
}

/** Unequal devices, some of little memory, and links from narrow to wide, all at random. */
export function randomWorld(
  seed: number,
  { devices, segments, microBatches, sharded }: WorldSize,
): PlanRequest {
  const random = generator(seed);
  const between = (low: number, high: number) => low + random() * (high - low);
  const spread = between(0, 2);
  const costs = Array.from({ length: segments }, (_, i): SegmentCost => {
    const bytes = between(1e4, 1e6);
    return {
      name: `s${i}`,
      parameterBytes: between(1e4, 2e6),
      activationBytes: i === segments - 1 ? 0 : bytes,
      stashBytes: between(1, 4) * bytes,
      ...(sharded ? { sharded: { tensor: shares(between, bytes) } } : {}),
    };
  });
  const infos = Array.from(
    { length: devices },
    (_, i): DeviceInfo => ({
      id: `d${i}`,
      name: `device ${i}`,
      ...(random() < 0.3 ? { memoryBytes: between(0.3, 1.5) * 6e6 * segments } : {}),
      power: {
        idleWatts: between(1, 5),
        busyWatts: between(6, 30),
        sentJoulesPerByte: 1e-8,
        receivedJoulesPerByte: 1e-8,
      },
    }),
  );
  const work = costs.map(() => between(2, 10));
  const times = Object.fromEntries(
    infos.map(({ id }) => {
      const speed = 4 ** between(-spread / 2, spread / 2);
      return [
        id,
        {
          forwardMs: work.map((ms) => ms / speed),
          backwardMs: work.map((ms) => (2 * ms) / speed),
          stepMs: work.map((ms) => (0.1 * ms) / speed),
        },
      ];
    }),
  );
  // 8 Mbit/s to 8 Gbit/s.
  const wide = 10 ** between(3, 6);
  const link = (): LinkProfile => ({ latencyMs: between(0, 2), bytesPerMs: wide * between(0.5, 2) });
  const links = Object.fromEntries(
    infos.map(({ id }) => [id, Object.fromEntries(infos.map((other) => [other.id, link()]))]),
  );
  const profile: Profile = { devices: times, links };
  return {
    ...{ segments: costs, devices: infos, profile },
    options: { strategy: "auto", schedule: "1f1b", microBatches, recompute: false },
  };
}

function shares(between: (low: number, high: number) => number, bytes: number): ShardedSegment {
  const reduce = { op: "all-reduce", bytes } as const;
  return {
    ...{ mostRanks: 8, parts: 8, dividedWork: between(0.8, 1), dividedStash: 0.7, dividedParameters: 5e3 },
    ...{ forward: [reduce], backward: [reduce], forwardAtEnd: [], backwardAtStart: [], gradientBytes: 100 },
  };
}
