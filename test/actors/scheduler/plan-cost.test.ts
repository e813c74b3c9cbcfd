import { expect, test } from "bun:test";
import { OWN_COPIES } from "../../../actors/recovery/room.ts";
import type { DeviceProfile, Profile, SegmentCost } from "../../../actors/scheduler/cost.ts";
import type { Plan, PlanMember } from "../../../actors/scheduler/plan.ts";
import { codecRatio, planCost } from "../../../actors/scheduler/plan-cost.ts";

const segment: SegmentCost = {
  ...{ name: "s", parameterBytes: 100, stateBytes: 200, frozenBytes: 7, activationBytes: 40, stashBytes: 60 },
  sharded: {
    tensor: {
      ...{ mostRanks: 4, parts: 4, dividedWork: 0.5, dividedStash: 0.5, dividedParameters: 80 },
      ...{ forward: [{ op: "all-reduce", bytes: 40 }], backward: [{ op: "all-reduce", bytes: 40 }] },
      ...{ forwardAtEnd: [{ op: "all-gather", bytes: 40 }], backwardAtStart: [], gradientBytes: 5 },
    },
  },
};
const segments = [segment, segment];
const times: DeviceProfile = { forwardMs: [1, 1], backwardMs: [2, 2], stepMs: [4, 4] };
const link = { latencyMs: 1, bytesPerMs: 100 };
const profile: Profile = {
  devices: { a: times, b: times },
  links: { a: { b: link }, b: { a: link } },
  controlMs: { a: 1, b: 3 },
};
const devices = [
  { id: "a", name: "A" },
  { id: "b", name: "B" },
];

function member(device: string, share: number, microBatches: readonly number[]): PlanMember {
  const none = { forwardMs: 0, backwardMs: 0, parameterBytes: 0, memoryBytes: 0 };
  return { device, deviceName: device, share, microBatches, ...none };
}

function plan(change: Partial<Plan>): Plan {
  return {
    ...{ digest: "", strategy: "hybrid", schedule: "1f1b", microBatches: 4, stages: [], forwardOnly: 0 },
    ...{ localSteps: 1, codecs: { activations: null, gradients: null }, devices: [], predictedStepMs: 0 },
    ...{ bubbleFraction: 0, predictedJoules: null, ...change },
  };
}

const all = [0, 1, 2, 3];
const stage = (
  index: number,
  from: number,
  to: number,
  members: readonly PlanMember[],
  rest: object = {},
) => ({
  ...{ stage: index, ranges: [{ from, to }], sharing: null, members, recompute: false, ...rest },
});
const pipeline = (rest: object = {}) =>
  plan({ stages: [stage(0, 0, 1, [member("a", 1, all)], rest), stage(1, 1, 2, [member("b", 1, all)])] });

test("a pipeline: times and sizes of its segments, and memory of what is in flight", () => {
  const { run, workers, controlMs } = planCost(pipeline(), { segments, devices, profile });
  expect(run.chunks[0]![0]).toEqual({
    forwardMs: 1,
    backwardMs: 2,
    stepMs: 4,
    outputBytes: 40,
    gradientBytes: 0,
  });
  expect(run.chunks[1]![0]!.outputBytes).toBe(0);
  expect(run.link(0, 1)).toEqual(link);
  // Parameters and gradients, state, what is frozen, and two stashes in flight; one where both passes are one run,
  // where an input and its gradient are besides.
  expect(workers.map(({ memoryBytes }) => memoryBytes)).toEqual([407 + 2 * 60, 407 + 60 + 2 * 40]);
  expect(controlMs).toBe(6);
});

test("with recomputation the forward pass is repeated, and a stash is the chunk's input", () => {
  const { run, workers } = planCost(pipeline({ recompute: true }), { segments, devices, profile });
  expect(run.chunks[0]![0]!.backwardMs).toBe(3);
  // The first chunk's input comes from the data: nothing is kept, but all of it is there while a pass is repeated.
  expect(workers[0]!.memoryBytes).toBe(407 + 60);
});

test("the last position goes by what both passes take in one run, others by B and W where they are known", () => {
  const own = { ...times, jointMs: [2.5, 2.5], backwardInputMs: [1.5, 1.5], backwardWeightMs: [0.75, 0.75] };
  const measured = { ...profile, devices: { a: own, b: own } };
  const { run } = planCost(pipeline(), { segments, devices, profile: measured });
  expect(run.chunks[0]![0]).toMatchObject({ backwardMs: 2, backwardInputMs: 1.5, backwardWeightMs: 0.75 });
  const { forwardMs, backwardMs } = run.chunks[1]![0]!;
  expect(forwardMs + backwardMs).toBe(2.5);
});

test("members that share micro-batches have all of a stage, and add up its gradients", () => {
  const members = [member("a", 3, [0, 1, 2]), member("b", 1, [3])];
  const data = (rest: Partial<Plan> = {}) =>
    planCost(plan({ stages: [stage(0, 0, 2, members, { sharing: "data" })], ...rest }), {
      segments,
      devices,
      profile,
    });
  expect(data().run.chunks.map(([chunk]) => chunk!.gradientBytes)).toEqual([200, 200]);
  expect(data().workers[0]!.parameterBytes).toBe(200);
  const coded = data({ codecs: { activations: null, gradients: "f16" } });
  expect(coded.run.chunks[0]![0]!.gradientBytes).toBe(100);
});

test("what is sent in two steps is kept where the run survives losses, of the first no more than copies may take", () => {
  const logs = (of: Plan, copies?: number, bytes = 40) => {
    const large = segments.map((each) => ({ ...each, activationBytes: bytes }));
    const inputs = { segments: large, devices, profile, ...(copies !== undefined && { copies }) };
    const [without, kept] = [planCost(of, { ...inputs, copies: 0 }), planCost(of, inputs)];
    const more = kept.workers.map(({ memoryBytes }, i) => memoryBytes - without.workers[i]!.memoryBytes);
    expect(kept.workers.map(({ logBytes }) => logBytes)).toEqual(more);
    return more;
  };
  expect(logs(pipeline(), 0)).toEqual([0, 0]);
  // Four activations, and four gradients back.
  expect(logs(pipeline(), 1)).toEqual([2 * 160, 2 * 160]);
  expect(logs({ ...pipeline(), copies: { asked: 1, count: 1, every: 1, why: null } })).toEqual([320, 320]);
  expect(logs(pipeline(), 1, 4000)).toEqual([16_000 + OWN_COPIES * 300, 16_000 + OWN_COPIES * 300]);
  const shared = (sharing: "data" | "tensor") => {
    const members = [member("a", 1, [0, 1]), member("b", 1, [2, 3])];
    return plan({ stages: [stage(0, 0, 2, members, { sharing })] });
  };
  // Each sends as much as all gradients are.
  expect(logs(shared("data"), 1)).toEqual([2 * 200, 2 * 200]);
  expect(logs(shared("tensor"), 1)).toEqual([0, 0]);
  expect(logs({ ...pipeline(), schedule: "pipedream" }, 1)).toEqual([0, 0]);
});

test("ranks do their share of what is divided and all of the rest, with collectives in between", () => {
  const members = [member("a", 3, all), member("b", 1, all)];
  const stages = [stage(0, 0, 2, members, { sharing: "tensor" })];
  const { run, workers } = planCost(plan({ stages }), { segments, devices, profile });
  // Half of the work is divided: three quarters of it, and a quarter.
  expect(run.chunks.map(([chunk]) => chunk!.forwardMs)).toEqual([2 * (0.5 + 0.375), 2 * (0.5 + 0.125)]);
  expect(workers.map(({ parameterBytes }) => parameterBytes)).toEqual([2 * (20 + 60), 2 * (20 + 20)]);
  const reduce = { op: "all-reduce", bytes: 40 };
  // What leaves the chunk is made whole at its end alone.
  expect(run.chunks[0]![0]!.forwardCollectives).toEqual([
    reduce,
    reduce,
    { op: "all-gather", bytes: 40 },
  ] as never);
  expect(run.chunks[0]![0]!.backwardCollectives).toEqual([reduce, reduce] as never);
  expect(run.chunks[0]![0]!.gradientBytes).toBe(10);
});

test("an equal share that was measured goes before what was counted", () => {
  const sharded = { tensor: { ranks: 2, forwardMs: [0.6, 0.6], backwardMs: [1.2, 1.2] } };
  const measured = { ...profile, devices: { a: { ...times, sharded }, b: { ...times, sharded } } };
  const members = [member("a", 1, all), member("b", 1, all)];
  const stages = [stage(0, 0, 2, members, { sharing: "tensor" })];
  const { run } = planCost(plan({ stages }), { segments, devices, profile: measured });
  expect(run.chunks[0]![0]!.forwardMs).toBeCloseTo(1.2, 12);
});

test("sharing that a segment does not allow is refused", () => {
  const members = [member("a", 1, all), member("b", 1, all)];
  const stages = [stage(0, 0, 2, members, { sharing: "sequence" })];
  expect(() => planCost(plan({ stages }), { segments, devices, profile })).toThrow(
    "stage 0 shares s by sequence among 2 devices, which cannot be divided so",
  );
});

test("codecs make bytes fewer by what they are, and links narrower by the time they take", () => {
  expect(codecRatio(null)).toBe(1);
  expect(codecRatio("f16")).toBe(0.5);
  expect(codecRatio("int8")).toBeCloseTo(68 / 256, 2);
  const own = { ...times, codecMsPerMb: { f16: 1000 } };
  const measured = { ...profile, devices: { a: own, b: own } };
  const coded = { ...pipeline(), codecs: { activations: "f16", gradients: null } };
  const { run } = planCost(coded, { segments, devices, profile: measured });
  // 20 bytes on the wire take 0.2 ms, and 40 of f32 another 0.04 to encode and decode.
  expect(run.chunks[0]![0]!.outputBytes / run.link(0, 1).bytesPerMs).toBeCloseTo(0.24, 9);
});
