/** The ideal step from what stages report of themselves. */

import { describe, expect, test } from "bun:test";
import { chainShape, gpipe, oneFOneB } from "../../actors/scheduler/schedule.ts";
import { simulate } from "../../actors/scheduler/simulate.ts";
import type { OperationSpan } from "../../actors/stage.ts";
import { idealOfEach, measuredCost, shareOnCore } from "../../bench/ideal.ts";
import { replay } from "../../bench/replay.ts";

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
  const nothingSent = { outputBytes: 0, gradientBytes: 0 };
  test("is of kernels, not of spans; means, and both runs of the optimiser", () => {
    expect(measuredCost([step(10, 20, 30, 1), step(12, 24, 36, 2)]).chunks).toEqual([
      [{ forwardMs: 11, backwardMs: 22, stepMs: 3, ...nothingSent }],
      [{ forwardMs: 0, backwardMs: 33, stepMs: 3, ...nothingSent }],
    ]);
  });
  test("is scaled to the time on a core", () => {
    const { chunks } = measuredCost([step(10, 20, 30, 1)], [0.5, 1]);
    expect(chunks[0]).toEqual([{ forwardMs: 5, backwardMs: 10, stepMs: 1, ...nothingSent }]);
    expect(chunks[1]![0]!.backwardMs).toBe(30);
  });
});

describe("the ideal", () => {
  const programs = oneFOneB(chainShape(2, MICRO_BATCHES));
  // One forward ahead, four of the last stage, one backward behind, the optimiser.
  const ideal = 10 + 4 * 30 + 20 + 2;
  test("of a step is its schedule with its kernel times", () => {
    const found = idealOfEach(programs, [{ ms: ideal * 1.25, reports: step(10, 20, 30, 1) }]);
    expect(found.ideal).toBe(ideal);
    expect(found.loss).toBeCloseTo(0.2);
  });
  test("follows a machine that slows down for a while", () => {
    const steps = [1, 1, 3, 5].map((slow) => ({
      ms: ideal * slow * 1.25,
      reports: step(10 * slow, 20 * slow, 30 * slow, slow),
    }));
    expect(idealOfEach(programs, steps).loss).toBeCloseTo(0.2);
  });
  test("is what the scheduler simulates, where kernels are all alike", () => {
    const reports = step(10, 20, 30, 1);
    for (const schedule of [gpipe, oneFOneB]) {
      const own = schedule(chainShape(2, MICRO_BATCHES));
      expect(replay(own, reports)).toBe(simulate(own, measuredCost([reports])).makespanMs);
    }
  });
  test("has the length of every kernel", () => {
    const reports = step(10, 10, 30, 1);
    const usual = replay(programs, reports);
    const withKernel = (stage: number, op: string, ms: number) =>
      replay(
        programs,
        reports.map(({ spans }, at) => ({
          spans: spans.map((span) =>
            at === stage && span.op === op && span.microBatch === 2 ? { ...span, kernelMs: ms } : span,
          ),
        })),
      );
    expect(withKernel(1, "forward-backward", 130)).toBe(usual + 100);
    // The first stage waits for the second anyway: it may take some longer before anybody waits for it.
    expect(withKernel(0, "forward", 15)).toBe(usual);
    expect(withKernel(0, "forward", 110)).toBeGreaterThan(usual);
  });
  test("on one core overlaps nothing", () => {
    const cost = { ...measuredCost([step(10, 20, 30, 1)]), cores: 1 };
    expect(simulate(programs, cost).makespanMs).toBe(4 * (10 + 20 + 30) + 2 * 2);
  });
});

describe("the share on a core", () => {
  const { spans } = step(10, 20, 30, 0)[0]!;
  test("is of the kernels' time", () => expect(shareOnCore(spans, 60)).toBe(0.5));
  test("is at most all of it", () => expect(shareOnCore(spans, 500)).toBe(1));
  test("is all where there are no kernels", () => expect(shareOnCore([], 5)).toBe(1));
});
