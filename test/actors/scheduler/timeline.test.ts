import { expect, test } from "bun:test";
import { chainShape, oneFOneB } from "../../../actors/scheduler/schedule.ts";
import { simulate } from "../../../actors/scheduler/simulate.ts";
import { chromeTrace, gantt } from "../../../actors/scheduler/timeline.ts";
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
