/** A run that another coordinator goes on with is planned anew as well, once its devices have been measured. */

import { afterEach, expect, test } from "bun:test";
import type { Device } from "../../../actors/device.ts";
import { MemoryJournal } from "../../../actors/journal/memory.ts";
import { RunJournal } from "../../../actors/journal/run-journal.ts";
import type { ProfileCache } from "../../../actors/profile-cache.ts";
import { workersOf } from "../../../actors/scheduler/plan.ts";
import type { RecoveryOptions, Replanning } from "../../../actors/scheduler/scheduler.ts";
import { findSegments } from "../../../nn/segments.ts";
import { memory, NodeRuntime, type Ref } from "../../../runtime/index.ts";
import { lead } from "../cluster.ts";
import { bitsOf, MODEL, started } from "./runs.ts";

/** So many that a move pays, and more than are made. */
const LAST = 100_000;

let cleanups: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of cleanups.toReversed()) await each.close();
  cleanups = [];
});

const segment = { forwardMs: 10, backwardMs: 20, jointMs: 30, stepMs: 1, stashBytes: 1000, workingBytes: 0 };
const PROFILE = {
  segments: findSegments(MODEL).map(() => segment),
  chunk: { forwardMs: 0, backwardMs: 0, jointMs: 0, stepMs: 0, otherMs: 0 },
};
/** All devices are alike, and have been measured before. */
const profiles = {
  get: async () => PROFILE,
  put: async () => {},
  drop: async () => {},
} as unknown as ProfileCache;
const placesOf = (all: readonly number[]) =>
  all.map((at, i) => ({ id: `${i}`, name: `device-${at}`, address: `memory://host-${at}` }));

test("what others have taken over is shared out again", async () => {
  const journal = new MemoryJournal();
  const continuity = await RunJournal.begin(journal, "a run", {});
  continuity.place(placesOf([0, 1, 2]));
  const run = await started({ devices: 3 }, { strategy: "pipeline", profiles }, { continuity });
  cleanups.push(run);
  await run.scheduler.ask.plan();
  await run.scheduler.ask.deploy(run.initial);
  for (let at = 0; at < 3; at++) await run.scheduler.ask.step(at, LAST);
  await run.hosts[1]!.close();

  const node = new NodeRuntime({ name: "successor", transports: [memory(run.network)], log: () => {} });
  cleanups.push(node);
  const further = await RunJournal.goOn(journal);
  further.place(placesOf([0, 2]));
  const devices: Ref<Device>[] = [];
  for (const at of [0, 2]) {
    const { id } = await node.connect(`memory://host-${at}`);
    devices.push((await node.lookup<Device>(id, `device-${at}`))!);
  }
  const considered: Replanning[] = [];
  const recovery: RecoveryOptions = {
    ...{ copies: 1, continuity: further, tell: () => {}, considered: (each) => considered.push(each) },
    restart: async () => ({ step: -1, values: run.initial }),
    fixed: async (names) => Object.fromEntries(names.map((name) => [name, run.initial[name]!])),
  };
  const scheduling = { strategy: "pipeline", profiles, recovery };
  const scheduler = await lead(node, devices, { model: MODEL, scheduling });
  const taken = await scheduler.ask.takeOver(further.planBefore()!);
  const held = (plan: typeof taken.plan) => workersOf(plan).map(({ member }) => member.device);
  expect(held(taken.plan).sort()).not.toEqual(["0", "1"]);
  // Measuring goes on beside steps, as long as it takes; some more are made behind the move.
  let steps = taken.step + 1;
  for (let more = 3; more > 0; steps++) {
    await scheduler.ask.step(steps, LAST);
    if (considered.length > 0) more--;
    else await Bun.sleep(10);
  }
  expect(considered).toMatchObject([{ cause: "lost", moved: true }]);
  expect(held(considered[0]!.plan)).toEqual(["0", "1"]);

  const spared = await started({ devices: 1 }, { strategy: "single", profiles });
  cleanups.push(spared);
  await spared.scheduler.ask.plan();
  await spared.scheduler.ask.deploy(spared.initial);
  for (let at = 0; at < steps; at++) await spared.scheduler.ask.step(at, LAST);
  expect(await bitsOf({ ...run, scheduler })).toEqual(await bitsOf(spared));
});
