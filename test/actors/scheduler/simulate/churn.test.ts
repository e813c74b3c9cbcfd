/** Runs of many steps on devices that come and go. */

import { describe, expect, test } from "bun:test";
import type { ChurnEvent } from "../../../../actors/scheduler/cluster.ts";
import { SCHEDULES } from "../../../../actors/scheduler/schedule.ts";
import { type Policy, type Running, simulateChurn } from "../../../../actors/scheduler/simulate/churn.ts";
import { predict } from "../../../../actors/scheduler/simulate.ts";
import { seededRandom } from "../../../../runtime/random.ts";
import { chunk, runCost } from "../costs.ts";

/** Eight micro-batches of 3 ms among the devices, whose optimiser takes 4 ms behind the gate. */
function shared(devices: readonly string[], startMs: number): Running {
  const members = devices.map((_, rank) => [...Array(8).keys()].filter((m) => m % devices.length === rank));
  const stage = { positions: [0], sharing: devices.length > 1 ? ("data" as const) : null, members };
  const one = [chunk({ forwardMs: 1, backwardMs: 2, stepMs: 4 })];
  return {
    ...{ devices, startMs },
    programs: SCHEDULES["1f1b"]({ microBatches: 8, forwardOnly: 0, stages: [stage] }),
    cost: runCost(devices.map(() => one)),
  };
}

const leave = (atMs: number, device: string): ChurnEvent => ({ atMs, device, what: "leave" });
const join = (atMs: number, device: string): ChurnEvent => ({ atMs, device, what: "join" });

/** Uses everybody, whenever somebody comes or goes. */
const everybody: Policy = (devices) => (devices.length === 0 ? null : shared(devices, 5));
/** Two of them do; it never changes what still runs. */
const two: Policy = (devices, running) =>
  running ?? (devices.length < 2 ? null : shared(devices.slice(0, 2), 5));

const run = (policy: Policy, events: readonly ChurnEvent[], steps = 10) =>
  simulateChurn({ steps, devices: ["a", "b", "c"], events, policy, detectMs: 2 });

test("without churn it is so many steps, after one start", () => {
  const stepMs = predict(shared(["a", "b"], 0).programs, shared(["a", "b"], 0).cost).makespanMs;
  expect(stepMs).toBe(4 * 3 + 4);
  expect(run(two, [])).toEqual({
    ...{ steps: 10, totalMs: 5 + 10 * 16, lostMs: 0, stoppedMs: 5 },
    stays: [{ fromMs: 5, toMs: 165, steps: 10, devices: ["a", "b"] }],
  });
});

describe("a device of the plan that leaves", () => {
  test("before the gate costs the step, the noticing and a start", () => {
    // In the third step, of which 11 of 12 ms before the gate are done.
    const { lostMs, stoppedMs, totalMs, stays } = run(two, [leave(5 + 32 + 11, "b")]);
    expect({ lostMs, stoppedMs }).toEqual({ lostMs: 11, stoppedMs: 5 + 2 + 5 });
    expect(totalMs).toBe(10 * 16 + 11 + 12);
    expect(stays.map(({ steps, devices }) => [steps, ...devices])).toEqual([
      [2, "a", "b"],
      [8, "a", "c"],
    ]);
  });
  test("behind the gate costs no step", () => {
    const { lostMs, totalMs } = run(two, [leave(5 + 32 + 12, "b")]);
    // Noticed 2 ms later, while the others still update.
    expect({ lostMs, totalMs }).toEqual({ lostMs: 0, totalMs: 10 * 16 + 5 + 5 });
  });
  test("while the plan is being started is noticed as well", () => {
    const { stoppedMs, stays } = run(two, [leave(3, "b")]);
    expect(stoppedMs).toBe(3 + 2 + 5);
    expect(stays).toHaveLength(1);
  });
  test("together with another is noticed when the last has gone", () => {
    const { steps, stoppedMs, stays } = run(everybody, [leave(9, "b"), leave(10, "a")], 3);
    expect([steps, stoppedMs]).toEqual([3, 5 + 1 + 2 + 5]);
    expect(stays.map(({ devices }) => devices)).toEqual([["a", "b", "c"], ["c"]]);
  });
});

describe("whoever else comes or goes", () => {
  test("changes nothing where the policy does not want it", () => {
    const events = [leave(20, "c"), join(50, "d"), join(60, "c")];
    expect(run(two, events).totalMs).toBe(run(two, []).totalMs);
  });
  test("is taken in between two steps", () => {
    const { stays, lostMs } = run(everybody, [join(20, "d")], 4);
    const three = predict(shared(["a", "b", "c"], 0).programs, shared(["a", "b", "c"], 0).cost).makespanMs;
    expect(lostMs).toBe(0);
    expect(stays.map(({ steps, devices }) => [steps, devices.length])).toEqual([
      [2, 3],
      [2, 4],
    ]);
    expect(stays[1]!.fromMs).toBe(5 + 2 * three + 5);
  });
});

test("when too few are left it waits for others, and gives up when none will come", () => {
  const gone = [leave(9, "a"), leave(9, "b")];
  const { steps, lostMs, totalMs } = run(two, [...gone, join(100, "d")]);
  expect(steps).toBe(10);
  expect(lostMs).toBe(4);
  expect(totalMs).toBe(100 + 5 + 10 * 16);
  expect(run(two, gone)).toMatchObject({ steps: 0, lostMs: 4 });
});

test("a policy that plans with devices that have gone is told so", () => {
  expect(() => run(() => shared(["a", "z"], 5), [])).toThrow("the policy's plan uses z, which is not there");
});

test("a run's time is that of its steps, of what it lost, and of what it stood still", () => {
  const devices = ["a", "b", "c", "d", "e", "f"];
  // By chance, several in every step.
  const random = seededRandom(3);
  const events = Array.from({ length: 2000 }, (_, i) => {
    const device = devices[random.integer(devices.length)]!;
    return random.integer(3) === 0
      ? leave(5 * i + random.next(), device)
      : join(5 * i + random.next(), device);
  });
  const result = simulateChurn({ steps: 300, devices, events, policy: everybody, detectMs: 2 });
  const stepped = result.stays.reduce((sum, stay) => {
    const { programs, cost } = shared(stay.devices, 0);
    return sum + stay.steps * predict(programs, cost).makespanMs;
  }, 0);
  expect(result.steps).toBe(300);
  expect(result.lostMs).toBeGreaterThan(0);
  expect(stepped + result.lostMs + result.stoppedMs).toBeCloseTo(result.totalMs, 6);
  const inOrder = result.stays.every(
    ({ fromMs, toMs }, i) => fromMs <= toMs && fromMs >= (result.stays[i - 1]?.toMs ?? 0),
  );
  expect(inOrder).toBe(true);
});
