/** What is left of a step whose micro-batches are dealt anew in its middle. */

import { describe, expect, test } from "bun:test";
import { dealLost } from "../../../actors/scheduler/dealt.ts";
import { type Plan, planPrograms, workersOf } from "../../../actors/scheduler/plan.ts";
import { isOfMicroBatch, type MicroBatchOperation } from "../../../actors/scheduler/program.ts";
import { Routes } from "../../../actors/scheduler/routes.ts";
import type { ScheduleName } from "../../../actors/scheduler/schedule.ts";
import { programOfRest } from "../../../actors/stage/rest.ts";
import { assignSlots } from "../../../actors/stage/slots.ts";
import { Chance } from "../../nn/engine/operator-cases.ts";
import { type HandStage, planOf } from "../plans.ts";
import { MODEL } from "../recovery/runs.ts";

const MICRO_BATCHES = 24;
/** Of the plan, the first worker of its last stage. */
const LAST = 14;
/** One of 0 … count - 1. */
const oneOf = (chance: Chance, count: number) => Math.floor(chance.unit() * count);

function many(members: number): Pick<HandStage, "sharing" | "members"> {
  const dealt = Array.from({ length: members }, (): number[] => []);
  for (let m = 0; m < MICRO_BATCHES; m++) dealt[m % members]!.push(m);
  return { sharing: "data", members: dealt };
}

/** Pipelines of stages of many, of few, and of one. */
function planFor(schedule: ScheduleName): Plan {
  const stages: HandStage[] = [
    { to: [2], ...many(10) },
    { to: [3], members: 1 },
    { to: [5], ...many(3) },
    { to: [6], ...many(9) },
  ];
  return planOf(MODEL, { microBatches: MICRO_BATCHES, stages, schedule });
}

/** A pipeline whose workers carry their lists out in any order that messages allow. */
class Pipeline {
  readonly done: MicroBatchOperation[][];
  /** What has been sent, as its place and whom it is from. */
  private readonly sent: Set<string>;
  private readonly lists: readonly (readonly MicroBatchOperation[])[];
  private readonly routes: Routes;
  private readonly next: number[];

  constructor(plan: Plan, lists: readonly (readonly MicroBatchOperation[])[], sent: Iterable<string> = []) {
    this.routes = new Routes(plan);
    this.lists = lists;
    this.done = lists.map(() => []);
    this.next = lists.map(() => 0);
    this.sent = new Set(sent);
  }

  /** Carries out so many operations, or all that it can. */
  run(chance: Chance, most = Number.POSITIVE_INFINITY): void {
    for (let count = 0; count < most; count++) {
      const able = this.lists.flatMap((_, worker) => (this.canGoOn(worker) ? [worker] : []));
      if (able.length === 0) return;
      const worker = able[oneOf(chance, able.length)]!;
      const operation = this.lists[worker]![this.next[worker]!++]!;
      this.done[worker]!.push(operation);
      if (operation.op.startsWith("send")) this.sent.add(this.placeOf(worker, operation));
    }
  }

  get isThrough(): boolean {
    return this.lists.every((list, worker) => list.length === this.next[worker]);
  }

  /** Where what a worker has sent belongs. */
  sentBy(worker: number): string[] {
    const sends = this.done[worker]!.filter(({ op }) => op.startsWith("send"));
    return sends.map((operation) => this.placeOf(worker, operation));
  }

  private canGoOn(worker: number): boolean {
    const operation = this.lists[worker]![this.next[worker]!];
    if (!operation) return false;
    return !operation.op.startsWith("receive") || this.sent.has(this.placeOf(worker, operation));
  }

  /** Where a message belongs: what it is of, and at which position it is taken. */
  private placeOf(worker: number, { op, microBatch }: MicroBatchOperation): string {
    const [position] = this.routes.workers[worker]!.positions;
    const to = op === "send-activation" ? position! + 1 : op === "send-gradient" ? position! - 1 : position!;
    return `${op.split("-")[1]}/${microBatch}/${to}`;
  }
}

describe.each(["1f1b", "gpipe", "eager-1f1b", "zero-bubble"] as const)("%s", (schedule) => {
  test("wherever workers are when some are lost, the others come to the end", () => {
    const plan = planFor(schedule);
    const programs = planPrograms(plan);
    const ofMicroBatches = programs.map(({ operations }) => operations.filter(isOfMicroBatch));
    const all = ofMicroBatches.reduce((sum, { length }) => sum + length, 0);
    for (let seed = 0; seed < 60; seed++) {
      const chance = new Chance(seed);
      const before = new Pipeline(plan, ofMicroBatches);
      before.run(chance, oneOf(chance, all + 1));
      const lost = new Set([
        oneOf(chance, 10),
        ...(seed % 3 === 0 ? [LAST + oneOf(chance, 9)] : []),
        ...(seed % 4 === 0 ? [oneOf(chance, 10)] : []),
      ]);
      const next = dealLost(plan, new Set([...lost].map(String)))!;
      const left = workersOf(plan).filter(({ worker }) => !lost.has(worker));
      const rests = planPrograms(next).map((program, i) => {
        const done = before.done[left[i]!.worker]!;
        const rest = programOfRest(program, done)!;
        expect(rest.operations.filter(isOfMicroBatch)).toHaveLength(
          program.operations.filter(isOfMicroBatch).length - done.length,
        );
        return rest.operations.filter(isOfMicroBatch);
      });
      // What lost ones have sent may not have come.
      const sent = left.flatMap(({ worker }) => before.sentBy(worker));
      const survivors = new Pipeline(next, rests, sent);
      survivors.run(chance);
      expect(survivors.isThrough).toBe(true);
    }
  });
});

test("what is left is in the order of the program, whatever is done of it", () => {
  const plan = planFor("1f1b");
  const next = dealLost(plan, new Set(["3"]))!;
  const [single] = planPrograms(next).filter(({ stage }) => stage === 1);
  const done = single!.operations.filter(isOfMicroBatch).filter(({ microBatch }) => microBatch % 5 === 0);
  const rest = programOfRest(single!, done)!;
  expect(rest.operations).toEqual(single!.operations.filter((each) => !(done as unknown[]).includes(each)));
  expect(rest.operations.at(-1)).toEqual({ op: "step" });
});

test("found out: something was done that is another's now", () => {
  const [program] = planPrograms(planFor("1f1b"));
  expect(programOfRest(program!, [{ op: "forward", microBatch: 1 }])).toBe(null);
});

test("micro-batches that are begun stay in their slots", () => {
  const [program] = planPrograms(planFor("gpipe"));
  const done: MicroBatchOperation[] = [
    { op: "forward", microBatch: 0 },
    { op: "send-activation", microBatch: 0 },
    { op: "forward", microBatch: 10 },
  ];
  const rest = programOfRest(program!, done)!;
  const slots = assignSlots(rest, new Map([0, 10].map((m) => [m, m / 10 + 1])));
  expect([slots.slotOf(0, 0), slots.slotOf(0, 10), slots.slotOf(0, 20)]).toEqual([1, 2, 0]);
  expect(slots.counts).toEqual([3]);
});
