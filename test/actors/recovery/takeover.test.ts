/** A plan in which others take the places of lost devices: the same stages and programs, and nobody moves who is there. */

import { expect, test } from "bun:test";
import { takeover, toldOf } from "../../../actors/recovery/takeover.ts";
import { type Plan, planPrograms, workersOf } from "../../../actors/scheduler/plan.ts";
import { checkPlan } from "../../../actors/scheduler/plan-check.ts";
import { mlp } from "../../../nn/models/mlp.ts";
import { planOf } from "../plans.ts";

const MODEL = mlp({ sample: [3], hidden: [4, 4, 4], classes: 3, activation: "tanh" }, 2);
const drawn = planOf(MODEL, {
  microBatches: 4,
  stages: [
    { to: [1] },
    { to: [2], sharing: "data", members: [[0, 1], [2], [3]], shares: [2, 1, 1] },
    { to: [4] },
  ],
});
/** One millisecond for each pass. */
const PLAN: Plan = {
  ...drawn,
  stages: drawn.stages.map((stage) => ({
    ...stage,
    members: stage.members.map((member) => ({ ...member, forwardMs: 1, backwardMs: 1 })),
  })),
};
const IDS = ["0", "1", "2", "3", "4", "5"];
const placesOf = (plan: Plan) => workersOf(plan).map(({ member }) => member.device);
const alive = (lost: readonly string[]) =>
  IDS.filter((id) => !lost.includes(id)).map((id) => ({ id, name: `device-${id}` }));
const over = (lost: readonly string[], near: (worker: number) => readonly string[] = () => []) =>
  takeover(PLAN, new Set(lost), alive(lost), ({ worker }) => near(worker));

test("whichever devices are lost, stages, shares and programs stay, and those that are there stay where they are", () => {
  for (let bits = 0; bits < 2 ** IDS.length - 1; bits++) {
    const lost = IDS.filter((_, i) => bits & (1 << i));
    const next = over(lost)!;
    checkPlan(next);
    expect(planPrograms(next)).toEqual([...planPrograms(PLAN)]);
    for (const [worker, device] of placesOf(next).entries()) {
      const before = placesOf(PLAN)[worker]!;
      if (lost.includes(before)) expect(lost).not.toContain(device);
      else expect(device).toBe(before);
    }
    for (const { id, used } of next.devices) expect(used).toBe(placesOf(next).includes(id));
  }
});

test("of who is there again by the time that it is told, the plan does not say that they are gone", () => {
  const next = over(["1", "4"])!;
  const told = toldOf(next, ["device-0", "device-4", "device-2"]);
  expect(told.devices.filter(({ used }) => !used).map(({ name, reason }) => [name, reason])).toEqual([
    ["device-1", "left out: it is gone"],
    ["device-4", "left out so far: it was gone"],
  ]);
  expect({ ...told, devices: next.devices }).toEqual(next);
});

test("nobody is left", () => {
  expect(over(IDS)).toBeNull();
});

test("a place is taken by who has what belongs there, and else by who has least to do", () => {
  expect(placesOf(over(["4"], (worker) => (worker === 4 ? ["0"] : []))!)[4]).toBe("0");
  // Those with copies are gone as well.
  expect(placesOf(over(["4", "0"], (worker) => (worker === 4 ? ["0"] : ["1"]))!)[4]).toBe("5");
  expect(placesOf(over(["4", "5"])!)[4]).toBe("2");
  expect(placesOf(over(["4"], () => ["1", "2"])!)[4]).toBe("2");
});

test("several places are shared out", () => {
  const next = over(["0", "4", "5"])!;
  expect(placesOf(next)[0]).not.toBe(placesOf(next)[4]);
});

test("the plan says who took what over, and who is gone", () => {
  const { devices } = over(["1"], () => ["3"])!;
  expect(devices[1]).toMatchObject({ used: false, reason: "left out: it is gone" });
  expect(devices[3]).toMatchObject({ used: true, reason: "takes over stage 2 of device-1" });
  expect(devices[0]).toEqual(PLAN.devices[0]!);
});
