/** Who talks to whom: what is sent is sent once, by one, to all that take it, and nothing to oneself. */

import { describe, expect, test } from "bun:test";
import type {
  Plan,
  PlanMember,
  PlanStage,
  SegmentRange,
  Sharing,
  Worker,
} from "../../../actors/scheduler/plan.ts";
import { Routes } from "../../../actors/scheduler/routes.ts";

const MICRO_BATCHES = 4;

function stage(
  index: number,
  ranges: readonly (readonly [number, number])[],
  sharing: Sharing | null = null,
  dealt: readonly (readonly number[])[] = [[0, 1, 2, 3]],
): PlanStage {
  const members = dealt.map((microBatches, device): PlanMember => {
    const costs = { forwardMs: 1, backwardMs: 1, parameterBytes: 0, memoryBytes: 0 };
    return { device: `${device}`, deviceName: `${device}`, share: 1, microBatches, ...costs };
  });
  const chunks = ranges.map(([from, to]): SegmentRange => ({ from, to }));
  return { stage: index, ranges: chunks, sharing, members, recompute: false };
}

const routes = (...stages: PlanStage[]) =>
  new Routes({ stages, microBatches: MICRO_BATCHES } satisfies Pick<Plan, "stages" | "microBatches">);
const numbers = (workers: readonly { worker: number }[]) => workers.map(({ worker }) => worker);
const all = [0, 1, 2, 3];

/** Whether a worker has what it starts from, or goes back from, sent by another: it does not make that itself. */
function receives(plan: Routes, own: Worker, position: number, from: number, microBatch: number): boolean {
  const takes = (at: number) => plan.listeners(at, microBatch).includes(own);
  return from >= 0 && from < plan.positions && takes(position) && !takes(from);
}

test("a pipeline's stages talk to their neighbours", () => {
  const line = routes(stage(0, [[0, 1]]), stage(1, [[1, 2]]));
  const [first, second] = line.workers as [Worker, Worker];
  for (const m of all) {
    expect(numbers(line.targets(first, 0, 1, m))).toEqual([1]);
    expect(numbers(line.targets(second, 1, 0, m))).toEqual([0]);
    expect(line.targets(first, 0, -1, m)).toEqual([]);
    expect(line.targets(second, 1, 2, m)).toEqual([]);
  }
});

test("what one worker makes for itself is for itself alone", () => {
  // Interleaved, and V-shaped at the turn.
  const plan = routes(
    stage(0, [
      [0, 1],
      [3, 4],
    ]),
    stage(1, [
      [1, 2],
      [2, 3],
    ]),
  );
  const [first, second] = plan.workers as [Worker, Worker];
  expect(numbers(plan.targets(second, 1, 2, 0))).toEqual([1]);
  expect(receives(plan, second, 2, 1, 0)).toBe(false);
  expect(numbers(plan.targets(second, 2, 3, 0))).toEqual([0]);
  expect(receives(plan, first, 3, 2, 0)).toBe(true);
});

test("with micro-batches dealt, the one that has it speaks and listens; validation goes the same ways", () => {
  const plan = routes(
    stage(0, [[0, 1]], "data", [
      [0, 2],
      [1, 3],
    ]),
    stage(1, [[1, 2]], "data", [[3], [0, 1], [2]]),
  );
  const takers = all.map((m) => numbers(plan.listeners(1, m)));
  expect(takers).toEqual([[3], [3], [4], [2]]);
  for (const m of all) {
    for (const worker of plan.workers.slice(0, 2)) {
      const expected = worker.rank === m % 2 ? takers[m] : [];
      expect(numbers(plan.targets(worker, 0, 1, m))).toEqual(expected!);
      expect(plan.targets(worker, 0, 1, m + 8)).toEqual(plan.targets(worker, 0, 1, m));
    }
  }
});

test("ranks of a sharded stage speak in turn, and all of them listen", () => {
  const plan = routes(
    stage(0, [[0, 1]], "tensor", [all, all]),
    stage(1, [[1, 2]], "sequence", [all, all, all]),
  );
  expect(all.map((m) => plan.speaker(0, m).worker)).toEqual([0, 1, 0, 1]);
  expect(all.map((m) => plan.speaker(1, m).worker)).toEqual([2, 3, 4, 2]);
  expect(numbers(plan.targets(plan.workers[1]!, 0, 1, 1))).toEqual([2, 3, 4]);
  expect(plan.targets(plan.workers[0]!, 0, 1, 1)).toEqual([]);
  expect(numbers(plan.targets(plan.workers[3]!, 1, 0, 1))).toEqual([0, 1]);
});

const PLANS: Readonly<Record<string, Routes>> = {
  hybrid: routes(
    stage(0, [[0, 1]], "data", [
      [0, 3],
      [1, 2],
    ]),
    stage(1, [[1, 2]], "tensor", [all, all, all]),
    stage(2, [[2, 3]]),
  ),
  interleaved: routes(
    stage(
      0,
      [
        [0, 1],
        [2, 3],
      ],
      "sequence",
      [all, all],
    ),
    stage(
      1,
      [
        [1, 2],
        [3, 4],
      ],
      "data",
      [[0], [1, 2, 3]],
    ),
  ),
};

describe.each(Object.entries(PLANS))("%s", (_, plan) => {
  test("whoever receives is sent to by exactly one, and nobody else is", () => {
    for (const m of all) {
      for (let position = 0; position < plan.positions; position++) {
        for (const to of [position - 1, position + 1]) {
          const sent = plan.holdersOf(position).flatMap((own) =>
            plan
              .targets(own, position, to, m)
              .filter(({ worker }) => worker !== own.worker)
              .map(({ worker }) => worker),
          );
          const wanted = plan.holdersOf(to).filter((own) => receives(plan, own, to, position, m));
          expect(sent.sort()).toEqual(numbers(wanted).sort());
        }
      }
    }
  });

  test("whoever holds a parameter hears of its gradients elsewhere once", () => {
    for (let position = 0; position < plan.positions; position++) {
      for (let to = 0; to < plan.positions; to++) {
        if (to === position) continue;
        const heard = plan.holdersOf(position).flatMap((own) => plan.partners(own, position, to));
        expect(numbers(heard).sort()).toEqual(numbers(plan.holdersOf(to)).sort());
      }
    }
  });
});
