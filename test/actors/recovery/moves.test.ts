/** Which plans a run goes over to and when, as devices come while it takes steps: in simulated time, with plans that are made up. */

import { describe, expect, test } from "bun:test";
import { Moves } from "../../../actors/recovery/moves.ts";
import type { Proposal } from "../../../actors/recovery/replanner.ts";
import type { Plan } from "../../../actors/scheduler/plan.ts";
import type { Replanning } from "../../../actors/scheduler/scheduler-options.ts";
import { VirtualClock } from "../../../runtime/clock.ts";

const STEP_MS = 1000;
/** Until stages are ready; what planning takes, simulated time does not see. */
const PREPARE_MS = 100;
/** Half as much again, and a tenth of a step, before its end. */
const LATEST = STEP_MS - 1.5 * PREPARE_MS - 0.1 * STEP_MS;
const LAST = 100;

const planOf = (...devices: readonly string[]) => {
  const members = devices.map((device) => ({ device, microBatches: [0] }));
  const stages = [{ sharing: "data", ranges: [{ from: 0, to: 1 }], members }];
  return { predictedStepMs: STEP_MS, stages, devices: [] } as unknown as Plan;
};
const devicesOf = ({ stages }: Plan) => stages[0]!.members.map(({ device }) => device).join("");

/** A run of devices a and b, in which the best plan is always one with all. */
function running() {
  const clock = new VirtualClock();
  const there = new Set(["a", "b"]);
  const gone = new Set<string>();
  const told: Replanning[] = [];
  /** Plans that were looked for, and when: what with, in place of what. */
  const looked: [at: number, next: string, present: string][] = [];
  let prepareMs = PREPARE_MS;
  let released = 0;
  /** Decides on a plan that is ready, by the steps that are left. */
  let again: Proposal["again"];
  const moves = new Moves(
    {
      clock,
      roster: { living: () => [...there].map((id) => ({ id })), lost: () => gone },
      recovery: { considered: (each: Replanning) => void told.push(each) },
    } as never,
    { prepare: () => clock.sleep(prepareMs), release: () => void released++ },
  );
  moves.started(PREPARE_MS);
  moves.replanner = {
    bound: () => null,
    propose: (present: Plan, alive: readonly string[]) => {
      const next = planOf(...alive);
      looked.push([clock.now(), devicesOf(next), devicesOf(present)]);
      const figures = { why: "it is better", oldStepMs: STEP_MS, newStepMs: STEP_MS / 2 };
      return devicesOf(present) === devicesOf(next)
        ? { ...figures, why: "it is the best" }
        : { ...figures, next, ...(again && { again }) };
    },
  } as never;
  let plan = planOf("a", "b");
  let step = -1;
  return {
    ...{ clock, moves, looked, told, gone },
    released: () => released,
    comes(id: string) {
      there.add(id);
      moves.because("joined");
    },
    leaves(id: string) {
      there.delete(id);
      gone.add(id);
      moves.lose(id);
    },
    preparesIn(ms: number) {
      prepareMs = ms;
    },
    decidesAgain(decide: NonNullable<Proposal["again"]>) {
      again = decide;
    },
    begins: () => moves.consider(plan, ++step, LAST),
    goesOn: () => moves.consider(plan, step, LAST),
    until: (at: number) => clock.advance(at - clock.now()),
    /** Between two steps. @returns the devices of the plan that is gone over to, if there is one. */
    goesOver(isFirst: boolean, { bytes = 0, lateBytes = 0, ms = 0, before = 1 } = {}): string | undefined {
      const next = moves.takeNext(before);
      if (!next) return undefined;
      plan = next.wanted.plan;
      moves.went(next, { plan, isFirst, bytes, lateBytes, ms });
      return devicesOf(plan);
    },
  };
}

describe("devices that come in the middle of a step", () => {
  test("a plan that is ready waits for the end of a step that goes on without somebody", async () => {
    const { begins, comes, moves, goesOver, until } = running();
    moves.underWay.begin(1, planOf("a", "b"));
    begins();
    comes("c");
    await until(STEP_MS);
    expect(moves.isNext).toBe(true);
    expect(goesOver(false)).toBeUndefined();
    expect(moves.within(1)).toMatchObject({ midway: { elapsedMs: STEP_MS } });
    // It begins again, and nothing of it is lost by going over.
    moves.underWay.end();
    expect(moves.within(1).midway).toBeUndefined();
    expect(goesOver(false)).toBe("abc");
  });

  test("are considered together in it, as late as is safe, and their plan is ready at its end", async () => {
    const { clock, begins, comes, looked, moves, until } = running();
    begins();
    await until(10);
    comes("c");
    await until(500);
    comes("d");
    await until(LATEST - 1);
    expect(looked).toEqual([]);
    await until(STEP_MS);
    expect(looked).toEqual([[LATEST, "abcd", "ab"]]);
    expect(moves.isNext).toBe(true);
    expect(clock.now()).toBe(STEP_MS);
  });

  test("are considered at once where there is just enough time", async () => {
    const { begins, comes, looked, moves, until } = running();
    begins();
    await until(STEP_MS - PREPARE_MS);
    comes("c");
    expect(looked).toEqual([[STEP_MS - PREPARE_MS, "abc", "ab"]]);
    await until(STEP_MS);
    expect(moves.isNext).toBe(true);
  });

  test("are considered when the next one begins where there is not", async () => {
    const { begins, comes, looked, moves, until } = running();
    begins();
    await until(STEP_MS - PREPARE_MS + 1);
    comes("c");
    await until(STEP_MS);
    expect(looked).toEqual([]);
    expect(moves.isNext).toBe(false);
    begins();
    expect(looked).toEqual([[STEP_MS, "abc", "ab"]]);
  });

  test("are considered once another plan is ready, which is gone over to if theirs is not", async () => {
    const { begins, comes, goesOver, looked, preparesIn, until } = running();
    begins();
    await until(LATEST - 50);
    comes("c");
    await until(LATEST + 10);
    comes("d");
    await until(LATEST + PREPARE_MS - 1);
    expect(looked).toHaveLength(1);
    preparesIn(STEP_MS);
    await until(STEP_MS);
    expect(looked.slice(1)).toEqual([[LATEST + PREPARE_MS, "abcd", "ab"]]);
    expect(goesOver(true)).toBe("abc");
    // It is found anew for the run as it is now.
    begins();
    expect(looked.slice(2)).toEqual([[STEP_MS, "abcd", "abc"]]);
  });

  test("what it took before to make stages ready is what it takes; a longer time is forgotten by halves", async () => {
    const { begins, comes, goesOver, looked, preparesIn, until } = running();
    preparesIn(4 * PREPARE_MS);
    comes("c");
    begins();
    await until(STEP_MS);
    goesOver(false);
    preparesIn(0);
    for (const [i, id] of ["d", "e"].entries()) {
      begins();
      await until((i + 1) * STEP_MS + 1);
      comes(id);
      await until((i + 2) * STEP_MS);
      goesOver(false);
    }
    const takes = [4, 2].map((times) => 1.5 * times * PREPARE_MS + 0.1 * STEP_MS);
    expect(looked.slice(1).map(([at]) => at)).toEqual([2 * STEP_MS - takes[0]!, 3 * STEP_MS - takes[1]!]);
  });

  test("wait where a device at work is lost meanwhile, until the step goes on", async () => {
    const { begins, comes, goesOn, leaves, looked, until } = running();
    begins();
    await until(100);
    comes("c");
    leaves("b");
    await until(LATEST + 10);
    expect(looked).toEqual([]);
    goesOn();
    expect(looked).toEqual([[LATEST + 10, "ac", "ab"]]);
  });

  test("are considered late all the same where the step goes on and there is a plan already", async () => {
    const { begins, comes, goesOn, leaves, looked, until } = running();
    comes("c");
    begins();
    await until(PREPARE_MS);
    comes("d");
    leaves("b");
    goesOn();
    // The first one was not without b.
    expect(looked).toEqual([
      [0, "abc", "ab"],
      [PREPARE_MS, "acd", "ab"],
    ]);
    await until(300);
    comes("e");
    goesOn();
    await until(STEP_MS);
    expect(looked.slice(2)).toEqual([[LATEST, "acde", "ab"]]);
  });

  test("are not considered between two steps, though the one before was over sooner than it was predicted to be", async () => {
    const { begins, comes, goesOver, looked, until } = running();
    begins();
    await until(STEP_MS / 2);
    expect(goesOver(false)).toBeUndefined();
    comes("c");
    await until(STEP_MS);
    expect(looked).toEqual([]);
    begins();
    expect(looked).toEqual([[STEP_MS, "abc", "ab"]]);
  });

  test("are not considered behind the end of the run, nor in its last step", async () => {
    const { begins, comes, looked, moves, until } = running();
    begins();
    await until(100);
    comes("c");
    moves.end();
    await until(STEP_MS);
    expect(looked).toEqual([]);
    moves.consider(planOf("a", "b"), LAST, LAST);
    await until(2 * STEP_MS);
    expect(looked).toEqual([]);
  });
});

describe("in the first step of newcomers", () => {
  /** Device c is in it, at 1000 ms. */
  async function inFirstStep() {
    const run = running();
    run.comes("c");
    run.begins();
    await run.until(STEP_MS);
    expect(run.goesOver(true, { bytes: 10, ms: 5 })).toBe("abc");
    expect(run.told).toEqual([]);
    return run;
  }

  test("others are considered as well: one plan gives work to the first and begins with the next", async () => {
    const { begins, comes, goesOver, looked, told, until } = await inFirstStep();
    begins();
    await until(STEP_MS + 1);
    comes("d");
    await until(2 * STEP_MS);
    expect(looked.slice(1)).toEqual([[STEP_MS + LATEST, "abcd", "abc"]]);
    expect(goesOver(true, { bytes: 20, lateBytes: 300, ms: 7 })).toBe("abcd");
    const joined = { cause: "joined", moved: true, preparedMs: PREPARE_MS } as const;
    expect(told).toMatchObject([{ ...joined, movedBytes: 310, moveMs: 5 }]);
    begins();
    await until(3 * STEP_MS);
    expect(goesOver(false, { bytes: 1, lateBytes: 400, ms: 8 })).toBe("abcd");
    expect(told.slice(1)).toMatchObject([{ ...joined, movedBytes: 421, moveMs: 15 }]);
    expect(told.map(({ plan }) => devicesOf(plan))).toEqual(["abcd", "abcd"]);
    begins();
    expect(goesOver(false)).toBeUndefined();
  });

  test("the first have work behind it, though the plan for the next is not ready", async () => {
    const { begins, comes, goesOver, looked, preparesIn, told, until } = await inFirstStep();
    preparesIn(1.5 * STEP_MS);
    comes("d");
    begins();
    expect(looked.slice(1)).toEqual([[STEP_MS, "abcd", "abc"]]);
    await until(2 * STEP_MS);
    expect(goesOver(false)).toBe("abc");
    expect(told).toHaveLength(1);
    begins();
    await until(3 * STEP_MS);
    expect(goesOver(true)).toBe("abcd");
    // It was the same one all the time.
    expect(looked).toHaveLength(2);
  });

  test("where the plan for the next cannot be, the first have work behind it, and why is told", async () => {
    const { begins, comes, moves, goesOver, told, until } = await inFirstStep();
    comes("d");
    begins();
    await until(2 * STEP_MS);
    moves.stayed(moves.takeNext(1)!, planOf("a", "b", "c"), 9, "it has no memory");
    expect(told).toMatchObject([{ moved: false, why: "it has no memory", moveMs: 9 }]);
    expect(goesOver(false)).toBe("abc");
    expect(told.slice(1)).toMatchObject([{ moved: true }]);
  });

  test("it is told of where the run ends in it, once", async () => {
    const { moves, told } = await inFirstStep();
    expect(moves.isInFirstStep).toBe(true);
    moves.over(planOf("a", "b", "c"), 300);
    expect(told).toMatchObject([{ cause: "joined", moved: true, movedBytes: 310, moveMs: 5 }]);
    const next = moves.takeNext(1)!;
    moves.went(next, { plan: next.wanted.plan, isFirst: false, bytes: 0, lateBytes: 0, ms: 0 });
    expect(told).toHaveLength(1);
  });

  test("behind a move that cost much no other one is looked for for a while", async () => {
    const { begins, comes, goesOver, looked, moves, until } = running();
    comes("c");
    begins();
    await until(STEP_MS);
    // A quarter of a step is 3.5 of 14.
    goesOver(true, { ms: STEP_MS / 4 });
    comes("d");
    for (let step = 1; step < 4; step++) {
      begins();
      await until((step + 1) * STEP_MS);
      expect(looked).toHaveLength(1);
      if (moves.isInFirstStep) goesOver(false);
    }
    begins();
    expect(looked).toHaveLength(2);
  });

  test("nobody has work by a plan that lacks one who is lost while the run goes over to it", async () => {
    const { begins, comes, gone, goesOver, moves, until } = running();
    comes("c");
    begins();
    await until(STEP_MS);
    gone.add("c");
    expect(goesOver(true)).toBe("abc");
    expect(moves.isInFirstStep).toBe(false);
    expect(moves.isNext).toBe(false);
  });
});

test("what was made ready is given back once nobody wants it, not before", async () => {
  const { begins, comes, goesOver, released, until } = running();
  begins();
  expect(released()).toBe(1);
  comes("c");
  await until(STEP_MS);
  begins();
  expect(released()).toBe(1);
  goesOver(false);
  begins();
  expect(released()).toBe(2);
});

test("what somebody asks for is gone over to, and nothing that was ready before", async () => {
  const { begins, clock, comes, goesOver, moves, preparesIn, until } = running();
  comes("c");
  begins();
  await until(STEP_MS);
  preparesIn(STEP_MS);
  const asked = moves.want(planOf("b"));
  expect(goesOver(false)).toBeUndefined();
  await clock.advance(STEP_MS);
  await asked;
  expect(goesOver(false)).toBe("b");
});

describe("a plan whose stages are ready many steps after it was found", () => {
  const found = async () => {
    const run = running();
    const left: number[] = [];
    run.decidesAgain((stepsLeft) => {
      left.push(stepsLeft);
      return { moves: stepsLeft > 10, why: `it saves something in ${stepsLeft} steps` };
    });
    run.preparesIn(2 * STEP_MS);
    run.comes("c");
    run.begins();
    await run.until(2 * STEP_MS);
    return { ...run, left };
  };

  test("is told by the steps that are left then, of which the next one is the first", async () => {
    const { goesOver, told, left } = await found();
    expect(goesOver(false, { before: LAST - 10 })).toBe("abc");
    expect(left).toEqual([11]);
    expect(told).toMatchObject([{ moved: true, why: "it saves something in 11 steps" }]);
  });

  test("is not gone over to where they are too few for it", async () => {
    const { goesOver, moves, told } = await found();
    expect(goesOver(false, { before: LAST - 9 })).toBeUndefined();
    expect(told).toMatchObject([
      { moved: false, why: "it saves something in 10 steps", movedBytes: 0, cause: "joined" },
    ]);
    expect(devicesOf(told[0]!.plan)).toBe("ab");
    expect(moves.isNext).toBe(false);
  });
});
