import { describe, expect, test } from "bun:test";
import type { DeviceInfo, LinkProfile, Profile, SegmentCost } from "../../../actors/scheduler/cost.ts";
import { type PartitionRequest, partition, stageWeights } from "../../../actors/scheduler/partition.ts";
import type { SegmentRange } from "../../../actors/scheduler/plan.ts";
import { PlanError } from "../../../actors/scheduler/plan-error.ts";

/** A small seeded generator (mulberry32), so that a failing case can be repeated. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Every way to cut [0, segments) into `parts` ranges. */
function* allCuts(parts: number, segments: number, from = 0): Generator<SegmentRange[]> {
  if (parts === 1) {
    yield [{ from, to: segments }];
    return;
  }
  for (let to = from + 1; to <= segments - (parts - 1); to++) {
    for (const rest of allCuts(parts - 1, segments, to)) yield [{ from, to }, ...rest];
  }
}

function randomRequest(seed: number): PartitionRequest {
  const random = generator(seed);
  const segmentCount = 1 + Math.floor(random() * 8);
  const deviceCount = 1 + Math.floor(random() * Math.min(4, segmentCount));
  const segments: SegmentCost[] = Array.from({ length: segmentCount }, (_, i) => ({
    name: `s${i}`,
    parameterBytes: Math.floor(random() * 1000),
    activationBytes: Math.floor(random() * 100),
    stashBytes: Math.floor(random() * 500),
  }));
  const devices: DeviceInfo[] = Array.from({ length: deviceCount }, (_, i) => ({
    id: `d${i}`,
    name: `device ${i}`,
    ...(random() < 0.3 ? { memoryBytes: 2000 + random() * 20000 } : {}),
  }));
  const measured = Object.fromEntries(
    devices.map(({ id }) => {
      const speed = 0.2 + random();
      const times = () => segments.map(() => (1 + random() * 4) / speed);
      return [id, { forwardMs: times(), backwardMs: times(), stepMs: segments.map(() => 0) }];
    }),
  );
  const link = (): LinkProfile => ({ latencyMs: random(), bytesPerMs: 10 + random() * 100 });
  const links = Object.fromEntries(
    devices.map(({ id }) => [id, Object.fromEntries(devices.map((other) => [other.id, link()]))]),
  );
  return {
    segments,
    devices,
    profile: { devices: measured, links },
    schedule: random() < 0.5 ? "gpipe" : "1f1b",
    microBatches: 1 + Math.floor(random() * 6),
    recompute: random() < 0.5,
  };
}

test("is exactly as good as trying every share (400 seeded cases)", () => {
  let unfit = 0;
  for (let seed = 1; seed <= 400; seed++) {
    const request = randomRequest(seed);
    const weigh = stageWeights(request);
    const slowest = (ranges: readonly SegmentRange[]) =>
      Math.max(...ranges.map(({ from, to }, device) => weigh(device, from, to)));
    const oracle = Math.min(...[...allCuts(request.devices.length, request.segments.length)].map(slowest));
    if (oracle === Number.POSITIVE_INFINITY) {
      unfit++;
      expect(() => partition(request), `seed ${seed}`).toThrow(PlanError);
      continue;
    }
    const { ranges, slowestMs } = partition(request);
    expect(slowestMs, `seed ${seed}`).toBe(oracle);
    expect(slowest(ranges), `seed ${seed}`).toBe(oracle);
    expect(
      ranges.map(({ from }) => from),
      `seed ${seed}`,
    ).toEqual([0, ...ranges.slice(0, -1).map(({ to }) => to)]);
    expect(ranges.at(-1)!.to).toBe(request.segments.length);
    for (const { from, to } of ranges) expect(to, `seed ${seed}`).toBeGreaterThan(from);
  }
  // Both kinds of case must have been met, or the test says nothing about memory.
  expect(unfit).toBeGreaterThan(5);
  expect(unfit).toBeLessThan(200);
});

/** Segments and devices of constant speed, one segment taking 1 ms forward and 2 ms backward at speed 1. */
function even(
  count: number,
  speeds: readonly number[],
  rest: Partial<PartitionRequest> = {},
): PartitionRequest {
  const segments = Array.from({ length: count }, (_, i) => ({
    name: `s${i}`,
    parameterBytes: 100,
    activationBytes: 10,
    stashBytes: 50,
  }));
  const devices = speeds.map((_, i) => ({ id: `d${i}`, name: `device ${i}` }));
  const fast = { latencyMs: 0, bytesPerMs: 1e9 };
  const profile: Profile = {
    devices: Object.fromEntries(
      speeds.map((speed, i) => [
        `d${i}`,
        {
          forwardMs: segments.map(() => 1 / speed),
          backwardMs: segments.map(() => 2 / speed),
          stepMs: segments.map(() => 0),
        },
      ]),
    ),
    links: Object.fromEntries(
      devices.map(({ id }) => [id, Object.fromEntries(devices.map((other) => [other.id, fast]))]),
    ),
  };
  return { segments, devices, profile, schedule: "1f1b", microBatches: 4, recompute: false, ...rest };
}

const sizes = (request: PartitionRequest) => partition(request).ranges.map(({ from, to }) => to - from);

describe("shares follow measured speed", () => {
  test("equal devices get equal shares", () => {
    expect(sizes(even(12, [1, 1, 1]))).toEqual([4, 4, 4]);
  });

  test("a device of three times the speed gets three times the segments", () => {
    expect(sizes(even(8, [1, 3]))).toEqual([2, 6]);
    expect(sizes(even(10, [2, 1, 2]))).toEqual([4, 2, 4]);
  });

  test("every device gets at least one segment", () => {
    expect(sizes(even(3, [100, 1, 1]))).toEqual([1, 1, 1]);
  });

  test("a slow link moves the cut to where little crosses it", () => {
    const request = even(4, [1, 1]);
    const segments = request.segments.map((s, i) => ({ ...s, activationBytes: i === 0 ? 10 : 1000 }));
    const link = { latencyMs: 0, bytesPerMs: 100 };
    const links = { d0: { d1: link }, d1: { d0: link } };
    const slow = { ...request, segments, profile: { ...request.profile, links } };
    expect(sizes(request)).toEqual([2, 2]);
    expect(sizes(slow)).toEqual([1, 3]);
  });
});

describe("memory", () => {
  const limited = (memoryBytes: number, rest: Partial<PartitionRequest> = {}) => {
    const request = even(8, [1, 1], rest);
    return { ...request, devices: request.devices.map((d, i) => (i === 0 ? { ...d, memoryBytes } : d)) };
  };

  test("a device gets no more than it can hold", () => {
    // A segment takes 4 · 100 bytes of parameters, gradients and moments, and 2 stashes of 50 in flight.
    expect(sizes(limited(2000))).toEqual([4, 4]);
    expect(sizes(limited(1499))).toEqual([2, 6]);
  });

  test("GPipe keeps more in flight and therefore holds less", () => {
    expect(sizes(limited(2000, { schedule: "gpipe" }))).toEqual([3, 5]);
  });

  test("recomputation makes room", () => {
    expect(sizes(limited(1400, { schedule: "gpipe" }))).toEqual([2, 6]);
    expect(sizes(limited(1400, { schedule: "gpipe", recompute: true }))).toEqual([3, 5]);
  });

  test("what fits nowhere is refused in one line", () => {
    expect(() => partition(limited(100))).toThrow(
      /^the model needs about .* MiB and does not fit the devices \(device 0 0\.0 MiB, device 1\)[^\n]*$/,
    );
  });
});

test("more devices than segments: one line with both numbers", () => {
  expect(() => partition(even(2, [1, 1, 1]))).toThrow(
    "3 devices are more than the model's 2 segments: use at most 2 devices",
  );
});
