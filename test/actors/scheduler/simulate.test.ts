import { describe, expect, test } from "bun:test";
import { peakInFlight } from "../../../actors/scheduler/program.ts";
import { chainShape, gpipe, oneFOneB, SCHEDULES } from "../../../actors/scheduler/schedule.ts";
import { type Simulation, simulate } from "../../../actors/scheduler/simulate.ts";
import { chunk, equalCost, runCost } from "./costs.ts";

function span(simulation: Simulation, worker: number, op: string, microBatch: number) {
  return simulation.spans.find(
    (s) =>
      s.worker === worker &&
      s.operation.op === op &&
      (!("microBatch" in s.operation) || s.operation.microBatch === microBatch),
  )!;
}

describe("closed forms, equal stages and free transfers", () => {
  for (const name of ["gpipe", "1f1b", "eager-1f1b"] as const) {
    for (const stages of [1, 2, 4, 8]) {
      for (const m of [1, 4, 16]) {
        test(`${name}, ${stages} stages, ${m} micro-batches: (M+S-1)(f+b), bubble (S-1)/(M+S-1)`, () => {
          const result = simulate(SCHEDULES[name](chainShape(stages, m)), equalCost(stages, 3, 5));
          expect(result.makespanMs).toBeCloseTo((m + stages - 1) * 8, 9);
          expect(result.bubbleFraction).toBeCloseTo((stages - 1) / (m + stages - 1), 9);
          for (const idle of result.idleMs) expect(idle).toBeCloseTo((stages - 1) * 8, 9);
        });
      }
    }
  }
});

test("one operation after the other, by hand: two stages, one micro-batch", () => {
  const chunks = [
    [chunk({ forwardMs: 2, backwardMs: 3, stepMs: 1, outputBytes: 1000 })],
    [chunk({ forwardMs: 4, backwardMs: 6, stepMs: 2 })],
  ];
  const links = [
    [undefined, { latencyMs: 5, bytesPerMs: 100 }],
    [{ latencyMs: 7, bytesPerMs: 50 }, undefined],
  ];
  const result = simulate(oneFOneB(chainShape(2, 1)), runCost(chunks, { links }));
  expect(span(result, 0, "forward", 0)).toMatchObject({ startMs: 0, endMs: 2 });
  // 1000 bytes at 100 bytes/ms, then 5 ms of latency.
  expect(span(result, 0, "send-activation", 0)).toMatchObject({ startMs: 2, endMs: 12 });
  expect(span(result, 1, "receive-activation", 0)).toMatchObject({ startMs: 0, endMs: 17 });
  expect(span(result, 1, "forward-backward", 0)).toMatchObject({ startMs: 17, endMs: 27 });
  expect(span(result, 1, "send-gradient", 0)).toMatchObject({ startMs: 27, endMs: 47 });
  expect(span(result, 0, "backward", 0)).toMatchObject({ startMs: 54, endMs: 57 });
  // The commit gate: stage 1 waits for stage 0's gradients.
  expect(span(result, 0, "step", 0)).toMatchObject({ startMs: 57, endMs: 58 });
  expect(span(result, 1, "step", 0)).toMatchObject({ startMs: 57, endMs: 59 });
  expect(result.makespanMs).toBe(59);
  expect(result.idleMs).toEqual([59 - 6, 59 - 12]);
});

test("transfers overlap compute and queue up behind each other on their link", () => {
  const link = { latencyMs: 1, bytesPerMs: 100 };
  const result = simulate(
    gpipe(chainShape(2, 3)),
    equalCost(2, 1, 1, { links: [[undefined, link], [link]] }),
  );
  // Forward passes end at 1, 2, 3; each message takes the link for 10 ms.
  expect([0, 1, 2].map((m) => span(result, 0, "send-activation", m).startMs)).toEqual([1, 11, 21]);
  expect([0, 1, 2].map((m) => span(result, 1, "forward-backward", m).startMs)).toEqual([12, 22, 32]);
});

test("a slow stage sets the pace", () => {
  const chunks = [1, 5, 1].map((ms) => [chunk({ forwardMs: ms, backwardMs: ms })]);
  const result = simulate(oneFOneB(chainShape(3, 10)), runCost(chunks));
  expect(result.makespanMs).toBeGreaterThanOrEqual(10 * 10);
  expect(result.makespanMs).toBeLessThanOrEqual(10 * 10 + 2 * 2 + 2 * 10);
});

describe("cores", () => {
  test("one core runs everything in a row", () => {
    const result = simulate(oneFOneB(chainShape(3, 4)), equalCost(3, 2, 3, { cores: 1 }));
    expect(result.makespanMs).toBe(3 * 4 * 5);
  });

  test("as many cores as stages change nothing", () => {
    const free = simulate(oneFOneB(chainShape(3, 6)), equalCost(3, 2, 3));
    expect(simulate(oneFOneB(chainShape(3, 6)), equalCost(3, 2, 3, { cores: 3 }))).toEqual(free);
  });

  test("two cores for three stages: never more than two kernels at once, between the bounds", () => {
    const result = simulate(oneFOneB(chainShape(3, 8)), equalCost(3, 2, 3, { cores: 2 }));
    const kernels = result.spans.filter((s) => /^(forward|backward)/.test(s.operation.op));
    for (const { startMs } of kernels) {
      const running = kernels.filter((k) => k.startMs <= startMs && startMs < k.endMs);
      expect(running.length).toBeLessThanOrEqual(2);
    }
    expect(result.makespanMs).toBeGreaterThanOrEqual((3 * 8 * 5) / 2);
    expect(result.makespanMs).toBeLessThan(3 * 8 * 5);
  });
});

test("1F1B holds fewer stashes than GPipe at the same speed", () => {
  const cost = equalCost(4, 1, 2);
  expect(simulate(oneFOneB(chainShape(4, 12)), cost).makespanMs).toBe(
    simulate(gpipe(chainShape(4, 12)), cost).makespanMs,
  );
  expect(oneFOneB(chainShape(4, 12)).map(peakInFlight)).toEqual([4, 3, 2, 1]);
  expect(gpipe(chainShape(4, 12)).map(peakInFlight)).toEqual([12, 12, 12, 1]);
});

test("B and W apart: W fills the bubble while the gradient is on its way", () => {
  const operations = (text: string) =>
    text.split(", ").map((part) => {
      const [op, m] = part.split(" ");
      return op === "step" ? { op } : ({ op, microBatch: Number(m) } as any);
    });
  const programs = [
    {
      worker: 0,
      stage: 0,
      positions: [0],
      operations: operations("forward 0, send-activation 0, receive-gradient 0, backward 0, step"),
    },
    {
      worker: 1,
      stage: 1,
      positions: [1],
      operations: operations(
        "receive-activation 0, forward 0, backward-input 0, send-gradient 0, backward-weight 0, step",
      ),
    },
  ];
  const result = simulate(programs, equalCost(2, 2, 4));
  expect(span(result, 0, "backward", 0).startMs).toBe(6);
  expect(span(result, 1, "backward-weight", 0)).toMatchObject({ startMs: 6, endMs: 8 });
  expect(result.makespanMs).toBe(10);
});
