/** The smaller measures: turns, accounts, memory, processes, arithmetic. */

import { describe, expect, test } from "bun:test";
import type { OperationSpan } from "../../actors/stage.ts";
import { judge } from "../../bench/memory.ts";
import { busiestMs, parseResident, parseSchedstat, residentBytes } from "../../bench/processes.ts";
import { inTurns } from "../../bench/rounds.ts";
import { account } from "../../bench/train/time.ts";
import { graphFlops, parametersOf, QUICK_WORKLOAD, SPEED_WORKLOAD, stepFlops } from "../../bench/workload.ts";

describe("contenders in turns", () => {
  test("each work once a round, in an order that rotates", async () => {
    const order: string[] = [];
    const contender = (name: string, ms: number[]) => ({
      name,
      work: async (count: number) => {
        order.push(name);
        return ms.slice(0, count);
      },
    });
    const times = await inTurns([contender("a", [1, 5, 3]), contender("b", [2, 2, 2])], 2, 3);
    expect(order.join("")).toBe("abba");
    expect(Object.fromEntries(times)).toEqual({ a: [3, 3], b: [2, 2] });
  });
});

test("the account of a step adds up to it", () => {
  const update = (kernelMs: number): OperationSpan => ({
    ...{ op: "update", microBatch: 0, start: 0, end: kernelMs },
    kernelMs,
  });
  const report = { kernelMs: 81, copyMs: 2, waitMs: 3, totalMs: 90, spans: [update(1), update(5)] };
  const rows = account([{ ms: 100, reports: [report] as any }]);
  expect(rows.map(({ ms }) => ms)).toEqual([80, 6, 2, 3, 4, 5]);
  expect(rows.reduce((sum, { ms }) => sum + ms, 0)).toBe(100);
});

test("arithmetic by formula is that of the graph", () => {
  for (const workload of [SPEED_WORKLOAD, QUICK_WORKLOAD]) {
    expect(graphFlops(workload)).toBe(stepFlops(workload));
  }
  expect(parametersOf(SPEED_WORKLOAD)).toBe(3_323_392);
});

describe("memory", () => {
  const readings = (bytes: (step: number) => number) =>
    Array.from({ length: 100 }, (_, i) => ({ step: i * 5, bytes: bytes(i * 5) }));
  test("that grows at first and stays then is flat", () => {
    const found = judge(readings((step) => (step < 90 ? 1e6 * step : 90e6)));
    expect(found).toMatchObject({ first: 90e6, last: 90e6, slope: 0, flat: true });
  });
  test("that jumps up and down is flat", () => {
    expect(judge(readings((step) => (step % 2 === 0 ? 100e6 : 130e6))).flat).toBe(true);
  });
  test("that grows steadily is not", () => {
    const found = judge(readings((step) => 100e6 + 50e3 * step));
    expect(found.slope).toBe(50e3);
    expect(found.flat).toBe(false);
  });
});

describe("processes", () => {
  test("tell their resident memory", () => {
    expect(parseResident("Name:\tbun\nVmHWM:\t  900 kB\nVmRSS:\t  750 kB\n")).toBe(750 * 1024);
    expect(parseResident("Name:\tkthreadd\n")).toBeNull();
    expect(residentBytes(2 ** 30)).toBeNull();
  });
  test("tell the time of the busiest thread", () => {
    expect(parseSchedstat("2500000 7000000 3\n")).toBe(2.5);
    expect(
      busiestMs(
        new Map([["1", 90]]),
        new Map([
          ["1", 100],
          ["2", 30],
        ]),
      ),
    ).toBe(30);
  });
});
