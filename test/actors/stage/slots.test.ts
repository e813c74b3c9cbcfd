/** Which micro-batch is where in a stage: never two in one place, and no more places than schedules are known for. */

import { describe, expect, test } from "bun:test";
import { isOfMicroBatch, type StageProgram } from "../../../actors/scheduler/program.ts";
import { chainShape, SCHEDULES } from "../../../actors/scheduler/schedule.ts";
import { assignSlots } from "../../../actors/stage/slots.ts";

const never = () => false;

test("1F1B holds as many micro-batches as there are stages from there on, gpipe all; the last stage has one and the next", () => {
  const counts = (schedule: "1f1b" | "gpipe") =>
    SCHEDULES[schedule](chainShape(3, 6)).map((program) => assignSlots(program, never).counts[0]);
  expect(counts("1f1b")).toEqual([3, 2, 2]);
  expect(counts("gpipe")).toEqual([6, 6, 2]);
});

test("what is sent on and has no way back leaves its slot when it is sent", () => {
  const [first] = SCHEDULES["1f1b"](chainShape(2, 4, 1)) as [StageProgram];
  const slots = assignSlots(first, never);
  expect(slots.counts).toEqual([1]);
  const leaving = first.operations.filter((_, index) => slots.last.has(index)).map(({ op }) => op);
  expect(leaving).toEqual(new Array(4).fill("send-activation"));
});

describe("a stage that hands on from chunk to chunk", () => {
  /** Both chunks of a model, on one worker. */
  const operations = [0, 1, 2].flatMap((microBatch) => [
    { op: "forward" as const, microBatch, chunk: 0 },
    { op: "forward-backward" as const, microBatch, chunk: 1 },
    { op: "backward" as const, microBatch, chunk: 0 },
  ]);
  const program: StageProgram = {
    ...{ worker: 0, stage: 0, positions: [0, 1] },
    operations: [...operations, { op: "step" }],
  };
  const handsOn = (chunk: number, _: number, step: 1 | -1) => (step > 0 ? chunk === 0 : chunk === 1);

  test("holds one micro-batch in each, and the next where both passes are one run", () => {
    expect(assignSlots(program, handsOn).counts).toEqual([1, 2]);
  });

  test("has the second chunk's slot from the moment that it is handed something", () => {
    const [f0, f1, ...rest] = [0, 1].map((microBatch) => ({ op: "forward" as const, microBatch, chunk: 0 }));
    const apart = operations
      .slice(1)
      .flatMap((operation) =>
        operation.op === "forward-backward"
          ? (["forward", "backward"] as const).map((op) => ({ ...operation, op }))
          : [operation],
      );
    const ahead = { ...program, operations: [f0!, f1!, ...rest, ...apart] };
    expect(assignSlots(ahead, handsOn).counts[1]).toBe(2);
    expect(assignSlots(ahead, never).counts[1]).toBe(1);
  });
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
        const slots = assignSlots(program, never);
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
