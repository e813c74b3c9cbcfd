import { describe, expect, test } from "bun:test";
import { measuredSpans } from "../../../actors/scheduler/measured.ts";
import { chainShape, oneFOneB, type PipelineShape } from "../../../actors/scheduler/schedule.ts";
import { simulate } from "../../../actors/scheduler/simulate.ts";
import { chromeTrace, compareTrace, gantt } from "../../../actors/scheduler/timeline.ts";
import { chunk, runCost } from "./costs.ts";

const each = [chunk({ forwardMs: 1, backwardMs: 1, stepMs: 1, outputBytes: 128 })];
const link = { latencyMs: 0, bytesPerMs: 1024 };
const { spans, makespanMs } = simulate(oneFOneB(chainShape(2, 3)), runCost([each, each]));

test("the Gantt chart of 1F1B on two stages", () => {
  // 4 · 2 ms of micro-batches and 1 ms of optimiser: a column per millisecond.
  expect(makespanMs).toBe(9);
  expect(gantt(spans, ["laptop", "pi"], 9)).toBe(["laptop 01·a2b·c#", "pi     ·AABBCC·#"].join("\n"));
});

test("a chart of a measured timeline starts where the timeline starts", () => {
  const later = spans.map((s) => ({ ...s, startMs: s.startMs + 1000, endMs: s.endMs + 1000 }));
  expect(gantt(later, [], 9)).toBe(gantt(spans, [], 9));
});

test("the trace has every kernel and transfer as a complete event in microseconds", () => {
  const timed = simulate(
    oneFOneB(chainShape(2, 3)),
    runCost([each, each], { links: [[undefined, link], [link]] }),
  );
  const { traceEvents, displayTimeUnit } = JSON.parse(
    JSON.stringify(chromeTrace(timed.spans, ["laptop", "pi"])),
  );
  expect(displayTimeUnit).toBe("ms");
  const complete = traceEvents.filter((e: { ph: string }) => e.ph === "X");
  const counts = Object.groupBy(complete, (e: { cat: string }) => e.cat);
  expect(counts.forward).toHaveLength(3);
  expect(counts["forward-backward"]).toHaveLength(3);
  expect(counts["send-activation"]).toHaveLength(3);
  expect(counts["send-gradient"]).toHaveLength(3);
  expect(counts.step).toHaveLength(2);
  expect(counts.forward![0]).toMatchObject({ name: "forward 0", pid: 0, tid: 0, ts: 0, dur: 1000 });
  expect(counts["send-activation"]![0]).toMatchObject({
    pid: 0,
    ts: 1000,
    dur: 125,
    args: { microBatch: 0 },
  });
  expect(traceEvents).toContainEqual({ name: "process_name", ph: "M", pid: 1, tid: 0, args: { name: "pi" } });
});

test("events of one thread never overlap", () => {
  const links = [
    [undefined, link],
    [link, undefined, link],
    [undefined, link],
  ];
  const timed = simulate(oneFOneB(chainShape(3, 6)), runCost([each, each, each], { links }));
  const ends = new Map<string, number>();
  for (const event of chromeTrace(timed.spans).traceEvents) {
    if (event.ph !== "X") continue;
    const thread = `${event.pid} ${event.tid}`;
    expect(event.ts! + 1e-6).toBeGreaterThanOrEqual(ends.get(thread) ?? 0);
    ends.set(thread, event.ts! + event.dur!);
  }
});

describe("of workers that share work", () => {
  const shape = (sharing: "data" | "tensor", members: number[][]): PipelineShape => ({
    ...{ microBatches: 2, forwardOnly: 0 },
    stages: [{ positions: [0, 1], sharing, members }],
  });
  const cost = chunk({ forwardMs: 1, backwardMs: 1, stepMs: 1, gradientBytes: 1024 });

  test("sums of gradients have a row and a lane of their own, beside what is computed meanwhile", () => {
    const links = [[undefined, link], [link]];
    const timed = simulate(
      oneFOneB(shape("data", [[0], [1]])),
      runCost(
        [
          [cost, cost],
          [cost, cost],
        ],
        { links },
      ),
    );
    // Forward 1, both of the last chunk 2, and while its gradients are added up for 1 ms, backward of the first.
    expect(gantt(timed.spans, ["laptop", "pi"], 7)).toBe(
      ["laptop 0AAa·##", "          ==", "pi     1BBb·##", "          =="].join("\n"),
    );
    const { traceEvents } = chromeTrace(timed.spans);
    const lane = traceEvents.find(({ name, args }) => name === "thread_name" && args!.name === "reduce")!;
    const sums = traceEvents.filter(({ cat }) => cat === "reduce");
    expect(sums.map(({ name, pid, tid, ts, dur }) => [name, pid, tid, ts, dur])).toEqual([
      ["reduce of chunk 1", 0, lane.tid, 3000, 1000],
      ["reduce of chunk 0", 0, lane.tid, 4000, 1000],
      ["reduce of chunk 1", 1, lane.tid, 3000, 1000],
      ["reduce of chunk 0", 1, lane.tid, 4000, 1000],
    ]);
  });

  test("collectives inside of passes are drawn below them", () => {
    const links = [[undefined, link], [link]];
    const shared = {
      ...cost,
      gradientBytes: 0,
      forwardCollectives: [{ op: "all-gather" as const, bytes: 2048 }],
    };
    const timed = simulate(
      oneFOneB(
        shape("tensor", [
          [0, 1],
          [0, 1],
        ]),
      ),
      runCost(
        [
          [shared, { ...shared, forwardCollectives: [] }],
          [shared, { ...shared, forwardCollectives: [] }],
        ],
        { links },
      ),
    );
    const rows = gantt([...timed.spans, ...timed.collectives], [], 24).split("\n");
    expect(rows[1]).toMatch(/^ +~~ +~~$/);
    expect(
      chromeTrace(timed.collectives)
        .traceEvents.filter(({ ph }) => ph === "X")
        .map(({ name }) => name),
    ).toEqual(["all-gather in 0", "all-gather in 1", "all-gather in 0", "all-gather in 1"]);
  });
});

test("messages of one kind that overlap get threads of their own", () => {
  const spans = [0, 1].map((microBatch) => ({
    ...{ worker: 0, operation: { op: "send-activation" as const, microBatch } },
    ...{ startMs: microBatch, endMs: microBatch + 5 },
  }));
  const events = chromeTrace(spans).traceEvents.filter(({ ph }) => ph === "X");
  expect(new Set(events.map(({ tid }) => tid)).size).toBe(2);
});

test("prediction and measurement in one trace: a group of processes each, both from zero on", () => {
  const measured = measuredSpans([
    { spans: [{ op: "forward", microBatch: 0, start: 105, end: 107, kernelMs: 2 }] },
    {
      spans: [
        { op: "reduce", microBatch: 0, chunk: 1, start: 108, end: 109, kernelMs: 0 },
        { op: "update", microBatch: 0, start: 109, end: 110, kernelMs: 1 },
      ],
    },
  ]);
  expect(measured.map(({ operation }) => operation)).toEqual([
    { op: "forward", microBatch: 0 },
    { op: "reduce", chunk: 1 },
    { op: "step" },
  ]);
  const { traceEvents } = compareTrace(
    [
      { title: "predicted", spans },
      { title: "measured", spans: measured },
    ],
    ["laptop", "pi"],
  );
  const names = traceEvents
    .filter(({ name }) => name === "process_name")
    .map(({ pid, args }) => [pid, args!.name]);
  expect(names).toEqual([
    [0, "predicted: laptop"],
    [1, "predicted: pi"],
    [2, "measured: laptop"],
    [3, "measured: pi"],
  ]);
  expect(traceEvents.find(({ pid, cat }) => pid === 2 && cat === "forward")).toMatchObject({
    ts: 0,
    dur: 2000,
  });
});
