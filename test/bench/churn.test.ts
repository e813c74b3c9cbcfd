/** The simulation of churn: what it finds where that is known otherwise. */

import { expect, test } from "bun:test";
import { FREE_LINK } from "../../actors/scheduler/cost.ts";
import {
  type Plan,
  type PlanMember,
  type PlanStage,
  planPrograms,
  workersOf,
} from "../../actors/scheduler/plan.ts";
import { planCost } from "../../actors/scheduler/plan-cost.ts";
import { makePlan } from "../../actors/scheduler/planner.ts";
import { churnOutlook } from "../../actors/scheduler/simulate/outlook.ts";
import { simulate } from "../../actors/scheduler/simulate.ts";
import { courseOf, goingOf } from "../../bench/churn/course.ts";
import { Going, type Resting } from "../../bench/churn/going.ts";
import { consideredUntil } from "../../bench/churn/newcomers.ts";
import type { Assumed, Rules } from "../../bench/churn/rules.ts";
import { runInSpans } from "../../bench/churn/span.ts";
import { runWhole } from "../../bench/churn/whole.ts";
import { withChurn, worldOf } from "../../bench/churn/world.ts";

const ASSUMED: Assumed = {
  ...{ closedMs: 50, silentMs: 10_000, silent: 0, tellMs: 0 },
  ...{ profileMs: 2000, startMs: 2000, planMs: 2000, rules: { again: "each", given: "beside" } },
};
const calm = worldOf({ devices: 9, churn: 0, minutes: 5, seed: 3, rows: 1, microBatches: 20 });
const plan = makePlan(calm.request);

test("without churn nothing is lost", () => {
  const run = runInSpans(calm, plan, ASSUMED, Number.POSITIVE_INFINITY);
  expect(run.hits).toBe(0);
  expect(run.steps / run.idealSteps).toBeCloseTo(1, 2);
  expect(runWhole(calm, plan, ASSUMED).goodput).toBeCloseTo(1, 9);
});

test("with it, less is lost where a loss does not stop everybody, and the same seed loses the same", () => {
  const churning = worldOf({ devices: 8, churn: 1, minutes: 2, seed: 3, rows: 1, microBatches: 16 });
  const planned = makePlan(churning.request);
  const run = () => runInSpans(churning, planned, ASSUMED, Number.POSITIVE_INFINITY);
  const [first, again] = [run(), run()];
  expect({ ...first, decisionMs: 0 }).toEqual({ ...again, decisionMs: 0 });
  expect(first.hits).toBeGreaterThan(3);
  const until = churning.events.filter(({ atMs }) => atMs <= first.totalMs);
  expect(first.leaves + first.joins).toBe(until.length);
  const part = first.steps / first.idealSteps;
  expect(part).toBeLessThan(1);
  // Devices that are waited for are a loss of another kind, which a run where everybody stops is spared here.
  const stopped = runWhole(churning, planned, ASSUMED);
  expect(first.detectMs + first.replayMs).toBeLessThan(stopped.repeatedMs + stopped.stoppedMs);
}, 60_000);

test("it takes one alone longer than all of a stage to do again what was lost, and longer to stand still for who comes", () => {
  // Stages of more than eight members, and more devices than are planned for anew with each change.
  const many = worldOf({ devices: 70, churn: 1, minutes: 1, seed: 3, rows: 1, microBatches: 140 });
  const first = makePlan(many.request);
  const run = (rules: Rules) => runInSpans(many, first, { ...ASSUMED, rules }, Number.POSITIVE_INFINITY);
  const both = run(ASSUMED.rules);
  const one = run({ again: "one", given: "beside" });
  expect(one.hits).toBeGreaterThan(5);
  expect(one.replayMs / one.totalMs).toBeGreaterThan(both.replayMs / both.totalMs);
  const still = run({ again: "each", given: "between" });
  expect(still.moveMs / still.totalMs).toBeGreaterThan(both.moveMs / both.totalMs);
  expect(still.moves).toBeGreaterThan(2);
}, 60_000);

test("whoever comes while a step is made is in the plan behind it where there is time, and others are as well", () => {
  const takesMs = 4000;
  const step = { began: 100_000, stepMs: 30_000, endedMs: 140_000 };
  const latest = 130_000 - 1.5 * takesMs - 3000;
  const until = (...measured: readonly number[]) => consideredUntil(step, takesMs, measured);
  expect(until()).toBe(Number.NEGATIVE_INFINITY);
  expect(until(90_000, 100_000)).toBe(100_000);
  // Of those that have come since, all who have by then.
  expect(until(100_000, 101_000, 110_000)).toBe(latest);
  // Once the plan for these is ready there is time for others, and none behind that.
  expect(until(101_000, latest + 1)).toBe(latest + takesMs);
  expect(until(101_000, latest + takesMs + 1)).toBe(latest + takesMs + 1);
  expect(until(101_000, latest + takesMs + 1, latest + 2 * takesMs)).toBe(latest + takesMs + 1);
  expect(until(126_001)).toBe(Number.NEGATIVE_INFINITY);
  // A step that is over before they have compiled has not waited for them.
  expect(consideredUntil({ ...step, endedMs: latest + takesMs - 1 }, takesMs, [101_000])).toBe(
    Number.NEGATIVE_INFINITY,
  );
});

test("a step without losses takes as long as the simulator says", () => {
  const many = worldOf({ devices: 40, churn: 0, minutes: 1, seed: 3, rows: 1, microBatches: 80 });
  const planned = makePlan(many.request);
  for (const schedule of ["1f1b", "eager-1f1b", "zero-bubble", "gpipe"] as const) {
    const first = { ...planned, schedule };
    const { segments, devices, profile } = many.request;
    const { programs, run } = planCost(first, { segments, devices, profile });
    const going = goingOf(courseOf(many, first), many, { again: "all" }, 0);
    going.runTo(Number.POSITIVE_INFINITY);
    const { gateMs } = simulate(programs, run);
    expect(going.gateMs! / gateMs).toBeWithin(0.99, 1.01);
  }
});

const [FORWARD, BACKWARD, TOLD, SUM] = [10, 20, 2, 5];

/** Stages of ten members, who have so many micro-batches each; all messages are there at once. */
function tiny(stages: number, each: number): { plan: Plan; begin: (resting: Resting) => Going } {
  const stageOf = (stage: number): PlanStage => ({
    ...{ stage, ranges: [{ from: stage, to: stage + 1 }], sharing: "data", recompute: false },
    members: Array.from({ length: 10 }, (_, rank) => ({
      ...{ device: `${stage}/${rank}`, deviceName: "", share: each, parameterBytes: 0, memoryBytes: 0 },
      microBatches: Array.from({ length: each }, (_, i) => rank + 10 * i),
      ...{ forwardMs: FORWARD, backwardMs: BACKWARD },
    })),
  });
  const own = Array.from({ length: stages }, (_, stage) => stageOf(stage));
  const tinyPlan: Plan = { ...plan, schedule: "gpipe", microBatches: 10 * each, forwardOnly: 0, stages: own };
  return { plan: tinyPlan, begin: (resting) => goingBy(tinyPlan, resting) };
}

function goingBy(of: Plan, resting: Resting): Going {
  const chunks = workersOf(of).map(({ member: { forwardMs, backwardMs } }) => [
    { forwardMs, backwardMs, stepMs: 0, outputBytes: 0, gradientBytes: 0 },
  ]);
  const options = { resting, toldMs: TOLD, sumMs: () => SUM };
  return new Going(of, { programs: planPrograms(of), run: { chunks, link: () => FREE_LINK } }, options);
}

function gateOf(
  going: Going,
  losses: readonly (readonly [device: string, leftMs: number, knownMs: number])[],
) {
  for (const [device, leftMs, knownMs] of losses) {
    // Of one that is missing in the beginning nothing is under way.
    if (leftMs > 0) going.runTo(leftMs);
    going.lose(device, leftMs, knownMs);
  }
  going.runTo(Number.POSITIVE_INFINITY);
  return going.gateMs;
}

test("in a stage by itself, by hand: lost micro-batches are done again behind what is under way", () => {
  const { begin } = tiny(1, 2);
  const pass = FORWARD + BACKWARD;
  expect(gateOf(begin("together"), [])).toBe(2 * pass + SUM);
  // Both of its micro-batches, one each by two others: once all are through with their second, or have been told.
  const loss = ["0/0", 35, 40] as const;
  expect(gateOf(begin("together"), [loss])).toBe(2 * pass + TOLD + pass + SUM);
  expect(gateOf(begin("each"), [loss])).toBe(2 * pass + pass + SUM);
  // While gradients are added up: that is begun anew.
  for (const resting of ["together", "each"] as const) {
    expect(gateOf(begin(resting), [["0/0", 62, 63]])).toBe(63 + TOLD + pass + SUM);
    // And once more.
    const both = [["0/0", 62, 63] as const, ["0/1", 96, 97] as const];
    expect(gateOf(begin(resting), both)).toBe(97 + TOLD + pass + SUM);
  }
  // Missing in the beginning, its micro-batches are dealt before anybody begins.
  expect(gateOf(begin("together"), [["0/0", 0, 0]])).toBe(3 * pass + SUM);
});

test("whoever is slow is waited for, and the others finish what they have asked for meanwhile", () => {
  const { plan: even } = tiny(1, 4);
  const [stage] = even.stages;
  // The last has one micro-batch, which takes it 100; the first three have a fifth one.
  const members = stage!.members.map((member, rank): PlanMember => {
    const microBatches = [...member.microBatches, ...(rank < 3 ? [19 + 10 * rank] : [])];
    return rank < 9
      ? { ...member, microBatches: microBatches.sort((a, b) => a - b) }
      : { ...member, microBatches: [9], forwardMs: 40, backwardMs: 60 };
  });
  const uneven: Plan = { ...even, stages: [{ ...stage!, members }] };
  const loss = ["0/3", 5, 5] as const;
  const asked = 3 * (FORWARD + BACKWARD);
  const left = 5 * (FORWARD + BACKWARD) - asked;
  expect(gateOf(goingBy(uneven, "together"), [loss])).toBe(100 + TOLD + left + SUM);
  expect(gateOf(goingBy(uneven, "each"), [loss])).toBe(asked + left + SUM);
});

test("in two stages, by hand: what was sent is kept, and sent to whoever has the micro-batch now", () => {
  const { begin } = tiny(2, 1);
  const last = FORWARD + FORWARD + BACKWARD;
  expect(gateOf(begin("together"), [])).toBe(last + BACKWARD + SUM);
  // The other stage has its activation: it goes on with that, and the gradient waits for whoever goes forward again.
  const early = ["0/0", 15, 15] as const;
  expect(gateOf(begin("together"), [early])).toBe(last + TOLD + FORWARD + 2 * BACKWARD + SUM);
  expect(gateOf(begin("each"), [early])).toBe(last + 2 * BACKWARD + SUM);
  // Of the last stage: what it was sent is sent to another one, which has its own to finish.
  const late = ["1/0", 15, 15] as const;
  expect(gateOf(begin("each"), [late])).toBe(last + FORWARD + BACKWARD + BACKWARD + SUM);
});

test("whoever is lost when its stage has added up is not missed, unless what it sent is to be sent again", () => {
  const { begin } = tiny(2, 1);
  // The last stage has its sums at 45, the first one at 65.
  const last = FORWARD + FORWARD + BACKWARD;
  const through = ["1/3", last + SUM + 5, last + SUM + 6] as const;
  expect(gateOf(begin("each"), [through])).toBe(last + BACKWARD + SUM);
  // One of the first is lost behind it: another one has its micro-batch behind its own.
  const [other, same] = (["0/4", "0/3"] as const).map((device) => [device, 52, 53] as const);
  const again = last + BACKWARD + FORWARD;
  expect(gateOf(begin("each"), [through, other!])).toBe(again + BACKWARD + SUM);
  expect(gateOf(begin("each"), [through, same!])).toBe(again + FORWARD + 2 * BACKWARD + SUM);
});

test("where too few are left for the model, the run waits for who comes", () => {
  const few = worldOf({ devices: 4, churn: 2, minutes: 20, seed: 3, rows: 4, microBatches: 12 });
  const run = runInSpans(few, makePlan(few.request), ASSUMED, Number.POSITIVE_INFINITY);
  expect(run.steps).toBeGreaterThan(0);
  expect(run.totalMs).toBeGreaterThan(10 * 60_000);
  expect(run.steps / run.idealSteps).toBeLessThan(0.9);
});

test("where everybody stops, goodput is what the closed form of plans says", () => {
  // Of all who are there in the beginning, few enough leave in this time to call the rate constant.
  const leavesPerHour = 3;
  const churning = withChurn(calm, { churn: (2 * leavesPerHour) / 60, minutes: 600 });
  const { goodput } = runWhole(churning, plan, ASSUMED);
  const cluster = {
    churn: { events: [], rates: { leavesPerHour: 0.9 * leavesPerHour, joinsPerHour: 0, seed: 0 } },
  };
  const pauseMs = ASSUMED.closedMs + ASSUMED.startMs;
  // Without copies all begin the step anew.
  const bare = { ...plan, copies: { asked: 0, count: 0, every: 1, why: null } };
  const closed = churnOutlook({
    ...{ cluster, plan: bare, stepMs: plan.predictedStepMs, pauseMs, checkpointEvery: 1 },
  })!;
  expect(goodput).toBeCloseTo(closed.goodput, 1.5);
});
