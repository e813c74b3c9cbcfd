import { expect, test } from "bun:test";
import { type Plan, planPrograms } from "../../../actors/scheduler/plan.ts";
import { requirePlan } from "../../../actors/scheduler/plan-check.ts";
import { PlanError } from "../../../actors/scheduler/plan-error.ts";
import { planText, readPlan } from "../../../actors/scheduler/plan-json.ts";
import { makePlan } from "../../../actors/scheduler/planner.ts";
import { randomWorld } from "./planner/worlds.ts";

/** Two stages on three devices, the second of which share four micro-batches. */
function plan(): Plan {
  const world = randomWorld(2, { devices: 3, segments: 4, microBatches: 4 });
  const made = makePlan({
    ...world,
    devices: world.devices.map(({ memoryBytes: _, ...device }) => device),
    options: { ...world.options, strategy: "pipeline" },
  });
  const [first, second, third] = made.stages;
  return {
    ...made,
    strategy: "hybrid",
    stages: [
      { ...first!, ranges: [{ from: 0, to: 2 }] },
      {
        ...{ ...second!, ranges: [{ from: 2, to: 4 }], sharing: "data" },
        members: [
          { ...second!.members[0]!, share: 3, microBatches: [0, 1, 3] },
          { ...third!.members[0]!, share: 1, microBatches: [2] },
        ],
      },
    ],
  };
}

/** What is JSON may be changed by anybody, in any way. */
type Editable = any;

const edit = (change: (plan: Editable) => void): string => {
  const copy = JSON.parse(planText(plan()));
  change(copy);
  return JSON.stringify(copy);
};

test("a plan that is written is read as it was, and runs", () => {
  const written = plan();
  expect(readPlan(planText(written))).toEqual(written);
  expect(planPrograms(readPlan(planText(written)))).toHaveLength(3);
});

test("a plan may be edited: a segment, a micro-batch, another schedule", () => {
  const edited = readPlan(
    edit((of) => {
      of.schedule = "gpipe";
      of.stages[0].ranges[0].to = of.stages[1].ranges[0].from = 3;
      of.stages[1].members[0] = { ...of.stages[1].members[0], share: 2, microBatches: [0, 1] };
      of.stages[1].members[1] = { ...of.stages[1].members[1], share: 2, microBatches: [2, 3] };
    }),
  );
  expect(edited.schedule).toBe("gpipe");
  expect(planPrograms(edited)).toHaveLength(3);
});

const members = (of: Editable) => of.stages[1].members;

const FAULTS: readonly (readonly [string, (of: Editable) => void, string])[] = [
  [
    "a gap",
    (of) => (of.stages[1].ranges[0].from = 3),
    "there is a gap: nobody holds segments 2 to 2, before stage 1",
  ],
  [
    "an overlap",
    (of) => (of.stages[1].ranges[0].from = 1),
    "stages overlap: segment 1 is held by stage 0 and by stage 1",
  ],
  [
    "a range backwards",
    (of) => (of.stages[1].ranges[0] = { from: 4, to: 2 }),
    "stage 1 holds segments from 4 up to 2: that is none",
  ],
  [
    "a cycle of stages",
    (of) => {
      of.stages[0].ranges = [{ from: 2, to: 4 }];
      of.stages[1].ranges = [{ from: 0, to: 2 }];
    },
    "the plan goes in a cycle: stage 1 begins at segment 0, before stage 0",
  ],
  [
    "a cycle within a stage",
    (of) => {
      of.stages[0].ranges = [
        { from: 1, to: 2 },
        { from: 0, to: 1 },
      ];
    },
    "stage 0 goes in a cycle: segment 0 comes behind 1",
  ],
  [
    "chunks that the schedule cannot do",
    (of) => {
      of.stages[0].ranges = [
        { from: 0, to: 1 },
        { from: 3, to: 4 },
      ];
      of.stages[1].ranges = [{ from: 1, to: 3 }];
    },
    "the plan cannot be carried out: 1f1b wants the chunks of a stage side by side",
  ],
  ["an unknown device", (of) => (members(of)[1].device = "x"), 'stage 1 names device "x" (device 2)'],
  [
    "a wrong share",
    (of) => (members(of)[0].share = 2),
    'the share of device "d1" is 2, it takes 3 micro-batches: with sharing "data" they are the same',
  ],
  ["a negative share", (of) => (members(of)[0].share = -1), "share is -1, a number above 0 is needed"],
  [
    "a micro-batch dealt twice",
    (of) => (members(of)[1] = { ...members(of)[1], share: 2, microBatches: [2, 3] }),
    'micro-batch 3 is dealt to device "d1" and to "d2"',
  ],
  [
    "a micro-batch dealt to nobody",
    (of) => (members(of)[0] = { ...members(of)[0], share: 2, microBatches: [0, 1] }),
    "stage 1: micro-batch 3 is dealt to nobody",
  ],
  [
    "micro-batches out of order",
    (of) => (members(of)[0].microBatches = [1, 0, 3]),
    'micro-batches of device "d1" are not in order',
  ],
  [
    "a micro-batch too many",
    (of) => (members(of)[1].microBatches = [4]),
    'device "d2" takes micro-batch 4 of 4',
  ],
  [
    "a sharing of one",
    (of) => (of.stages[0].sharing = "tensor"),
    'stage 0 has 1 member and nobody to share with, its sharing is "tensor"',
  ],
  ["several without sharing", (of) => (of.stages[1].sharing = null), "stage 1 has 2 members, and no sharing"],
  [
    "a sharing that does not fit",
    (of) => (of.stages[1].sharing = "tensor"),
    'device "d2" does not take micro-batch 0; with sharing "tensor" it takes all',
  ],
  [
    "an unknown sharing",
    (of) => (of.stages[1].sharing = "magic"),
    'sharing is "magic", known are data, tensor',
  ],
  ["an unknown schedule", (of) => (of.schedule = "2f2b"), 'schedule is "2f2b", known are gpipe, 1f1b'],
  ["an unknown strategy", (of) => (of.strategy = "magic"), 'strategy is "magic", known are single'],
  ["an unknown codec", (of) => (of.codecs.gradients = "zip"), 'no tensor codec "zip"'],
  ["an unknown field", (of) => (of.colour = "red"), 'the plan has a field "colour", known are digest'],
  ["a missing field", (of) => delete of.microBatches, 'the plan has no "microBatches"'],
  ["a stage out of place", (of) => (of.stages[1].stage = 5), "stage 1 of the plan says that it is stage 5"],
  ["no stages", (of) => (of.stages = []), "the plan has no stages"],
  ["no members", (of) => (of.stages[0].members = []), "stage 0 has no members"],
  ["local steps without local sharing", (of) => (of.localSteps = 4), "the plan has 4 local steps"],
];

test.each(FAULTS)("refuses %s", (_, change, message) => {
  expect(() => readPlan(edit(change))).toThrow(PlanError);
  expect(() => readPlan(edit(change))).toThrow(message);
  try {
    readPlan(edit(change));
  } catch (error) {
    expect((error as Error).message).not.toContain("\n");
  }
});

test("refuses what is no JSON", () => {
  expect(() => readPlan("{")).toThrow(/^the plan is not JSON/);
});

test("a plan is for one model, one number of micro-batches, and devices that are there", () => {
  const { segments, devices } = randomWorld(2, { devices: 3, segments: 4, microBatches: 4 });
  const use = { segments, microBatches: 4, devices: devices.map(({ id }) => id) };
  expect(() => requirePlan(plan(), use)).not.toThrow();
  expect(() => requirePlan(plan(), { ...use, microBatches: 8 })).toThrow(
    "the plan is for 4 micro-batches, the run has 8: use --micro-batches 4",
  );
  expect(() => requirePlan(plan(), { ...use, segments: segments.slice(1) })).toThrow(
    "the plan is for a model of 4 segments, this one has 3",
  );
  const other = segments.map((segment) => ({ ...segment, parameterBytes: segment.parameterBytes + 4 }));
  expect(() => requirePlan(plan(), { ...use, segments: other })).toThrow(
    "the plan is for another model or batch",
  );
  expect(() => requirePlan(plan(), { ...use, devices: ["d0", "d1"] })).toThrow(
    'stage 1 of the plan is on device "d2" (device 2), which is not there: there are 2, d0, d1',
  );
  // What was measured of a model may differ: it is the same model.
  const measured = segments.map((segment) => ({ ...segment, stashBytes: 1 }));
  expect(() => requirePlan(plan(), { ...use, segments: measured })).not.toThrow();
});
