import { describe, expect, test } from "bun:test";
import type { DeviceInfo, Profile, SegmentCost } from "../../../actors/scheduler/cost.ts";
import { planPrograms, workersOf } from "../../../actors/scheduler/plan.ts";
import { PlanError } from "../../../actors/scheduler/plan-error.ts";
import { makePlan, type PlanOptions, type PlanRequest } from "../../../actors/scheduler/planner.ts";
import { validatePrograms } from "../../../actors/scheduler/validate.ts";

const options: PlanOptions = { strategy: "pipeline", schedule: "1f1b", microBatches: 8, recompute: false };

/** Six equal segments on devices of these speeds; links carry `bytesPerMs`. */
function request(
  speeds: readonly number[],
  change: Partial<PlanOptions> = {},
  bytesPerMs = 1e6,
): PlanRequest {
  const segments: SegmentCost[] = ["embed", "block 0", "block 1", "block 2", "block 3", "head"].map(
    (name) => ({
      name,
      parameterBytes: 1000,
      activationBytes: 1000,
      stashBytes: 4000,
    }),
  );
  const devices: DeviceInfo[] = speeds.map((_, i) => ({ id: `id-${i}`, name: `device ${i}` }));
  const link = { latencyMs: 0, bytesPerMs };
  const profile: Profile = {
    devices: Object.fromEntries(
      speeds.map((speed, i) => [
        `id-${i}`,
        {
          forwardMs: segments.map(() => 1 / speed),
          backwardMs: segments.map(() => 2 / speed),
          stepMs: segments.map(() => 0.5 / speed),
        },
      ]),
    ),
    links: Object.fromEntries(
      devices.map(({ id }) => [id, Object.fromEntries(devices.map((other) => [other.id, link]))]),
    ),
  };
  return { segments, devices, profile, options: { ...options, ...change } };
}

test("a pipeline plan says who holds what, at what cost, and why", () => {
  const plan = makePlan(request([1, 2]));
  expect(plan).toMatchObject({ strategy: "pipeline", schedule: "1f1b", microBatches: 8 });
  expect(plan.stages).toEqual([
    {
      stage: 0,
      ranges: [{ from: 0, to: 2 }],
      sharing: null,
      recompute: false,
      members: [
        {
          ...{ device: "id-0", deviceName: "device 0", share: 1, microBatches: [0, 1, 2, 3, 4, 5, 6, 7] },
          ...{ forwardMs: 2, backwardMs: 4, parameterBytes: 2000 },
          // Four copies of the parameters, two micro-batches in flight.
          memoryBytes: 4 * 2000 + 2 * 2 * 4000,
        },
      ],
    },
    {
      stage: 1,
      ranges: [{ from: 2, to: 6 }],
      sharing: null,
      recompute: false,
      members: [
        {
          ...{ device: "id-1", deviceName: "device 1", share: 1, microBatches: [0, 1, 2, 3, 4, 5, 6, 7] },
          ...{ forwardMs: 2, backwardMs: 4, parameterBytes: 4000 },
          // One in flight, whose input and gradient have room for another each.
          memoryBytes: 4 * 4000 + 4 * 4000 + 2 * 1000,
        },
      ],
    },
  ]);
  expect(plan.devices.map(({ used, reason }) => [used, reason])).toEqual([
    [true, "holds 2 of 6 segments, the slowest stage"],
    [true, "holds 4 of 6 segments, the slowest stage"],
  ]);
  // (M + S - 1)(f + b) and the step; a message takes a microsecond.
  expect(plan.predictedStepMs).toBeCloseTo(9 * 6 + 1, 1);
  expect(plan.bubbleFraction).toBeCloseTo(1 / 9, 1);
});

test("a plan is JSON, the same for the same input, and runs", () => {
  const plan = makePlan(request([1, 1, 1]));
  expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
  expect(makePlan(request([1, 1, 1]))).toEqual(plan);
  expect(() => validatePrograms(planPrograms(plan))).not.toThrow();
  expect(planPrograms(plan)).toHaveLength(3);
});

test("the digest tells other options, devices and models apart", () => {
  const digests = [
    makePlan(request([1, 1])),
    makePlan(request([1, 1], { schedule: "gpipe" })),
    makePlan(request([1, 1], { microBatches: 4 })),
    makePlan(request([1, 1, 1])),
  ].map(({ digest }) => digest);
  expect(new Set(digests).size).toBe(4);
  for (const digest of digests) expect(digest).toMatch(/^[0-9a-f]{16}$/);
});

test("recomputation is for every stage but the last, and costs a forward pass", () => {
  const plan = makePlan(request([1, 1], { recompute: true }));
  expect(plan.stages.map(({ recompute }) => recompute)).toEqual([true, false]);
  const { ranges, members } = plan.stages[0]!;
  expect(members[0]!.backwardMs).toBe(3 * (ranges[0]!.to - ranges[0]!.from));
});

describe("single", () => {
  test("takes the fastest device and says why the others are left out", () => {
    const plan = makePlan(request([1, 3, 2], { strategy: "single" }));
    expect(plan.strategy).toBe("single");
    expect(plan.stages).toHaveLength(1);
    expect(plan.stages[0]).toMatchObject({
      ...{ ranges: [{ from: 0, to: 6 }], members: [{ device: "id-1" }], recompute: false },
    });
    expect(plan.devices.map(({ used }) => used)).toEqual([false, true, false]);
    expect(plan.devices[0]!.reason).toBe("left out: the strategy is single and device 1 is the fastest");
  });

  test("passes over a device whose memory is too small", () => {
    const base = request([1, 3], { strategy: "single" });
    const devices = base.devices.map((d, i) => (i === 1 ? { ...d, memoryBytes: 1000 } : d));
    const plan = makePlan({ ...base, devices });
    expect(workersOf(plan)[0]!.member.device).toBe("id-0");
    expect(plan.devices[1]!.reason).toBe("left out: the model does not fit its memory");
  });
});

describe("auto", () => {
  test("shares micro-batches over equal devices with fast links", () => {
    const plan = makePlan(request([1, 1, 1, 1], { strategy: "auto" }));
    expect(plan.strategy).toBe("data");
    expect(plan.stages[0]!.members.map(({ microBatches }) => microBatches.length)).toEqual([2, 2, 2, 2]);
  });

  test("pipelines where parameters are much to send and activations are little", () => {
    const base = request([1, 1], { strategy: "auto", microBatches: 16 }, 1e4);
    const segments = base.segments.map((s) => ({ ...s, parameterBytes: 1e6 }));
    const plan = makePlan({ ...base, segments });
    expect(plan.strategy).toBe("pipeline");
    expect(plan.stages).toHaveLength(2);
  });

  test("stays on one device when the links are slow", () => {
    const plan = makePlan(request([1, 1, 1], { strategy: "auto" }, 10));
    expect(plan.strategy).toBe("single");
    expect(plan.devices[1]!.reason).toMatch(/^left out: [\d.]+ ms a step with it, [\d.]+ ms without$/);
  });

  test("leaves a very slow device out", () => {
    const plan = makePlan(request([1, 0.01, 1], { strategy: "auto" }));
    expect(workersOf(plan).map(({ member }) => member.device)).toEqual(["id-0", "id-2"]);
    expect(plan.devices[1]!.used).toBe(false);
    expect(plan.devices[1]!.reason).toMatch(/^left out: [\d.]+ ms a step with it, [\d.]+ ms without$/);
  });

  test("stays on one device when all share one core", () => {
    const base = request([1, 1, 1], { strategy: "auto" });
    expect(makePlan({ ...base, profile: { ...base.profile, cores: 1 } }).strategy).toBe("single");
  });

  test("more devices than segments is no error: it uses what helps", () => {
    const plan = makePlan(request([1, 1, 1, 1, 1, 1, 1, 1], { strategy: "auto" }));
    expect(workersOf(plan).length).toBeLessThanOrEqual(8);
    expect(plan.devices).toHaveLength(8);
  });
});

describe("refuses in one line", () => {
  const base = request([1, 1]);
  const wrong: [string, () => unknown, string][] = [
    [
      "an unknown strategy",
      () => makePlan(request([1], { strategy: "magic" })),
      'strategy "magic" is not available, use one of auto, single, data, tensor, sequence, tensor-sequence, ' +
        "pipeline, hybrid, local",
    ],
    [
      "an unknown schedule",
      () => makePlan(request([1], { schedule: "toString" })),
      'schedule "toString" is not available, use one of auto, gpipe, 1f1b, eager-1f1b, interleaved, zero-bubble, pipedream',
    ],
    [
      "no micro-batches",
      () => makePlan(request([1], { microBatches: 0 })),
      "0 micro-batches were asked for, it takes a whole number from 1 up",
    ],
    ["no devices", () => makePlan({ ...base, devices: [] }), "no devices to plan for, at least 1 is needed"],
    [
      "more devices than segments",
      () => makePlan(request([1, 1, 1, 1, 1, 1, 1])),
      "7 devices are more than the model's 6 segments: use at most 6 devices",
    ],
    [
      "a device that was not measured",
      () => makePlan({ ...base, devices: [...base.devices, { id: "x", name: "phone" }] }),
      "device phone has no profile: measure it before planning",
    ],
    [
      "a profile of another model",
      () => makePlan({ ...base, segments: base.segments.slice(1) }),
      "the profile of device 0 has times of 6 segments, the model has 5",
    ],
    [
      "an id twice",
      () => makePlan({ ...base, devices: [base.devices[0]!, base.devices[0]!] }),
      "two devices have the id id-0",
    ],
  ];
  test.each(wrong)("%s", (_, attempt, message) => {
    expect(attempt).toThrow(PlanError);
    expect(attempt).toThrow(message);
  });
});
