/** What is left of a simulated step in the order in which it was begun, and what a device does that waits. */

import { expect, test } from "bun:test";
import { workersOf } from "../../actors/scheduler/plan.ts";
import { makePlan } from "../../actors/scheduler/planner.ts";
import type { MicroBatchOperation, Operation } from "../../actors/scheduler/program.ts";
import { courseOf, goingOf } from "../../bench/churn/course.ts";
import { withReadyFirst } from "../../bench/churn/order.ts";
import { worldOf } from "../../bench/churn/world.ts";
import { seededRandom } from "../../runtime/random.ts";

const forward = (microBatch: number): MicroBatchOperation[] => [
  { op: "receive-activation", microBatch },
  { op: "forward", microBatch },
  { op: "send-activation", microBatch },
];
const backward = (microBatch: number): MicroBatchOperation[] => [
  { op: "receive-gradient", microBatch },
  { op: "backward", microBatch },
  { op: "send-gradient", microBatch },
];

test("whoever waits does the first of the next passes whose input is there", () => {
  const end: Operation[] = [{ op: "reduce" }, { op: "step" }];
  const done = forward(9);
  const operations = [...done, ...forward(0), ...forward(1), ...backward(0), ...backward(9), ...end];
  const when = (ahead: number, ...there: readonly string[]) =>
    withReadyFirst(operations, done.length, ahead, ({ op, microBatch }) =>
      there.includes(`${op} ${microBatch}`),
    );
  expect(when(3)).toBe(null);
  expect(when(0, "receive-activation 1")).toBe(null);
  expect(when(1, "receive-activation 1")).toEqual([
    ...[...done, ...forward(1), ...forward(0), ...backward(0), ...backward(9), ...end],
  ]);
  // Not behind a forward pass that is to come; one that is done has its gradient.
  expect(when(3, "receive-gradient 0")).toBe(null);
  expect(when(2, "receive-gradient 9")).toBe(null);
  expect(when(3, "receive-gradient 0", "receive-gradient 9")).toEqual([
    ...[...done, ...backward(9), ...forward(0), ...forward(1), ...backward(0), ...end],
  ]);
});

const world = worldOf({ devices: 70, churn: 0, minutes: 1, seed: 3, rows: 1, microBatches: 210 });
const plan = makePlan(world.request);
const course = courseOf(world, plan);

test("as a step is begun, so it is in order", () => {
  const order = course.order();
  for (const { worker, member, stage } of workersOf(plan)) {
    const { operations } = course.cost.programs[worker]!;
    expect(order.operations(stage.stage, member.microBatches)).toEqual(operations);
  }
});

test("wherever workers are when some are lost, the others come to the end in either order", () => {
  const random = seededRandom(5);
  const many = workersOf(plan).filter(({ stage }) => stage.members.length > 12);
  expect(many.length).toBeGreaterThan(20);
  for (let run = 0; run < 10; run++) {
    const losses = [0, 1, 2].map(() => ({
      device: many[random.integer(many.length)]!.member.device,
      atMs: random.next() * course.stepMs,
    }));
    const each = new Map(losses.map(({ device, atMs }) => [device, atMs]));
    for (const order of ["kept", "ready"] as const) {
      const going = goingOf(course, world, { again: "each", order }, 100);
      for (const [device, atMs] of [...each].sort(([, a], [, b]) => a - b)) {
        going.runTo(atMs);
        if (going.gateMs === undefined) going.lose(device, atMs, atMs + 50);
      }
      going.runTo(Number.POSITIVE_INFINITY);
      expect(going.gateMs!).toBeGreaterThan(0.9 * course.stepMs);
    }
  }
}, 60_000);
