import { describe, expect, test } from "bun:test";
import { type Plan, planPrograms, type Sharing, workersOf } from "../../../../actors/scheduler/plan.ts";
import { checkPlan } from "../../../../actors/scheduler/plan-check.ts";
import { PlanError } from "../../../../actors/scheduler/plan-error.ts";
import { Workshop } from "../../../../actors/scheduler/planner/draft.ts";
import { objectiveOf } from "../../../../actors/scheduler/planner/objective.ts";
import { makePlan, type PlanRequest } from "../../../../actors/scheduler/planner.ts";
import { validatePrograms } from "../../../../actors/scheduler/validate.ts";
import { exhaustive } from "./oracle.ts";
import { randomWorld, type WorldSize } from "./worlds.ts";

/** How much worse than the best there is a plan may be. */
const WITHIN = 1.01;

function attempt(request: PlanRequest): Plan | PlanError {
  try {
    return makePlan(request);
  } catch (error) {
    if (error instanceof PlanError) return error;
    throw error;
  }
}

interface Tally {
  readonly unfit: number;
  readonly strategies: ReadonlySet<string>;
}

/** Plans every case of these seeds, and compares with the best there is. */
function compare(
  seeds: readonly [number, number],
  size: WorldSize,
  objective: "time" | "energy",
  sharings: readonly Sharing[],
): Tally {
  let unfit = 0;
  const strategies = new Set<string>();
  for (let seed = seeds[0]; seed < seeds[1]; seed++) {
    const world = randomWorld(seed, size);
    const request = { ...world, options: { ...world.options, objective } };
    const { segments, devices, profile, options } = request;
    const goal = objectiveOf(objective);
    const { microBatches } = options;
    const workshop = new Workshop({ segments, devices, profile, microBatches, objective: goal, copies: 0 });
    const { best } = exhaustive(workshop, sharings);
    const plan = attempt(request);
    if (best === null || plan instanceof PlanError) {
      expect([best, plan instanceof PlanError], `seed ${seed}`).toEqual([null, true]);
      unfit++;
      continue;
    }
    strategies.add(plan.strategy);
    const found = objective === "time" ? plan.predictedStepMs : plan.predictedJoules!;
    expect(found / best.score, `seed ${seed}`).toBeLessThanOrEqual(WITHIN);
    // Never slower than any device alone that can hold the model, of which the oracle knows too.
    expect(() => checkPlan(plan), `seed ${seed}`).not.toThrow();
    for (const { member } of workersOf(plan)) {
      const { memoryBytes = Number.POSITIVE_INFINITY } = devices.find(({ id }) => id === member.device)!;
      expect(member.memoryBytes, `seed ${seed}`).toBeLessThanOrEqual(memoryBytes);
    }
  }
  return { unfit, strategies };
}

describe("within a hundredth of the best of all plans, on seeded cases", () => {
  const size = { devices: 3, segments: 4, microBatches: 4 };

  test("of least time", () => {
    const { strategies } = compare([1, 25], size, "time", ["data"]);
    // Several kinds must have been the best somewhere, or the test says little.
    expect(strategies.size).toBeGreaterThan(2);
  });

  test("of least energy", () => {
    const { strategies } = compare([25, 37], size, "energy", ["data"]);
    expect(strategies.size).toBeGreaterThan(1);
  });

  test("with work that can be shared inside a micro-batch", () => {
    compare([44, 55], { ...size, microBatches: 3, sharded: true }, "time", ["data", "tensor"]);
  });
});

test("where memory is scarce, plans fit or there is none", () => {
  let fits = 0;
  let unfit = 0;
  for (let seed = 1; seed <= 16; seed += 2) {
    const world = randomWorld(seed, { devices: 3, segments: 5, microBatches: 4 });
    const devices = world.devices.map((device, i) => ({
      ...device,
      memoryBytes: 5e6 + seed * (3e5 + 2e5 * i),
    }));
    const plan = attempt({ ...world, devices, options: { ...world.options, recompute: "where-needed" } });
    if (plan instanceof PlanError) {
      unfit++;
      expect(plan.message).toMatch(/^the model needs about [\d.]+ MiB .* what would help: [^\n]+$/);
      continue;
    }
    fits++;
    for (const { member } of workersOf(plan)) {
      const limit = devices.find(({ id }) => id === member.device)!.memoryBytes;
      expect(member.memoryBytes, `seed ${seed}`).toBeLessThanOrEqual(limit);
    }
  }
  expect(Math.min(fits, unfit)).toBeGreaterThan(1);
});

test.each(["data", "tensor", "local", "pipeline", "hybrid"])(
  "strategy %s is what was asked for",
  (strategy) => {
    const world = randomWorld(7, { devices: 4, segments: 8, microBatches: 8, sharded: true });
    const devices = world.devices.map(({ memoryBytes: _, ...device }) => device);
    const plan = makePlan({ ...world, devices, options: { ...world.options, strategy } });
    if (strategy !== "hybrid") expect(plan.strategy).toBe(strategy as Plan["strategy"]);
    expect(() => validatePrograms(planPrograms(plan))).not.toThrow();
    expect(() => checkPlan(plan)).not.toThrow();
  },
);

test("of many devices, who may choose among all schedules finds what one of them can do", () => {
  const world = randomWorld(3, { devices: 24, segments: 16, microBatches: 96 });
  const stepMs = (schedule: string) =>
    makePlan({ ...world, options: { ...world.options, strategy: "hybrid", schedule } }).predictedStepMs;
  expect(stepMs("auto") / stepMs("gpipe")).toBeLessThan(1.02);
});

describe("where there is nothing to share", () => {
  const world = randomWorld(7, { devices: 2, segments: 4, microBatches: 4, sharded: true });
  const devices = world.devices.map(({ memoryBytes: _, ...device }) => device);
  const asked = (strategy: string, rest: object = {}) =>
    makePlan({ ...world, devices, ...rest, options: { ...world.options, strategy } });

  test("a device that would be dealt no micro-batch is left out", () => {
    const { d0 } = world.profile.devices;
    const slower = (times: readonly number[]) => times.map((ms) => 1000 * ms);
    const { forwardMs, backwardMs, stepMs } = d0!;
    const d1 = {
      ...{ forwardMs: slower(forwardMs), backwardMs: slower(backwardMs), stepMs: slower(stepMs) },
    };
    const profile = { ...world.profile, devices: { d0: d0!, d1 } };
    const plan = asked("data", { profile });
    expect(workersOf(plan).map(({ member }) => member.device)).toEqual(["d0"]);
    expect(plan.devices[1]!.reason).toMatch(/^left out: [\d.]+ ms a step with it, [\d.]+ ms without$/);
  });
});

test.each(["gpipe", "interleaved", "zero-bubble"])("schedule %s is what was asked for", (schedule) => {
  const world = randomWorld(8, { devices: 3, segments: 12, microBatches: 6 });
  const devices = world.devices.map(({ memoryBytes: _, ...device }) => device);
  const plan = makePlan({ ...world, devices, options: { ...world.options, strategy: "pipeline", schedule } });
  expect(plan.schedule).toBe(schedule as Plan["schedule"]);
  const chunks = plan.stages.map(({ ranges }) => ranges.length);
  expect(Math.min(...chunks)).toBe(schedule === "interleaved" ? 2 : 1);
  expect(() => checkPlan(plan)).not.toThrow();
});

test("zero-bubble parts backward passes, so no stage has its work shared within micro-batches", () => {
  const world = randomWorld(7, { devices: 4, segments: 8, microBatches: 8, sharded: true });
  const devices = world.devices.map(({ memoryBytes: _, ...device }) => device);
  const asked = (strategy: string) =>
    makePlan({ ...world, devices, options: { ...world.options, strategy, schedule: "zero-bubble" } });
  for (const { sharing } of asked("hybrid").stages) expect([null, "data"]).toContain(sharing);
  expect(() => asked("tensor")).toThrow(
    "schedule zero-bubble makes a backward pass in two parts, devices of strategy tensor make theirs in one: use another schedule",
  );
});

test("the best schedule is no worse than any that is asked for by name", () => {
  const world = randomWorld(9, { devices: 3, segments: 12, microBatches: 6 });
  const devices = world.devices.map(({ memoryBytes: _, ...device }) => device);
  const stepMs = (schedule: string) =>
    makePlan({ ...world, devices, options: { ...world.options, strategy: "pipeline", schedule } })
      .predictedStepMs;
  const named = ["gpipe", "1f1b", "interleaved", "zero-bubble"].map(stepMs);
  expect(stepMs("auto")).toBeLessThanOrEqual(Math.min(...named) * WITHIN);
});

describe("codecs", () => {
  const world = randomWorld(3, { devices: 2, segments: 4, microBatches: 8 });
  const slow = { latencyMs: 0, bytesPerMs: 2e4 };
  const links = { d0: { d1: slow }, d1: { d0: slow } };
  const devices = world.devices.map(({ memoryBytes: _, ...device }) => device);
  const plan = (codecs: object) =>
    makePlan({
      ...{ ...world, devices, profile: { ...world.profile, links } },
      options: { ...world.options, strategy: "data", codecs },
    });

  test("are used where they are allowed and gain, and never else", () => {
    const plain = plan({});
    expect(plain.codecs).toEqual({ activations: null, gradients: null });
    const coded = plan({ gradients: ["int8"] });
    expect(coded.codecs.gradients).toBe("int8");
    expect(coded.predictedStepMs).toBeLessThan(plain.predictedStepMs);
  });

  test("of unknown names are refused", () => {
    expect(() => plan({ gradients: ["zip"] })).toThrow(/no tensor codec "zip"/);
  });
});

describe("energy", () => {
  /** A fast device that is hungry and a slow one that is not, far apart. */
  const world = (options: object) => {
    const base = randomWorld(5, { devices: 2, segments: 4, microBatches: 4 });
    const times = (ms: number) => {
      const each = base.segments.map(() => ms);
      return { forwardMs: each, backwardMs: each, stepMs: each };
    };
    const link = { latencyMs: 50, bytesPerMs: 10 };
    const power = { sentJoulesPerByte: 1e-6, receivedJoulesPerByte: 1e-6 };
    return {
      ...base,
      devices: [
        { id: "d0", name: "hungry", power: { ...power, idleWatts: 50, busyWatts: 200 } },
        { id: "d1", name: "frugal", power: { ...power, idleWatts: 1, busyWatts: 5 } },
      ],
      profile: { devices: { d0: times(1), d1: times(4) }, links: { d0: { d1: link }, d1: { d0: link } } },
      options: { ...base.options, ...options },
    };
  };
  const used = (options: object) =>
    workersOf(makePlan(world(options))).map(({ member }) => member.deviceName);

  test("is another choice than time", () => {
    expect(used({ objective: "time" })).toEqual(["hungry"]);
    expect(used({ objective: "energy" })).toEqual(["frugal"]);
  });

  test("is as long as its formula says: idle watts all the time, the rest while it computes", () => {
    const plan = makePlan(world({ objective: "energy" }));
    // Four micro-batches through four segments, 4 ms forward and 4 back, and an update of 4 ms a segment.
    const stepMs = 4 * 4 * 8 + 4 * 4;
    expect(plan.predictedStepMs).toBeCloseTo(stepMs, 6);
    expect(plan.predictedJoules).toBeCloseTo((5 * stepMs) / 1000, 9);
    expect(plan.devices[0]!.reason).toMatch(/^left out: [\d.]+ J a step with it, [\d.]+ J without$/);
  });

  test("of several devices on one machine counts its watts once, and no network within it", () => {
    const base = world({ objective: "energy", strategy: "data" });
    const power = { ...base.devices[1]!.power!, idleWatts: 4, busyWatts: 10 };
    const devices = base.devices.map((device) => ({ ...device, power }));
    const joules = (hosts: Record<string, string>) => {
      const plan = makePlan({ ...base, devices, profile: { ...base.profile, hosts } });
      return { joules: plan.predictedJoules!, stepMs: plan.predictedStepMs };
    };
    const together = joules({ d0: "desk", d1: "desk" });
    // Busy longer than the step, the two of them, which is as busy as a machine can be.
    expect(together.joules).toBeGreaterThan((4 * together.stepMs) / 1000);
    expect(together.joules).toBeLessThanOrEqual((10 * together.stepMs) / 1000 + 1e-9);
    const apart = joules({ d0: "desk", d1: "shelf" });
    expect(apart.joules).toBeGreaterThan((2 * 4 * apart.stepMs) / 1000);
  });

  test("under a deadline takes the frugal one only as long as it is in time", () => {
    expect(used({ objective: "energy", deadlineMs: 150 })).toEqual(["frugal"]);
    expect(used({ objective: "energy", deadlineMs: 100 })).toEqual(["hungry"]);
    expect(() => used({ objective: "energy", deadlineMs: 10 })).toThrow(
      "no plan makes a step in 10 ms: the best found takes 36.0 ms",
    );
  });

  test("wants to know the power of all", () => {
    const base = world({ objective: "energy" });
    const devices = [base.devices[0]!, { id: "d1", name: "secretive" }];
    expect(() => makePlan({ ...base, devices })).toThrow("nobody knows the power of secretive");
  });

  test.each([
    [{ objective: "speed" }, 'objective "speed" is not available, use one of time, energy'],
    [{ deadlineMs: 5 }, "a deadline of 5 ms is for objective energy"],
    [{ objective: "energy", deadlineMs: 0 }, "a deadline of 0 ms: it takes a number above 0"],
    [{ localSteps: 4 }, "4 local steps are for strategy local, it is auto"],
  ])("refuses %j", (options, message) => {
    expect(() => makePlan(world(options))).toThrow(message);
  });
});
