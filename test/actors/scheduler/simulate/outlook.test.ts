/** What churn means for a plan, against runs of the same rules that are drawn at random. */

import { expect, test } from "bun:test";
import type { Cluster } from "../../../../actors/scheduler/cluster.ts";
import type { Plan, PlanCopies } from "../../../../actors/scheduler/plan.ts";
import { churnOutlook } from "../../../../actors/scheduler/simulate/outlook.ts";
import { churnNotes } from "../../../../cli/plan-words.ts";
import { seededRandom } from "../../../../runtime/random.ts";

function planOn(devices: readonly string[], copies: Partial<PlanCopies> = {}, of: object = {}): Plan {
  const stages = devices.map((device, i) => {
    return {
      stage: i,
      ranges: [{ from: i, to: i + 1 }],
      sharing: null,
      members: [
        { device, microBatches: [0, 1, 2, 3], forwardMs: WORK_MS / 16, backwardMs: (3 * WORK_MS) / 16 },
      ],
      recompute: false,
    };
  });
  const codecs = { activations: null, gradients: null };
  const kept = { asked: 1, count: 1, every: 1, why: null, ...copies };
  return { stages, codecs, schedule: "1f1b", copies: kept, ...of } as unknown as Plan;
}

/** A plan in which every loss has all repeat the step. */
const torn = (every: number) => planOn(["a", "b"], { every }, { schedule: "pipedream" });

const churning = (leavesPerHour: number, joinsPerHour = 0): Pick<Cluster, "churn"> => ({
  churn: { events: [], rates: { leavesPerHour, joinsPerHour, seed: 1 } },
});

/** Of a device in a step: less than all of it. */
const WORK_MS = 16_000;
const PER_HOUR = { stepMs: 20_000, pauseMs: 3000, checkpointEvery: 11 };

/** The part of the time of a run that counts, in which every loss makes the step begin anew. */
function drawn(lossesPerHour: number, stepsBack: number): number {
  const random = seededRandom(5);
  const rate = lossesPerHour / 3_600_000;
  let [now, done] = [0, 0];
  for (let attempts = 0; attempts < 40_000; attempts++) {
    const leftMs = -Math.log(1 - random.next()) / rate;
    if (leftMs >= PER_HOUR.stepMs) {
      now += PER_HOUR.stepMs;
      done++;
    } else {
      now += leftMs + PER_HOUR.pauseMs;
      done -= stepsBack;
    }
  }
  return Math.max(0, (done * PER_HOUR.stepMs) / now);
}

/**
 * The same, where what the lost device had done so far is done again by another one: of the step under way, at any time of
 * which it may be lost, and of as many before it as its copy is behind.
 */
function drawnOfParts(lossesPerHour: number, every: number): number {
  const random = seededRandom(6);
  const rate = lossesPerHour / 3_600_000;
  const { stepMs, pauseMs } = PER_HOUR;
  let [now, done, nextMs] = [0, 0, 0];
  for (let step = 0; step < 40_000; step++) {
    for (let doneMs = 0; doneMs < stepMs; ) {
      if (nextMs === 0) nextMs = now - Math.log(1 - random.next()) / rate;
      const goesMs = Math.min(stepMs - doneMs, Math.max(0, nextMs - now));
      [now, doneMs] = [now + goesMs, doneMs + goesMs];
      if (doneMs >= stepMs) break;
      now += pauseMs + (doneMs / stepMs + (step % every)) * WORK_MS;
      nextMs = 0;
    }
    done++;
  }
  return (done * stepMs) / now;
}

test("goodput is that of runs in which the lost device's part is done again, of the step and of those before it", () => {
  for (const perDevice of [1, 10, 30]) {
    const found = churnOutlook({ cluster: churning(perDevice), plan: planOn(["a", "b"]), ...PER_HOUR })!;
    expect(found).toMatchObject({ lossesPerHour: 2 * perDevice, again: "part", stepsBack: 0 });
    expect(found.goodput).toBeCloseTo(drawnOfParts(2 * perDevice, 1), 1.7);
  }
  const behind = churnOutlook({ cluster: churning(5), plan: planOn(["a", "b"], { every: 3 }), ...PER_HOUR })!;
  expect(behind).toMatchObject({ again: "part", stepsBack: 1 });
  expect(behind.goodput).toBeCloseTo(drawnOfParts(10, 3), 1.7);
});

test("or in which every loss makes the step begin anew, where stages keep nothing of what they have sent", () => {
  for (const perDevice of [1, 10, 60]) {
    const found = churnOutlook({ cluster: churning(perDevice), plan: torn(1), ...PER_HOUR })!;
    expect(found).toMatchObject({ lossesPerHour: 2 * perDevice, again: "steps" });
    expect(found.goodput).toBeCloseTo(drawn(2 * perDevice, 0), 1.7);
  }
  const again = (plan: Plan) => churnOutlook({ cluster: churning(1), plan, ...PER_HOUR })!.again;
  const shared = (sharing: string) => {
    const [first] = planOn(["a"]).stages;
    return { stages: [{ ...first!, sharing, members: [first!.members[0]!, first!.members[0]!] }] };
  };
  const of = (sharing: string, every = 1) => again(planOn(["a"], { every }, shared(sharing)));
  expect([of("data"), of("tensor"), of("local"), of("local", 2)]).toEqual(["part", "steps", "part", "steps"]);
  expect(again(planOn(["a"]))).toBe("steps");
});

test("copies that are made seldom, and checkpoints alone, take such a run further back", () => {
  const outlook = (plan: Plan) => churnOutlook({ cluster: churning(5), plan, ...PER_HOUR })!;
  expect(outlook(torn(3))).toMatchObject({ stepsBack: 1 });
  expect(outlook(torn(3)).goodput).toBeCloseTo(drawn(10, 1), 1.7);
  const bare = planOn(["a", "b"], { count: 0 });
  expect(outlook(bare)).toMatchObject({ again: "steps", stepsBack: 5 });
  expect(outlook(bare).goodput).toBeCloseTo(drawn(10, 5), 1.7);
  const hopeless = churnOutlook({ cluster: churning(1000), plan: bare, ...PER_HOUR })!;
  expect(hopeless.goodput).toBe(0);
});

test("who is not in the plan is nobody's loss, and who comes back is there for a part of the time", () => {
  expect(churnOutlook({ cluster: churning(0), plan: planOn(["a"]), ...PER_HOUR })).toBeNull();
  const events = ["a", "b"].map((device) => ({ atMs: 1, what: "leave" as const, device }));
  const cluster = { churn: { events, rates: { leavesPerHour: 1, joinsPerHour: 3, seed: 0 } } };
  const found = churnOutlook({ cluster, plan: planOn(["a"]), ...PER_HOUR })!;
  expect(found).toMatchObject({ lossesPerHour: 1, present: 0.75, stated: 1, again: "steps" });
  expect(churnNotes(found)).toEqual([
    "churn: losses expected in an hour: 1; with each the run stands still for some 1 s, repeats the step that is under way: 100 % of its time counts",
    "churn: a device is there 75 % of the time, and steps take longer for the rest of it",
    "churn: devices of the plan that leave at times that the cluster file states: 1",
  ]);
  const [part] = churnNotes(churnOutlook({ cluster, plan: planOn(["a", "b"], { every: 4 }), ...PER_HOUR })!);
  expect(part).toBe(
    "churn: losses expected in an hour: 2; with each the run stands still for some 1 s, and whoever takes the lost place does its part of the step under way again and of 1.5 before it: 98 % of its time counts",
  );
});
