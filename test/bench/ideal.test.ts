/** The ideal step from what stages report of themselves. */

import { describe, expect, test } from "bun:test";
import { oneFOneB } from "../../actors/scheduler/schedule.ts";
import { simulate } from "../../actors/scheduler/simulate.ts";
import type { OperationSpan } from "../../actors/stage.ts";
import { measuredCost, shareOnCore } from "../../bench/ideal.ts";

const MICRO_BATCHES = 4;

/** Reports of a step of two stages with these kernel times; waiting makes every span longer than its kernel. */
function step(forward: number, backward: number, both: number, update: number) {
  const span = (op: OperationSpan["op"], microBatch: number, kernelMs: number): OperationSpan => ({
    ...{ op, microBatch, kernelMs },
    ...{ start: 0, end: kernelMs + 100 },
  });
  const of = (...kernels: [OperationSpan["op"], number][]) => ({
    spans: [
      ...kernels.flatMap(([op, ms]) => Array.from({ length: MICRO_BATCHES }, (_, m) => span(op, m, ms))),
      span("update", 0, update),
      span("update", 0, update),
    ],
  });
  return [
    of(["forward", forward], ["send-activation", 0], ["backward", backward]),
    of(["forward-backward", both]),
  ];
}

describe("the cost that was measured", () => {
  test("is of kernels, not of spans; medians, and both runs of the optimiser", () => {
    const cost = measuredCost([step(10, 20, 30, 1), step(11, 21, 31, 2), step(500, 500, 500, 500)], 2);
    expect(cost.positions).toEqual([
      { forwardMs: 11, backwardMs: 21, stepMs: 4, activationBytes: 0 },
      { forwardMs: 0, backwardMs: 31, stepMs: 4, activationBytes: 0 },
    ]);
  });
  test("is scaled to the time on a core", () => {
    const { positions } = measuredCost([step(10, 20, 30, 1)], 2, [0.5, 1]);
    expect(positions[0]).toEqual({ forwardMs: 5, backwardMs: 10, stepMs: 1, activationBytes: 0 });
    expect(positions[1]!.backwardMs).toBe(30);
  });
  test("gives the schedule's own step time when simulated", () => {
    const cost = measuredCost([step(10, 20, 30, 1)], 2);
    const programs = oneFOneB(2, MICRO_BATCHES);
    // One forward ahead, four of the last stage, one backward behind, the optimiser.
    expect(simulate(programs, cost).makespanMs).toBe(10 + 4 * 30 + 20 + 2);
    // On one core nothing overlaps.
    expect(simulate(programs, { ...cost, cores: 1 }).makespanMs).toBe(4 * (10 + 20 + 30) + 2 * 2);
  });
});

describe("the share on a core", () => {
  const { spans } = step(10, 20, 30, 0)[0]!;
  test("is of the kernels' time", () => expect(shareOnCore(spans, 60)).toBe(0.5));
  test("is at most all of it", () => expect(shareOnCore(spans, 500)).toBe(1));
  test("is all where there are no kernels", () => expect(shareOnCore([], 5)).toBe(1));
});
