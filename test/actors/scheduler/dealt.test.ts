/** Plans in which the others of a stage do what lost ones would have done, and what memory they need for it. */

import { describe, expect, test } from "bun:test";
import type { DeviceProfile, Profile, SegmentCost } from "../../../actors/scheduler/cost.ts";
import { dealLost, mayDeal, OTHERS } from "../../../actors/scheduler/dealt.ts";
import { memoryMidway, memoryOf } from "../../../actors/scheduler/device-load.ts";
import { isSameButDealt } from "../../../actors/scheduler/handover.ts";
import { partsOf } from "../../../actors/scheduler/parts.ts";
import {
  chunksOf,
  type Plan,
  type PlanMember,
  planPrograms,
  workersOf,
} from "../../../actors/scheduler/plan.ts";
import { planCost } from "../../../actors/scheduler/plan-cost.ts";
import { specsOf } from "../../../actors/scheduler/specs.ts";
import { mlp } from "../../../nn/models/mlp.ts";
import { DEFAULT_ADAMW } from "../../../nn/optim/adamw.ts";
import { findSegments } from "../../../nn/segments.ts";
import { type HandPlan, type HandStage, planOf } from "../plans.ts";

const MODEL = mlp({ sample: [3], hidden: [4, 4, 4], classes: 3, activation: "tanh" }, 2);
const END = findSegments(MODEL).length;
const MICRO_BATCHES = 18;

/** So many members, with micro-batches in turn. */
function many(members: number): Pick<HandStage, "sharing" | "members"> {
  const dealt = Array.from({ length: members }, (): number[] => []);
  for (let m = 0; m < MICRO_BATCHES; m++) dealt[m % members]!.push(m);
  return { sharing: "data", members: dealt };
}

/** A stage of nine, and one behind it. */
const STAGES: HandStage[] = [{ to: [2], ...many(OTHERS + 1) }, { to: [END] }];
const plan = (hand: Partial<HandPlan> = {}) =>
  planOf(MODEL, { microBatches: MICRO_BATCHES, stages: STAGES, ...hand });
const PLAN = plan();
const SMALL: HandStage[] = [
  { to: [2], ...many(2) },
  { to: [END], ...many(OTHERS + 1) },
];

const lose = (of: Plan, ...ids: string[]) => dealLost(of, new Set(ids));
const taken = ({ stages }: Plan) => stages[0]!.members.map(({ microBatches }) => microBatches);

test("what a lost member would have done is dealt to the others, and they have all else as they had it", () => {
  const dealt = lose(PLAN, "1")!;
  expect(
    taken(dealt)
      .flat()
      .sort((a, b) => a - b),
  ).toEqual(Array.from({ length: 18 }, (_, m) => m));
  expect(taken(dealt)).toEqual([[0, 1, 9], [2, 10, 11], ...[3, 4, 5, 6, 7, 8].map((m) => [m, m + 9])]);
  expect(dealt.stages[0]!.members.map(({ share }) => share)).toEqual([3, 3, 2, 2, 2, 2, 2, 2]);
  expect(dealt.stages[1]).toBe(PLAN.stages[1]!);
  expect(dealt.devices.find(({ id }) => id === "1")).toMatchObject({ used: false });
});

test("each goes to whom it is done with first", () => {
  const timed = (member: PlanMember) => ({
    ...member,
    forwardMs: 1,
    backwardMs: member.device === "5" ? 0.1 : 9,
  });
  const stages = PLAN.stages.map((stage) => ({ ...stage, members: stage.members.map(timed) }));
  const dealt = lose({ ...PLAN, stages }, "1")!;
  expect(dealt.stages[0]!.members.find(({ device }) => device === "5")!.microBatches).toEqual([1, 5, 10, 14]);
});

describe("in the middle of a step", () => {
  const many10 = plan({ stages: [{ to: [2], ...many(OTHERS + 2) }, { to: [END] }] });
  /** Of ten members; all have two micro-batches, but for 8 and 9. */
  const begun: Plan = {
    ...many10,
    stages: many10.stages.map((stage) => ({
      ...stage,
      members: stage.members.map((member) => {
        const passMs = ({ 5: 15, 8: 20, 9: 20 } as Record<string, number>)[member.device] ?? 40;
        return { ...member, forwardMs: passMs / 3, backwardMs: (2 * passMs) / 3 };
      }),
    })),
  };
  const dealt = (of: Plan, elapsedMs: number, ...lost: string[]) =>
    dealLost(of, new Set(lost), { begun, elapsedMs })!;
  const has = (of: Plan, ...devices: string[]) =>
    devices.map((id) => of.stages[0]!.members.find(({ device }) => device === id)!.microBatches);

  test("lost micro-batches go to whom they are done with first from then on", () => {
    // 8 and 9 have one, and 40 in all is less than 45.
    const even = lose(begun, "1")!;
    expect(has(even, "5", "8", "9")).toEqual([
      [5, 15],
      [1, 8],
      [9, 11],
    ]);
    expect(dealt(begun, 0, "1")).toEqual(even);
    // All are through with theirs: it takes 5 no more than 15.
    const late = dealt(begun, 100, "1");
    expect(has(late, "5", "8", "9")).toEqual([[1, 5, 15], [8, 11], [9]]);
    expect(late.stages[0]!.members.map(({ share }) => share)).toEqual([2, 2, 2, 2, 3, 2, 2, 2, 1]);
  });

  test("of what somebody was dealt in it nothing is taken to be done", () => {
    const twice = dealt(dealt(begun, 100, "1"), 101, "0");
    expect(has(twice, "5", "8", "9")).toEqual([
      [1, 5, 10, 15],
      [8, 11],
      [0, 9],
    ]);
  });

  test("whoever has taken another's place since has all of that to do", () => {
    const [front, ...rest] = begun.stages;
    const members = front!.members.map((own) => (own.device === "5" ? { ...own, device: "x" } : own));
    const late = dealt({ ...begun, stages: [{ ...front!, members }, ...rest] }, 100, "1");
    expect(has(late, "x", "8", "9")).toEqual([
      [5, 15],
      [1, 8],
      [9, 11],
    ]);
  });
});

test("whoever is dealt other micro-batches goes on with what it has compiled, whichever schedule there is", () => {
  const options = { generation: 1, model: MODEL, optimizer: { ...DEFAULT_ADAMW, steps: 1 }, seed: 0 };
  const specs = (of: Plan) => {
    const parts = partsOf(MODEL, findSegments(MODEL), chunksOf(of));
    const own = specsOf(of, parts, planPrograms(of), { ...options, stashBytes: 0, recovers: true });
    return new Map(workersOf(of).map(({ member, worker }) => [member.device, own[worker]!]));
  };
  const dealt = many(OTHERS + 3).members as number[][];
  for (const schedule of ["1f1b", "eager-1f1b", "zero-bubble", "gpipe"] as const) {
    const withLast = (members: number[][]) =>
      plan({ schedule, stages: [STAGES[0]!, { to: [END], sharing: "data", members }] });
    // One has nothing to do, and then another has not.
    const [begun, other] = [withLast([...dealt, []]), withLast([[], ...dealt])];
    const fewer = lose(begun, "1")!;
    for (const [old, next] of [
      [begun, other],
      [begun, fewer],
      [fewer, lose(fewer, "9")!],
    ] as const) {
      const before = specs(old);
      for (const [device, spec] of specs(next)) {
        expect(isSameButDealt(before.get(device)!, spec), `${schedule}, ${device}`).toBe(true);
      }
    }
  }
});

test("where a lost member cannot be done without there is no such plan", () => {
  expect(lose(PLAN)).toBeNull();
  expect(lose(PLAN, "9")).toBeNull();
  expect(lose(PLAN, "1", "2")).toBeNull();
  expect(lose(plan({ stages: SMALL }), "0", "4")).toBeNull();
  expect(lose(plan({ stages: SMALL }), "4")).not.toBeNull();
});

test("a plan may deal where all stages have one chunk, whole, and sums that do not depend on who adds up", () => {
  expect(mayDeal(PLAN)).toBe(true);
  expect(mayDeal(plan({ stages: [{ to: [2], ...many(OTHERS) }, { to: [END] }] }))).toBe(false);
  expect(mayDeal(plan({ stages: [STAGES[0]!, { to: [END], sharing: "tensor", members: 2 }] }))).toBe(false);
  expect(mayDeal(plan({ codecs: { activations: null, gradients: "int8" } }))).toBe(false);
  expect(mayDeal({ ...PLAN, schedule: "pipedream" })).toBe(false);
});

const times: DeviceProfile = {
  ...{ forwardMs: new Array(END).fill(1), backwardMs: new Array(END).fill(2) },
  stepMs: new Array(END).fill(1),
};
const segments = Array.from({ length: END }, (): SegmentCost => {
  return { name: "s", parameterBytes: 1000, stateBytes: 2000, activationBytes: 10, stashBytes: 7 };
});
const ids = workersOf(PLAN).map(({ member }) => member.device);
const links = Object.fromEntries(
  ids.map((id) => [id, Object.fromEntries(ids.map((to) => [to, { latencyMs: 1, bytesPerMs: 1 }]))]),
);
const profile: Profile = { devices: Object.fromEntries(ids.map((id) => [id, times])), links };
const costOf = (of: Plan, copies?: number) =>
  planCost(of, {
    ...{ segments, profile, devices: ids.map((id) => ({ id, name: id })) },
    ...(copies !== undefined && { copies }),
  });
/** Besides what is kept of what was sent. */
const needs = (of: Plan, copies?: number) =>
  costOf(of, copies).workers.map(({ memoryBytes, logBytes }) => memoryBytes - logBytes);

test("gradients are kept as they were before they were added up, where the run survives losses", () => {
  const without = needs(PLAN, 0);
  expect(needs(PLAN)).toEqual(without);
  const count = OTHERS + 1;
  expect(needs(PLAN, 1)).toEqual(without.map((bytes, i) => (i < count ? bytes + 2 * 1000 : bytes)));
  const copies = { asked: 1, count: 1, every: 1, why: null };
  expect(needs({ ...PLAN, copies })).toEqual(needs(PLAN, 1));
  expect(needs({ ...PLAN, copies: { ...copies, count: 0 } })).toEqual(without);
  const few = plan({ stages: [{ to: [2], ...many(OTHERS) }, { to: [END] }] });
  expect(needs(few, 1)).toEqual(needs(few, 0));
});

test("in the middle of a step what is in flight stays, beside what comes in", () => {
  const dealt = lose(PLAN, "1")!;
  const cost = costOf(dealt, 1);
  const between = memoryOf(dealt, cost);
  const midway = memoryMidway(PLAN, dealt, cost);
  const more = [...midway].map(([id, bytes]) => [id, bytes - between.get(id)!]);
  // Of three micro-batches two are in flight at once by the plan itself; of two, both. Each is in two segments.
  expect(Object.fromEntries(more)).toMatchObject({ 0: 2 * 7, 2: 2 * 7, 3: 0, 8: 0 });
});
