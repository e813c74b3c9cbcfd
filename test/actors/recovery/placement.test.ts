/** Where replicas go: on the plans of small clusters, all of them, whichever devices are lost leave a copy of everything. */

import { describe, expect, test } from "bun:test";
import { alikeOf, placeReplicas, type ReplicaHost } from "../../../actors/recovery/placement.ts";
import type { Plan, Sharing, Worker } from "../../../actors/scheduler/plan.ts";
import { workersOf } from "../../../actors/scheduler/plan.ts";

const SHARINGS: readonly Sharing[] = ["data", "sequence", "tensor", "local"];

/** A plan of stages with so many members; everyone on a device of their own, unless `on` says otherwise. */
function workers(members: readonly number[], sharing: Sharing | null, on: readonly number[] = []): Worker[] {
  let next = 0;
  const stages = members.map((count, stage) => ({
    ...{ stage, sharing: count > 1 ? sharing : null, recompute: false },
    ranges: [{ from: stage, to: stage + 1 }],
    members: Array.from({ length: count }, () => {
      const device = `${on[next] ?? next}`;
      next++;
      return { device, deviceName: device, share: 1, microBatches: [0] };
    }),
  }));
  return [...workersOf({ stages } as unknown as Plan)];
}

const hosts = (count: number, freeBytes = 1e9): ReplicaHost[] =>
  Array.from({ length: count }, (_, i) => ({ id: `${i}`, host: `host ${i}`, freeBytes }));

/** All subsets of so many of `count` devices. */
function losses(count: number, size: number): string[][] {
  const all = Array.from({ length: 2 ** count }, (_, bits) =>
    Array.from({ length: count }, (_, i) => `${i}`).filter((_, i) => bits & (1 << i)),
  );
  return all.filter((set) => set.length === size);
}

/** Devices that have what each worker holds. */
function havers(plan: readonly Worker[], copies: number, devices: readonly ReplicaHost[]): string[][] {
  const { replicas } = placeReplicas(
    plan,
    plan.map(() => 10),
    copies,
    devices,
  );
  return plan.map((worker) => [
    ...new Set([worker.member.device, ...alikeOf(worker, plan), ...replicas[worker.worker]!]),
  ]);
}

/** All lists of up to four stages of one to three members, of no more than five. */
const SHAPES: number[][] = [];
const grow = (shape: number[]) => {
  if (shape.length > 0) SHAPES.push(shape);
  if (shape.length === 4) return;
  for (const members of [1, 2, 3]) {
    const next = [...shape, members];
    if (next.reduce((sum, count) => sum + count, 0) <= 5) grow(next);
  }
};
grow([]);

describe.each([1, 2, 3])("%i copies", (copies) => {
  test.each(SHARINGS)("%s: so many losses leave a copy of everything", (sharing) => {
    let checked = 0;
    for (const shape of SHAPES) {
      const used = shape.reduce((sum, count) => sum + count, 0);
      for (const spare of [0, 1, 2]) {
        const count = used + spare;
        const holders = havers(workers(shape, sharing), copies, hosts(count));
        for (const lost of losses(count, Math.min(copies, count - 1))) {
          for (const having of holders) {
            expect(having.some((id) => !lost.includes(id))).toBe(true);
            checked++;
          }
        }
      }
    }
    expect(checked).toBeGreaterThan(1000);
  });

  test("also where devices have several stages, or members of one", () => {
    for (const sharing of SHARINGS) {
      for (const on of [
        [0, 0, 1, 1],
        [0, 1, 0, 1],
        [1, 1, 1, 1],
        [0, 1, 2, 0],
      ]) {
        for (const shape of [
          [1, 1, 1, 1],
          [2, 2],
          [1, 3],
          [1, 2, 1],
        ]) {
          const holders = havers(workers(shape, sharing, on), copies, hosts(4));
          for (const lost of losses(4, copies)) {
            for (const having of holders) expect(having.some((id) => !lost.includes(id))).toBe(true);
          }
        }
      }
    }
  });
});

test("members that hold the same need no copies of each other", () => {
  for (const sharing of SHARINGS) {
    const plan = workers([2, 1], sharing);
    const { replicas } = placeReplicas(plan, [10, 10, 10], 1, hosts(3));
    const isSame = sharing === "data" || sharing === "sequence";
    expect(replicas.slice(0, 2).map(({ length }) => length)).toEqual(isSame ? [0, 0] : [1, 1]);
  }
});

test("a copy goes to the next stage, where there is room", () => {
  const plan = workers([1, 1, 1], null);
  expect(placeReplicas(plan, [10, 10, 10], 1, hosts(3)).replicas).toEqual([["1"], ["2"], ["0"]]);
  const tight = hosts(3).map((host, i) => (i === 1 ? { ...host, freeBytes: 9 } : host));
  expect(placeReplicas(plan, [10, 10, 10], 1, tight).replicas).toEqual([["2"], ["2"], ["0"]]);
});

test("a copy goes to another machine, if there is one", () => {
  const plan = workers([1, 1, 1], null);
  const paired = hosts(3).map((host, i) => ({ ...host, host: i < 2 ? "both" : "other" }));
  expect(placeReplicas(plan, [10, 10, 10], 1, paired).replicas).toEqual([["2"], ["2"], ["0"]]);
  const together = hosts(3).map((host) => ({ ...host, host: "one" }));
  expect(placeReplicas(plan, [10, 10, 10], 1, together).replicas).toEqual([["1"], ["2"], ["0"]]);
});

test("others with room are in reserve, for where a device cannot be reached", () => {
  const plan = workers([1, 1, 1, 1], null);
  const { replicas, reserves } = placeReplicas(plan, [10, 10, 10, 10], 1, hosts(4));
  expect(replicas).toEqual([["1"], ["2"], ["3"], ["0"]]);
  expect(reserves).toEqual([
    ["2", "3"],
    ["3", "0"],
    ["0", "1"],
    ["1", "2"],
  ]);
  expect(placeReplicas(plan, [10, 10, 10, 10], 1, hosts(4, 10)).reserves).toEqual([[], [], [], []]);
});

test("nobody is given more than there is room for, and who has too few copies is told", () => {
  const plan = workers([1, 1, 1], null);
  for (const freeBytes of [0, 9, 10, 15, 20, 25, 40]) {
    for (const copies of [1, 2, 5]) {
      const bytes = [10, 15, 5];
      const { replicas, short } = placeReplicas(plan, bytes, copies, hosts(3, freeBytes));
      const given = new Map<string, number>();
      for (const [worker, ids] of replicas.entries()) {
        expect(new Set([`${worker}`, ...ids]).size).toBe(ids.length + 1);
        for (const id of ids) given.set(id, (given.get(id) ?? 0) + bytes[worker]!);
      }
      expect(Math.max(0, ...given.values())).toBeLessThanOrEqual(freeBytes);
      expect(short).toEqual([0, 1, 2].filter((worker) => replicas[worker]!.length < copies));
    }
  }
});
