/** Which micro-batch is where in a stage: never two in one place, and no more places than schedules are known for. */

import { expect, test } from "bun:test";
import { isOfMicroBatch, type StageProgram } from "../../../actors/scheduler/program.ts";
import { chainShape, SCHEDULES } from "../../../actors/scheduler/schedule.ts";
import { assignSlots } from "../../../actors/stage/slots.ts";

test("1F1B holds as many micro-batches as there are stages from there on, gpipe all; the last stage has one and the next", () => {
  const counts = (schedule: "1f1b" | "gpipe") =>
    SCHEDULES[schedule](chainShape(3, 6)).map((program) => assignSlots(program).counts[0]);
  expect(counts("1f1b")).toEqual([3, 2, 2]);
  expect(counts("gpipe")).toEqual([6, 6, 2]);
});

test("what is sent on and has no way back leaves its slot when it is sent", () => {
  const [first] = SCHEDULES["1f1b"](chainShape(2, 4, 1)) as [StageProgram];
  const slots = assignSlots(first);
  expect(slots.counts).toEqual([1]);
  const leaving = first.operations.filter((_, index) => slots.last.has(index)).map(({ op }) => op);
  expect(leaving).toEqual(new Array(4).fill("send-activation"));
});

test("neighbouring chunks have their slots in common, from the first pass of a micro-batch to the last", () => {
  const operations = [0, 1, 2].flatMap((microBatch) => [
    { op: "forward" as const, microBatch, chunk: 0 },
    { op: "forward-backward" as const, microBatch, chunk: 1 },
    { op: "backward" as const, microBatch, chunk: 0 },
  ]);
  const program = { worker: 0, stage: 0, positions: [4, 5] };
  const inTurn = assignSlots({ ...program, operations });
  expect(inTurn.counts).toEqual([1, 1]);
  const forward = operations.filter(({ op }) => op === "forward");
  const ahead = assignSlots({
    ...program,
    operations: [...forward, ...operations.filter(({ op }) => op !== "forward")],
  });
  expect(ahead.counts).toEqual([3, 3]);
  for (const microBatch of [0, 1, 2]) {
    expect(ahead.slotOf(0, microBatch)).toBe(ahead.slotOf(1, microBatch));
  }
  const apart = assignSlots({ ...program, positions: [4, 6], operations });
  expect(apart.counts).toEqual([1, 2]);
});

const shapes = [chainShape(4, 8), chainShape(2, 4, 0, 2), chainShape(3, 5, 1)];
test.each(Object.keys(SCHEDULES) as (keyof typeof SCHEDULES)[])(
  "%s: a slot has one micro-batch at a time",
  (schedule) => {
    let seen = 0;
    for (const shape of shapes) {
      const isInterleaved = shape.stages[0]!.positions.length > 1;
      if (isInterleaved && !["gpipe", "interleaved"].includes(schedule)) continue;
      for (const program of SCHEDULES[schedule](shape)) {
        const slots = assignSlots(program);
        const left = new Map<string, number>();
        const touches = program.operations.filter(isOfMicroBatch);
        const key = (chunk: number, microBatch: number) => `${chunk}/${microBatch}`;
        for (const { chunk = 0, microBatch } of touches) {
          left.set(key(chunk, microBatch), (left.get(key(chunk, microBatch)) ?? 0) + 1);
        }
        const inside = new Map<string, number>();
        for (const { chunk = 0, microBatch } of touches) {
          const slot = slots.slotOf(chunk, microBatch);
          expect(slot).toBeLessThan(slots.counts[chunk]!);
          const place = `${chunk} ${slot}`;
          expect(inside.get(place) ?? microBatch).toBe(microBatch);
          inside.set(place, microBatch);
          const more = left.get(key(chunk, microBatch))! - 1;
          left.set(key(chunk, microBatch), more);
          if (more === 0) inside.delete(place);
          seen++;
        }
      }
    }
    expect(seen).toBeGreaterThan(0);
  },
);
