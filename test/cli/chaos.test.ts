/** Faults in words: what they come to, and what is said of those that are none. */

import { expect, test } from "bun:test";
import type { Fault } from "../../actors/chaos/fault.ts";
import type { FaultSeries } from "../../actors/chaos/series.ts";
import { faultText, readChaos, requireDevices, requireOwn } from "../../cli/chaos.ts";
import type { Devices } from "../../cli/devices.ts";
import { beginChaos } from "../../cli/run-chaos.ts";
import type { TrainSettings } from "../../cli/train-options.ts";

const RUN = { steps: 60, microBatches: 4 };
const readFaults = (texts: readonly string[], range: typeof RUN) => readChaos(texts, range).faults;

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
  ["kill device-2 at step 20 for 10s", [{ action: "kill", device: "device-2", step: 19, forMs: 10_000 }]],
  [
    "slow a desk for two 2x at step 3 forward for 1.5s",
    [{ action: "slow", device: "a desk for two", factor: 2, step: 2, phase: "forward", forMs: 1500 }],
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
  // What is told of a fault is what it may be given as.
  expect(readFaults(faults.map(faultText), RUN)).toEqual([...faults]);
});

const SERIES: readonly (readonly [string, FaultSeries])[] = [
  ["random every 20s", { every: { ms: 20_000 }, seed: 1, forMs: 10_000 }],
  ["random every 20s seed 7", { every: { ms: 20_000 }, seed: 7, forMs: 10_000 }],
  ["random every 30 steps seed 7 for 2min", { every: { steps: 30 }, seed: 7, forMs: 120_000 }],
  ["random every 1 step for 500ms", { every: { steps: 1 }, seed: 1, forMs: 500 }],
];

test.each(SERIES)("%s", (text, series) => {
  expect(readChaos([`kill a at step 1; ${text}`], RUN)).toEqual({
    faults: [{ action: "kill", device: "a", step: 0 }],
    series: [series],
  });
});

test("given several times they add up", () => {
  expect(readFaults(["kill a at step 1", "kill b at step 2; cut c at step 3"], RUN)).toHaveLength(3);
});

const MISTAKES: readonly (readonly [string, RegExp])[] = [
  [
    "kil device-2 at step 20",
    /"kil" is nothing to do to a device; the nearest is kill, all are kill, stop, hang, slow and cut, and random$/,
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
  ["kill device-2 at step 2 for ever", /"ever" is no time, such as 500ms, 20s or 2min$/],
  ["random", /expected how often, as in "random every 20s seed 7" or "random every 30 steps seed 7 for 5s"$/],
  ["random every 20", /"20" is no time, such as/],
  ["random every 0s", /"random every 0s": 0s is too short: 1ms is the least$/],
  ["stop device-2 at step 2 for 0ms", /: 0ms is too short: 1ms is the least$/],
  ["random every 1441min", /: 1441min is too long: 1440min, which is a day, is the most$/],
  ["random every 2.5 steps", /steps are whole numbers from 1 up, not 2.5$/],
  ["random every 20s seed x", /seeds are whole numbers from 0 up, not x$/],
  ["random every 20s at step 3", /expected how often/],
];

test.each(MISTAKES)("%s", (text, said) => {
  expect(() => readFaults([`stop a at step 1; ${text}`], RUN)).toThrow(said);
  try {
    readFaults([text], RUN);
  } catch (error) {
    expect(error).toMatchObject({ code: "USAGE", message: expect.stringMatching(/^--chaos "[^\n]*$/) });
  }
});

test("who leads a run from its middle on arms no fault of steps that are done, whoever was lost with it", async () => {
  const faults = readFaults(["kill gone at step 3", "stop desk at step 5", "stop desk at step 6"], RUN);
  const armed: (readonly Fault[])[] = [];
  const ref = { ask: { arm: async (all: readonly Fault[]) => void armed.push(all) } };
  const desk = { name: "desk", ref };
  const devices = { joined: [desk], find: () => desk, node: { clock: null } } as unknown as Devices;
  const settings = { chaos: { faults, series: [] }, run: { steps: 60 } } as unknown as TrainSettings;
  (await beginChaos(settings, devices, 5, () => {})).close();
  expect(armed).toEqual([[faults[2]!]]);
  await expect(beginChaos(settings, devices, 2, () => {})).rejects.toThrow('there is no device "gone"');
});

test("a device that there is not is refused, and the nearest named", () => {
  const faults = readFaults(["kill devise-2 at step 5"], RUN);
  requireDevices(faults, ["devise-2"]);
  expect(() => requireDevices(faults, ["device-1", "device-2"])).toThrow(
    /^--chaos: there is no device "devise-2"; the nearest is device-2, all are device-1 and device-2$/,
  );
});

test("who is killed for a while was started here", () => {
  const faults = readFaults(
    ["kill desk at step 2 for 5s; cut desk at step 3 for 5s; kill desk at step 4"],
    RUN,
  );
  requireOwn(faults, ["desk"]);
  requireOwn(faults.slice(1), []);
  expect(() => requireOwn(faults, ["device-1"])).toThrow(
    /^--chaos "kill desk at step 2 for 5s": desk was not started here, and is not started again from here: leave "for" out$/,
  );
});
