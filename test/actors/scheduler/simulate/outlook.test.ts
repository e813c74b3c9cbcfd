/** What churn means for a plan, against runs of the same rules that are drawn at random. */

import { expect, test } from "bun:test";
import type { Cluster } from "../../../../actors/scheduler/cluster.ts";
import type { Plan, PlanCopies } from "../../../../actors/scheduler/plan.ts";
import { churnOutlook } from "../../../../actors/scheduler/simulate/outlook.ts";
import { churnNotes } from "../../../../cli/plan-words.ts";
import { seededRandom } from "../../../../runtime/random.ts";

function planOn(devices: readonly string[], copies?: Partial<PlanCopies>): Plan {
  const stages = devices.map((device, i) => {
    return {
      stage: i,
      ranges: [{ from: i, to: i + 1 }],
      sharing: null,
      members: [{ device }],
      recompute: false,
    };
  });
  return { stages, copies: { asked: 1, count: 1, every: 1, why: null, ...copies } } as unknown as Plan;
}

const churning = (leavesPerHour: number, joinsPerHour = 0): Pick<Cluster, "churn"> => ({
  churn: { events: [], rates: { leavesPerHour, joinsPerHour, seed: 1 } },
});

const PER_HOUR = { stepMs: 20_000, pauseMs: 3000, checkpointEvery: 11 };

/** Of so many committed steps, the part of the time that they would take undisturbed. */
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

test("goodput is that of runs in which every loss makes the step begin anew", () => {
  for (const perDevice of [1, 10, 60]) {
    const cluster = churning(perDevice);
    const found = churnOutlook({ cluster, plan: planOn(["a", "b"]), ...PER_HOUR })!;
    expect(found.lossesPerHour).toBe(2 * perDevice);
    expect(found.goodput).toBeCloseTo(drawn(2 * perDevice, 0), 1.7);
  }
});

test("copies that are made seldom, and checkpoints alone, take the run further back", () => {
  const outlook = (copies: Partial<PlanCopies>) =>
    churnOutlook({ cluster: churning(5), plan: planOn(["a", "b"], copies), ...PER_HOUR })!;
  expect(outlook({ every: 3 })).toMatchObject({ stepsBack: 1 });
  expect(outlook({ every: 3 }).goodput).toBeCloseTo(drawn(10, 1), 1.7);
  expect(outlook({ count: 0 })).toMatchObject({ stepsBack: 5 });
  expect(outlook({ count: 0 }).goodput).toBeCloseTo(drawn(10, 5), 1.7);
  const hopeless = churnOutlook({
    cluster: churning(1000),
    plan: planOn(["a", "b"], { count: 0 }),
    ...PER_HOUR,
  })!;
  expect(hopeless.goodput).toBe(0);
});

test("who is not in the plan is nobody's loss, and who comes back is there for a part of the time", () => {
  expect(churnOutlook({ cluster: churning(0), plan: planOn(["a"]), ...PER_HOUR })).toBeNull();
  const events = ["a", "b"].map((device) => ({ atMs: 1, what: "leave" as const, device }));
  const cluster = { churn: { events, rates: { leavesPerHour: 1, joinsPerHour: 3, seed: 0 } } };
  const found = churnOutlook({ cluster, plan: planOn(["a"]), ...PER_HOUR })!;
  expect(found).toMatchObject({ lossesPerHour: 1, present: 0.75, stated: 1 });
  expect(churnNotes(found)).toEqual([
    "churn: losses expected in an hour: 1; with each the run stands still for some 1 s, repeats the step that is under way: 100 % of its time counts",
    "churn: a device is there 75 % of the time, and steps take longer for the rest of it",
    "churn: devices of the plan that leave at times that the cluster file states: 1",
  ]);
});
