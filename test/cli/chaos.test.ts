/** Faults in words: what they come to, and what is said of those that are none. */

import { expect, test } from "bun:test";
import type { Fault } from "../../actors/chaos/fault.ts";
import { readFaults, requireDevices } from "../../cli/chaos.ts";

const RUN = { done: 0, steps: 60, microBatches: 4 };

const MEANT: readonly (readonly [string, readonly Fault[]])[] = [
  ["kill device-2 at step 20", [{ action: "kill", device: "device-2", step: 19 }]],
  [
    "kill device-2 at step 20 micro-batch 3 backward",
    [{ action: "kill", device: "device-2", step: 19, microBatch: 3, phase: "backward" }],
  ],
  ["stop  device-1 at step 5;", [{ action: "stop", device: "device-1", step: 4 }]],
  ["slow device-1 4x at step 5", [{ action: "slow", device: "device-1", factor: 4, step: 4 }]],
  [
    "slow device-1 1.5x at step 5 commit",
    [{ action: "slow", device: "device-1", factor: 1.5, step: 4, phase: "commit" }],
  ],
  ["cut my desk at home at step 8", [{ action: "cut", device: "my desk at home", step: 7 }]],
  [
    "kill a at step 1 ; kill b at recovery step 2",
    [
      { action: "kill", device: "a", step: 0 },
      { action: "kill", device: "b", step: 1, phase: "recovery" },
    ],
  ],
];

test.each(MEANT)("%s", (text, faults) => {
  expect(readFaults([text], RUN)).toEqual([...faults]);
});

test("given several times they add up", () => {
  expect(readFaults(["kill a at step 1", "kill b at step 2; cut c at step 3"], RUN)).toHaveLength(3);
});

const MISTAKES: readonly (readonly [string, RegExp])[] = [
  [
    "kil device-2 at step 20",
    /"kil" is nothing to do to a device; the nearest is kill, all are kill, stop, hang, slow and cut$/,
  ],
  ["kill device-2", /expected what, which device and when, as in "kill device-2 at step 20"$/],
  ["kill at step 3", /expected what, which device and when/],
  ["kill device-2 at micro-batch 3", /at which step\?/],
  ["kill device-2 at stop 20", /"stop" is no point of a run; the nearest is step,/],
  ["kill device-2 at step 20 bakward", /"bakward" is no point of a run; the nearest is backward,/],
  ["kill device-2 at step 61", /steps of this run are 1 to 60, not 61$/],
  ["kill device-2 at step", /steps of this run are 1 to 60$/],
  ["kill device-2 at step 0", /steps of this run are 1 to 60, not 0$/],
  ["kill device-2 at step 2 micro-batch 4", /micro-batches of this run are 0 to 3, not 4$/],
  ["kill device-2 at step 2 micro-batch 3 commit", /commit is of no micro-batch/],
  ["kill device-2 3x at step 2", /3x is for slow: kill has no factor$/],
  ["slow device-2 at step 2", /how slow\? .* as in "slow device-2 4x at step 2"$/],
  ["slow device-2 0.5x at step 2", /A factor above 1/],
];

test.each(MISTAKES)("%s", (text, said) => {
  expect(() => readFaults([`stop a at step 1; ${text}`], RUN)).toThrow(said);
  try {
    readFaults([text], RUN);
  } catch (error) {
    expect(error).toMatchObject({ code: "USAGE", message: expect.stringMatching(/^--chaos "[^\n]*$/) });
  }
});

test("steps that a resumed run has done are not to come", () => {
  expect(() => readFaults(["kill a at step 5"], { ...RUN, done: 5 })).toThrow(
    /steps of this run are 6 to 60, not 5$/,
  );
});

test("a device that there is not is refused, and the nearest named", () => {
  const faults = readFaults(["kill devise-2 at step 5"], RUN);
  requireDevices(faults, ["devise-2"]);
  expect(() => requireDevices(faults, ["device-1", "device-2"])).toThrow(
    /^--chaos: there is no device "devise-2"; the nearest is device-2, all are device-1 and device-2$/,
  );
});
