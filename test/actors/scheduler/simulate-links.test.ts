/** Links that messages and sums share, and what machines have for all of them. */

import { describe, expect, test } from "bun:test";
import type { RunCost } from "../../../actors/scheduler/run-cost.ts";
import { type PipelineShape, SCHEDULES } from "../../../actors/scheduler/schedule.ts";
import { simulate } from "../../../actors/scheduler/simulate.ts";
import { chunk } from "./costs.ts";

describe("links", () => {
  const link = { latencyMs: 0, bytesPerMs: 100 };
  const one = chunk({ forwardMs: 1, backwardMs: 1, outputBytes: 1000 });
  const shape: PipelineShape = {
    ...{ microBatches: 2, forwardOnly: 0 },
    stages: [
      { positions: [0], sharing: null, members: [[0, 1]] },
      { positions: [1], sharing: "data", members: [[0], [1]] },
    ],
  };
  const cost: RunCost = { chunks: [[one], [one], [one]], link: () => link };
  const sends = (given: RunCost) =>
    simulate(SCHEDULES.gpipe(shape), given)
      .spans.filter(({ worker, operation }) => worker === 0 && operation.op === "send-activation")
      .map(({ startMs }) => startMs);

  const interfaces = (machines: readonly number[], up = 100, down = 100) =>
    machines.map((machine) => ({ machine, upBytesPerMs: up, downBytesPerMs: down }));

  test("are one for each pair, or share what their machine has", () => {
    expect(sends(cost)).toEqual([1, 2]);
    expect(sends({ ...cost, interfaces: interfaces([0, 1, 2]) })).toEqual([1, 11]);
    // A wide way out is soon free again.
    expect(sends({ ...cost, interfaces: interfaces([0, 1, 2], 500) })).toEqual([1, 3]);
    // Within a machine nothing goes through it.
    expect(sends({ ...cost, interfaces: interfaces([0, 0, 1]) })).toEqual([1, 2]);
  });

  test("come in by one interface, whoever sends", () => {
    const gathered: PipelineShape = {
      ...{ microBatches: 2, forwardOnly: 0 },
      stages: [
        { positions: [0], sharing: "data", members: [[0], [1]] },
        { positions: [1], sharing: null, members: [[0, 1]] },
      ],
    };
    const received = (given: RunCost) =>
      simulate(SCHEDULES.gpipe(gathered), given)
        .spans.filter(({ operation }) => operation.op === "send-activation")
        .map(({ endMs }) => endMs);
    expect(received(cost)).toEqual([11, 11]);
    expect(received({ ...cost, interfaces: interfaces([0, 1, 2]) })).toEqual([11, 21]);
  });

  test("are shared by messages and sums: neither waits for the other, and each takes its time", () => {
    const busy = { ...one, gradientBytes: 1000 };
    const between: PipelineShape = {
      ...shape,
      stages: [
        { positions: [0], sharing: null, members: [[0, 1]] },
        { positions: [1], sharing: "data", members: [[0, 1], []] },
      ],
    };
    const { spans } = simulate(SCHEDULES.gpipe(between), {
      ...{ chunks: [[one], [busy], [busy]], interfaces: interfaces([0, 1, 2], 100, 1e9) },
      link: (from, to) => (from === 0 && to > 0 ? { latencyMs: 0, bytesPerMs: 1e9 } : link),
    });
    // The last gradient leaves before the sum is begun.
    const gradient = spans.findLast(
      ({ worker, operation }) => worker === 1 && operation.op === "send-gradient",
    )!;
    const sum = spans.find(({ worker, operation }) => worker === 1 && operation.op === "reduce")!;
    expect(sum.startMs).toBeCloseTo(gradient.startMs, 9);
    expect(sum.endMs).toBeCloseTo(gradient.endMs + 10, 9);
  });

  test("let a message through beside a sum, which ends so much later", () => {
    // Two chunks: the sum of the second is under way when the first sends its gradient back.
    const small = { ...one, outputBytes: 100 };
    const shape: PipelineShape = {
      ...{ microBatches: 2, forwardOnly: 0 },
      stages: [
        { positions: [0], sharing: null, members: [[0, 1]] },
        { positions: [1, 2], sharing: "data", members: [[0], [1]] },
      ],
    };
    const last = { ...small, gradientBytes: 2000 };
    const { spans } = simulate(SCHEDULES["1f1b"](shape), {
      chunks: [[small], [small, last], [small, last]],
      link: () => link,
      interfaces: interfaces([0, 1, 2]),
    });
    const sums = spans.filter(({ worker, operation }) => worker === 1 && operation.op === "reduce");
    const messages = spans.filter(({ worker, operation }) => worker > 0 && operation.op === "send-gradient");
    // The first is on its way when the sum begins, the second has half of the rate beside it.
    expect(messages.map(({ startMs, endMs }) => [startMs, endMs])).toEqual([
      [6, 7],
      [7, 9],
    ]);
    expect(sums.map(({ startMs, endMs }) => [startMs, endMs])).toEqual([
      [6, 6 + 20 + 1 + 1],
      [28, 28],
    ]);
  });
});
