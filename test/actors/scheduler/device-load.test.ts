/** Plans in which a device has taken over what another one did: they can be read again, and are predicted as what they are. */

import { expect, test } from "bun:test";
import { takeover } from "../../../actors/recovery/takeover.ts";
import { memoryOf, stepMsOf } from "../../../actors/scheduler/device-load.ts";
import { planText, readPlan } from "../../../actors/scheduler/plan-json.ts";
import { planTable } from "../../../cli/plan-words.ts";
import { mlp } from "../../../nn/models/mlp.ts";
import { planOf } from "../plans.ts";

const MODEL = mlp({ sample: [3], hidden: [4, 4, 4], classes: 3, activation: "tanh" }, 2);
const drawn = planOf(MODEL, { microBatches: 4, stages: [{ to: [1] }, { to: [2] }, { to: [4] }] });
const PLAN = {
  ...{ ...drawn, strategy: "pipeline" as const },
  devices: drawn.devices.map((device) => ({ ...device, reason: "as drawn" })),
};
const left = ["0", "2"].map((id) => ({ id, name: `device-${id}` }));
const NEXT = takeover(PLAN, new Set(["1"]), left, () => ["2"])!;

test("a device in several places is read again", () => {
  expect(readPlan(planText(NEXT)).stages).toEqual([...NEXT.stages]);
});

test("kernels of one device run one after the other, and need their memory together", () => {
  const prediction = { makespanMs: 100, idleMs: [40, 30, 50] };
  expect(stepMsOf(PLAN, prediction, { controlMs: 5 })).toBe(105);
  expect(stepMsOf(NEXT, prediction, { controlMs: 5 })).toBe(70 + 50 + 30 + 5);
  const workers = [1, 10, 100].map((memoryBytes) => ({
    memoryBytes,
    chunks: [],
    ...{ parameterBytes: 0, keptBytes: 0, copyBytes: 0, gradientBytes: null, logBytes: 0 },
  }));
  expect([...memoryOf(NEXT, { workers })]).toEqual([
    ["0", 1],
    ["2", 110],
  ]);
});

test("a table has all that it does in its row", () => {
  const { columns, rows } = planTable(NEXT);
  const segments = columns.findIndex(({ title }) => title === "segments");
  expect(rows.map((row) => [row[0], row[segments]])).toEqual([
    ["device-0", "0"],
    ["device-2", "1 + 2-3"],
    ["device-1", "-"],
  ]);
});
