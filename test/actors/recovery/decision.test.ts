/** When a run goes over to another plan: what has to move, how long that takes, and what it has to save. */

import { describe, expect, test } from "bun:test";
import {
  COOL_DOWN_STEPS,
  decide,
  gatherMs,
  isDue,
  LEAST_GAIN,
  moveMs,
  startsStages,
  transfers,
} from "../../../actors/recovery/decision.ts";
import type { Plan } from "../../../actors/scheduler/plan.ts";
import type { HandStage } from "../plans.ts";
import { elsewhere, handPlan, PIPELINE, SHARED_BY_DATA, SHARED_BY_TENSOR, type Shape } from "./runs.ts";

const SEGMENTS = Array.from({ length: 6 }, (_, i) => ({
  ...{ name: `s${i}`, parameterBytes: 100, stateBytes: 200, activationBytes: 10, stashBytes: 10 },
}));

describe("what has to move", () => {
  const between = (old: Shape, next: Shape) => transfers(handPlan(old), handPlan(next), SEGMENTS);
  const pipeline: Shape = { stages: PIPELINE };

  test("is nothing between plans that are alike", () => {
    expect(between(pipeline, pipeline)).toEqual([]);
    expect(between(SHARED_BY_TENSOR, SHARED_BY_TENSOR)).toEqual([]);
    expect(between(pipeline, { stages: [{ to: [2], recompute: true }, { to: [3] }, { to: [6] }] })).toEqual(
      [],
    );
  });

  test("are segments that a device does not have, from one that has them", () => {
    // Segment 2 from device 1 to 0, 3 from 2 to 1.
    expect(between(pipeline, { stages: [{ to: [3] }, { to: [4] }, { to: [6] }] })).toEqual([
      { from: "1", to: "0", bytes: 300 },
      { from: "2", to: "1", bytes: 300 },
    ]);
    expect(between(pipeline, { stages: [{ to: [6] }] })).toEqual([
      { from: "1", to: "0", bytes: 300 },
      { from: "2", to: "0", bytes: 900 },
    ]);
  });

  test("is the part of them that it is to have, and no part where it has all", () => {
    // Devices 1 and 2 share segments 3 to 5 by tensor; device 2 has had them.
    expect(between(pipeline, SHARED_BY_TENSOR)).toEqual([
      { from: "1", to: "0", bytes: 300 },
      { from: "2", to: "1", bytes: 450 },
    ]);
    // Device 2 had half of each.
    expect(between(SHARED_BY_TENSOR, SHARED_BY_DATA)).toContainEqual({ from: "1", to: "2", bytes: 900 });
  });
});

describe("stages are started", () => {
  const starts = (old: Shape, next: Shape) => startsStages(handPlan(old), handPlan(next));
  const [shared, last] = SHARED_BY_DATA.stages as [HandStage, HandStage];
  const dealt = (...members: number[][]): Shape => ({ stages: [{ ...shared, members }, last] });

  test("not where micro-batches are dealt in another way", () => {
    expect(starts(SHARED_BY_DATA, dealt([0], [1, 2, 3]))).toBe(false);
    expect(starts(SHARED_BY_DATA, SHARED_BY_DATA)).toBe(false);
  });

  test("not where devices that have nothing to do start all there is to start: they do beside the work", () => {
    const before = handPlan(SHARED_BY_DATA);
    expect(startsStages(before, elsewhere(before, { 1: 7 }))).toBe(false);
    expect(startsStages(before, elsewhere(before, { 0: 2, 2: 0 }))).toBe(true);
  });

  test("where a device has another part of the model, or weights in parts, or makes passes in another way", () => {
    expect(starts(SHARED_BY_DATA, dealt([0, 1], [2], [3]))).toBe(true);
    expect(starts(SHARED_BY_DATA, { stages: PIPELINE })).toBe(true);
    expect(starts(SHARED_BY_TENSOR, SHARED_BY_TENSOR)).toBe(true);
    expect(starts(SHARED_BY_DATA, { stages: [{ ...shared, recompute: true }, last] })).toBe(true);
    expect(starts(SHARED_BY_DATA, { ...SHARED_BY_DATA, schedule: "zero-bubble" })).toBe(true);
  });
});

describe("how long it takes", () => {
  const link = (latencyMs: number, bytesPerMs: number) => ({ latencyMs, bytesPerMs });
  const links = { a: { b: link(1, 10), c: link(0, 100) }, b: { c: link(0, 5) }, c: {} };

  test("is until stages are there, and what the busiest line takes, up or down", () => {
    expect(moveMs([], { links }, 40)).toBe(40);
    expect(moveMs([{ from: "a", to: "b", bytes: 100 }], { links }, 40)).toBe(51);
    const both = [
      { from: "a", to: "b", bytes: 100 },
      { from: "a", to: "c", bytes: 100 },
    ];
    expect(moveMs(both, { links }, 0)).toBe(12);
    expect(moveMs([...both, { from: "b", to: "c", bytes: 100 }], { links }, 0)).toBe(21);
  });

  test("is nothing on a line that nobody has measured", () => {
    expect(moveMs([{ from: "c", to: "a", bytes: 1e9 }], { links }, 7)).toBe(7);
  });
});

describe("a plan is gone over to", () => {
  const outlook = { oldStepMs: 100, newStepMs: 50, stepsLeft: 10, moveMs: 400 };

  test("where it saves more in the steps that are left than it costs to go there", () => {
    expect(decide(outlook)).toEqual({
      moves: true,
      why: "a step would take 50 ms in place of 100 ms, which saves 500 ms in 10 steps, and going there takes 400 ms",
    });
    expect(decide({ ...outlook, stepsLeft: 8 }).moves).toBe(false);
    expect(decide({ ...outlook, moveMs: 500 }).moves).toBe(false);
    expect(decide({ ...outlook, stepsLeft: 0, moveMs: 0 }).moves).toBe(false);
  });

  test("not for a gain that predictions cannot tell from none, however many steps are left", () => {
    const small = { ...outlook, newStepMs: 100 * (1 - LEAST_GAIN), stepsLeft: 1e6, moveMs: 100 };
    expect(decide(small)).toEqual({
      moves: false,
      why: "a step would take 90 ms in place of 100 ms: less than predictions can tell apart",
    });
    expect(decide({ ...small, newStepMs: 100 * (1 - LEAST_GAIN) - 1 }).moves).toBe(true);
    expect(decide({ ...small, newStepMs: 120 })).toEqual({
      moves: false,
      why: "a step would take 120 ms in place of 100 ms: more",
    });
  });

  test("for a smaller one where going there costs less than a step, and never for none", () => {
    const cheap = { ...outlook, stepsLeft: 1e6, moveMs: 10 };
    expect(decide({ ...cheap, newStepMs: 98 }).moves).toBe(true);
    expect(decide({ ...cheap, newStepMs: 99.5 }).moves).toBe(false);
    expect(decide({ ...cheap, moveMs: 50, newStepMs: 98 }).moves).toBe(false);
    expect(decide({ ...cheap, moveMs: 0, newStepMs: 99 }).moves).toBe(true);
    expect(decide({ ...cheap, moveMs: 0, newStepMs: 99.9 }).moves).toBe(false);
  });

  test("not again at once because of devices that come, or drift; at once when one is lost", () => {
    expect(isDue([], null)).toBe(false);
    expect(isDue(["joined"], null)).toBe(true);
    for (const cause of ["joined", "drifted"] as const) {
      const since = (stepsSince: number) => ({ stepsSince, costSteps: 2 });
      expect(isDue([cause], since(COOL_DOWN_STEPS - 1))).toBe(false);
      expect(isDue([cause], since(COOL_DOWN_STEPS))).toBe(true);
      expect(isDue([cause, "lost"], since(1))).toBe(true);
    }
  });

  test("sooner for devices that come, where the last move cost less than a step; a drift is not known sooner", () => {
    const last = { stepsSince: 3, costSteps: 0.2 };
    expect(isDue(["joined"], last)).toBe(true);
    expect(isDue(["joined"], { ...last, stepsSince: 2 })).toBe(false);
    expect(isDue(["drifted"], last)).toBe(false);
  });

  test("so that those who come and go cost a small part of the run, however often they do", () => {
    for (const costSteps of [0.01, 0.3, 1, 5]) {
      let [moves, movedAt] = [0, null as number | null];
      for (let step = 0; step < 1000; step++) {
        if (!isDue(["joined"], movedAt === null ? null : { stepsSince: step - movedAt, costSteps })) continue;
        moves++;
        movedAt = step;
      }
      // No more than once in a step, and not for longer than one step in so many.
      expect(moves * Math.min(1, costSteps)).toBeLessThanOrEqual(1000 / COOL_DOWN_STEPS + 1);
    }
  });

  test("so that one that drifts to and fro costs a move in so many steps at most", () => {
    let moves = 0;
    let movedAt: number | null = null;
    for (let step = 0; step < 10 * COOL_DOWN_STEPS; step++) {
      const slowed = step % 8 < 4;
      const last = movedAt === null ? null : { stepsSince: step - movedAt, costSteps: 0 };
      const due = isDue(["drifted"], last);
      if (!due || !decide({ ...outlook, newStepMs: slowed ? 50 : 80, stepsLeft: 1000 }).moves) continue;
      moves++;
      movedAt = step;
    }
    expect(moves).toBe(10);
  });
});

describe("in a step, a plan for those that come is looked for", () => {
  test("not where what is left of it is less than that takes", () => {
    expect(gatherMs(99, 100, 1000)).toBeNull();
    expect(gatherMs(-1, 0, 1000)).toBeNull();
    expect(gatherMs(100, 100, 1000)).toBe(0);
  });

  test("late, but so early that it may take half as long again, and predictions be off by as much as they are", () => {
    const waitMs = gatherMs(900, 100, 1000)!;
    expect(900 - waitMs).toBeCloseTo(1.5 * 100 + LEAST_GAIN * 1000, 9);
    // Behind that there is no reason to wait.
    expect(gatherMs(900 - waitMs, 100, 1000)).toBe(0);
  });
});

/** Keeps the plans above honest: they are of one model. */
test("plans of these tests have the segments that are counted", () => {
  const last = (plan: Plan) => Math.max(...plan.stages.flatMap(({ ranges }) => ranges.map(({ to }) => to)));
  expect([SHARED_BY_DATA, SHARED_BY_TENSOR].map((shape) => last(handPlan(shape)))).toEqual([6, 6]);
});
