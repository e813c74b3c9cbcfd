/** The plan that a run goes on with in the middle of a step, without somebody of a stage of many. */

import { expect, test } from "bun:test";
import { type Bounds, planWithout } from "../../../actors/recovery/recovery.ts";
import { dealLost, type Midway } from "../../../actors/scheduler/dealt.ts";
import type { Plan } from "../../../actors/scheduler/plan.ts";
import { findSegments } from "../../../nn/segments.ts";
import { planOf } from "../plans.ts";
import { MODEL } from "./runs.ts";

const DEVICES = 10;
const members = Array.from({ length: DEVICES }, (_, m) => (m < 8 ? [m, m + DEVICES] : [m]));
const hand = planOf(MODEL, {
  microBatches: 18,
  stages: [{ to: [findSegments(MODEL).length], sharing: "data", members }],
});
/** The last two have one micro-batch, and are slow. */
const PLAN: Plan = {
  ...hand,
  stages: hand.stages.map((stage) => ({
    ...stage,
    members: stage.members.map((member, rank) => ({
      ...member,
      forwardMs: rank < 8 ? 10 : 14,
      backwardMs: 0,
    })),
  })),
};
const LOST = new Set(["1"]);
const midway: Midway = { begun: PLAN, elapsedMs: 100 };
const EVEN = dealLost(PLAN, LOST)!;
const LATE = dealLost(PLAN, LOST, midway)!;

interface Known {
  readonly isFree?: boolean;
  /** Plans that there is too little memory for. */
  readonly tooLarge?: readonly Plan[];
}

function without({ isFree = true, tooLarge = [] }: Known, more: Partial<Bounds> = {}): Plan | string {
  const full = (plan: Plan) => tooLarge.some((each) => JSON.stringify(each) === JSON.stringify(plan));
  const replanner = { isFree: () => isFree, overfull: (plan: Plan) => (full(plan) ? "it is full" : null) };
  return planWithout({} as never, PLAN, { dealsLost: true } as never, {
    roster: { living: () => [], lost: () => LOST },
    ...{ replanner: replanner as never, waits: false, through: new Set<string>(), midway },
    ...more,
  });
}

test("it is dealt by the time that is left where another plan may follow that, and evenly otherwise", () => {
  expect(LATE).not.toEqual(EVEN);
  expect(without({})).toEqual(LATE);
  expect(without({ isFree: false })).toEqual(EVEN);
  expect(without({}, { replanner: undefined })).toEqual(EVEN);
  expect(without({}, { midway: undefined })).toEqual(EVEN);
});

test("where some have no memory for what they would be dealt late, it is dealt evenly", () => {
  expect(without({ tooLarge: [LATE] })).toEqual(EVEN);
});
