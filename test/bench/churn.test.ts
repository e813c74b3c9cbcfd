/** The simulation of churn: what it finds where that is known otherwise. */

import { expect, test } from "bun:test";
import { makePlan } from "../../actors/scheduler/planner.ts";
import { churnOutlook } from "../../actors/scheduler/simulate/outlook.ts";
import { DoneAgain } from "../../bench/churn/again.ts";
import type { Assumed, Rules } from "../../bench/churn/rules.ts";
import { runInSpans } from "../../bench/churn/span.ts";
import { runWhole } from "../../bench/churn/whole.ts";
import { withChurn, worldOf } from "../../bench/churn/world.ts";

const ASSUMED: Assumed = {
  ...{ closedMs: 50, silentMs: 10_000, silent: 0 },
  ...{ profileMs: 2000, startMs: 2000, planMs: 2000, rules: { again: "all", given: "beside" } },
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
  const churning = withChurn(calm, { churn: 1 });
  const run = () => runInSpans(churning, plan, ASSUMED, Number.POSITIVE_INFINITY);
  const [first, again] = [run(), run()];
  expect({ ...first, decisionMs: 0 }).toEqual({ ...again, decisionMs: 0 });
  expect(first.hits).toBeGreaterThan(10);
  expect(first.leaves + first.joins).toBe(churning.events.length);
  const part = first.steps / first.idealSteps;
  expect(part).toBeLessThan(1);
  // Devices that are waited for are a loss of another kind, which a run where everybody stops is spared here.
  const stopped = runWhole(churning, plan, ASSUMED);
  expect(first.detectMs + first.replayMs).toBeLessThan(stopped.repeatedMs + stopped.stoppedMs);
});

test("it takes one alone longer than all of a stage to do again what was lost, and longer to stand still for who comes", () => {
  // Stages of more than eight members.
  const many = worldOf({ devices: 40, churn: 1, minutes: 3, seed: 3, rows: 1, microBatches: 80 });
  const first = makePlan(many.request);
  const run = (rules: Rules) => runInSpans(many, first, { ...ASSUMED, rules }, Number.POSITIVE_INFINITY);
  const both = run(ASSUMED.rules);
  const one = run({ again: "one", given: "beside" });
  expect(one.hits).toBeGreaterThan(5);
  expect(one.replayMs / one.totalMs).toBeGreaterThan(both.replayMs / both.totalMs);
  const still = run({ again: "all", given: "between" });
  expect(still.moveMs / still.totalMs).toBeGreaterThan(both.moveMs / both.totalMs);
  expect(still.moves).toBeGreaterThan(2);
});

test("a step is longer by what the stage does again that has most, and what is lost behind that is begun anew", () => {
  const again = new DoneAgain(100);
  again.add(0, 2, 10, [5, 5, 40]);
  const one = again.untilMs - 100;
  expect(one).toBeWithin(5, 10);
  again.add(0, 2, 104, [5, 5, 40]);
  expect(again.untilMs - 100).toBeCloseTo(2 * one, 9);
  again.add(1, 1, 20, [7, 30]);
  expect(again.untilMs - 100).toBeCloseTo(2 * one, 9);
  again.add(1, 4, 200, [5, 5]);
  expect(again.untilMs - 200).toBeCloseTo(2 * one, 9);
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
