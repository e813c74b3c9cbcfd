/** Runs that another coordinator takes over: it has the journal, the devices have the copies, and nothing is lost. */

import { afterEach, expect, test } from "bun:test";
import { Device } from "../../../actors/device.ts";
import { MemoryJournal } from "../../../actors/journal/memory.ts";
import { RunJournal } from "../../../actors/journal/run-journal.ts";
import type { Plan } from "../../../actors/scheduler/plan.ts";
import type { RecoveryOptions, Replanning } from "../../../actors/scheduler/scheduler.ts";
import { Stage, type StageSpec } from "../../../actors/stage.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { memory, NodeRuntime, type Ref } from "../../../runtime/index.ts";
import { failure } from "../../runtime/world.ts";
import { type ClusterOptions, lead } from "../cluster.ts";
import {
  bitsOf,
  type Disturbed,
  handPlan,
  LAST,
  MODEL,
  PIPELINE,
  SHARED_BY_DATA,
  SHARED_BY_TENSOR,
  type Shape,
  STEPS,
  started,
} from "../recovery/runs.ts";

let cleanups: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of cleanups.toReversed()) await each.close();
  cleanups = [];
});

const placesOf = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    ...{ id: `${i}`, name: `device-${i}`, address: `memory://host-${i}` },
  }));

interface Led extends Disturbed {
  readonly journal: MemoryJournal;
}

/** A run that is written down. */
async function led(shape: Shape, classOf?: ClusterOptions["classOf"]): Promise<Led> {
  const plan = handPlan(shape);
  const journal = new MemoryJournal();
  const continuity = await RunJournal.begin(journal, "a run", {});
  const devices = plan.devices.length;
  continuity.place(placesOf(devices));
  const cluster = await started({ devices, ...(classOf && { classOf }) }, { plan }, { continuity });
  cleanups.push(cluster);
  await cluster.scheduler.ask.plan();
  await cluster.scheduler.ask.deploy(cluster.initial);
  return { ...cluster, journal };
}

/** Another coordinator, on these of the run's devices, in this order. */
async function successor(run: Led, places: readonly number[], further: Partial<RecoveryOptions> = {}) {
  const node = new NodeRuntime({ name: "successor", transports: [memory(run.network)], log: () => {} });
  cleanups.push(node);
  const continuity = await RunJournal.goOn(run.journal);
  const all = placesOf(run.devices.length);
  continuity.place(places.map((at, i) => ({ ...all[at]!, id: `${i}` })));
  const devices: Ref<Device>[] = [];
  for (const at of places) {
    const { id } = await node.connect(`memory://host-${at}`);
    devices.push((await node.lookup<Device>(id, `device-${at}`))!);
  }
  const recovery: RecoveryOptions = {
    ...{ copies: 1, continuity, tell: () => {} },
    restart: async () => ({ step: -1, values: run.initial }),
    fixed: async (names) => Object.fromEntries(names.map((name) => [name, run.initial[name]!])),
    ...further,
  };
  const scheduler = await lead(node, devices, { model: MODEL, scheduling: { recovery } });
  return { scheduler, continuity, taken: await scheduler.ask.takeOver(continuity.planBefore()!) };
}

/** By shape, the bits of a run that nobody takes over. */
const known = new Map<Shape, ReturnType<typeof bitsOf>>();
function undisturbed(shape: Shape): ReturnType<typeof bitsOf> {
  const found = known.get(shape) ?? led(shape).then(toItsEnd);
  known.set(shape, found);
  return found;
}

async function toItsEnd(run: Led) {
  for (let step = 0; step < STEPS; step++) await run.scheduler.ask.step(step, LAST);
  return bitsOf(run);
}

const PIPED: Shape = { stages: PIPELINE };
const SHAPES: [string, Shape][] = [
  ["a pipeline", PIPED],
  ["a stage shared by data", SHARED_BY_DATA],
  ["a stage shared by tensor", SHARED_BY_TENSOR],
];

test.each(SHAPES)("%s: another coordinator goes on, and the one before cannot any more", async (_, shape) => {
  const expected = await undisturbed(shape);
  const run = await led(shape);
  for (let step = 0; step < 3; step++) await run.scheduler.ask.step(step, LAST, true);
  const order = run.devices.map((_, i) => i).toReversed();
  const { scheduler, continuity, taken } = await successor(run, order);
  expect(taken).toMatchObject({ step: 2, fromCheckpoint: false });
  expect(continuity.before).toMatchObject({ step: 2, done: false });
  expect(continuity.before!.losses.size).toBe(3);
  // What it still believes to lead is not there any more, and devices do nothing further for it.
  await failure(run.scheduler.ask.step(3, LAST));
  const refused = await failure(run.scheduler.ask.join(run.devices[0]!));
  expect(refused.message).toContain("another coordinator has taken over run a run");
  for (let step = taken.step + 1; step < STEPS; step++) await scheduler.ask.step(step, LAST, true);
  expect(await bitsOf({ ...run, scheduler })).toEqual(expected);
});

test("the one before is lost while it starts stages: those with nothing in them are ended", async () => {
  const expected = await undisturbed(PIPED);
  let spec!: StageSpec;
  class Telling extends Device {
    override host(given: StageSpec, owner: Ref<any>) {
      const copied = ({ dtype, shape, bytes }: Tensor) => new Tensor(dtype, shape, bytes.slice());
      const chunks = given.chunks.map((chunk) => ({ ...chunk, graph: copied(chunk.graph) }));
      spec = { ...given, generation: 2, chunks };
      return super.host(given, owner);
    }
  }
  const run = await led(PIPED, () => Telling);
  for (let step = 0; step < 3; step++) await run.scheduler.ask.step(step, LAST);
  const fresh = await run.devices[1]!.ask.host(spec, run.scheduler);
  const { scheduler, taken } = await successor(run, [0, 1, 2]);
  expect(taken).toMatchObject({ step: 2, fromCheckpoint: false });
  expect(await failure(fresh.ask.idle())).toMatchObject({ code: "ACTOR_DOWN" });
  for (let step = 3; step < STEPS; step++) await scheduler.ask.step(step, LAST);
  expect(await bitsOf({ ...run, scheduler })).toEqual(expected);
});

test("a device is gone as well: others have copies, and take its place", async () => {
  const expected = await undisturbed(PIPED);
  const run = await led(PIPED);
  for (let step = 0; step < 3; step++) await run.scheduler.ask.step(step, LAST);
  // Everything of the last step is with others once another point is complete.
  while (!(await run.journal.read()).records.some((each) => each.kind === "point" && each.step === 2)) {
    await Bun.sleep(1);
  }
  await run.hosts[1]!.close();
  const { scheduler, taken } = await successor(run, [0, 2]);
  expect(taken).toMatchObject({ step: 2, fromCheckpoint: false });
  expect(taken.plan.stages.flatMap(({ members }) => members.map(({ device }) => device)).sort()).toHaveLength(
    3,
  );
  for (let step = 3; step < STEPS; step++) await scheduler.ask.step(step, LAST);
  expect(await bitsOf({ ...run, scheduler })).toEqual(expected);
});

test("a device was gone and is there again: it is not left out, and a plan with it is looked for", async () => {
  const run = await led(PIPED);
  await run.scheduler.ask.step(0, LAST);
  await run.hosts[1]!.close();
  for (let step = 1; step < 3; step++) await run.scheduler.ask.step(step, LAST);
  const left = (plan: Plan) => plan.devices.find(({ name }) => name === "device-1");
  expect(left(run.told[0]!.plan)).toMatchObject({ used: false, reason: "left out: it is gone" });
  const host = new NodeRuntime({
    ...{ name: "device-1", transports: [memory(run.network)], log: () => {} },
    actors: { Device, Stage },
  });
  cleanups.push(host);
  await host.listen("memory://host-1");
  await host.spawn(Device, ["device-1", "reference"], { name: "device-1" });
  const considered: Replanning[] = [];
  const { scheduler, taken } = await successor(run, [0, 1, 2], {
    considered: (each) => void considered.push(each),
  });
  expect(left(taken.plan)).toMatchObject({ id: "1", used: false, reason: "left out so far: it was gone" });
  // Devices are measured while it goes on.
  for (let step = taken.step + 1; considered.length === 0; step++) await scheduler.ask.step(step, 100_000);
  expect(considered[0]!.cause).toBe("joined");
  expect(considered[0]!.oldStepMs).toBeNumber();
});

test("two are gone, with copies of each other: it goes back to the checkpoint", async () => {
  const expected = await undisturbed(PIPED);
  const run = await led(PIPED);
  for (let step = 0; step < 3; step++) await run.scheduler.ask.step(step, LAST);
  await Promise.all([run.hosts[0]!.close(), run.hosts[1]!.close()]);
  const { scheduler, taken } = await successor(run, [2]);
  expect(taken).toMatchObject({ step: -1, fromCheckpoint: true, movedBytes: 0 });
  for (let step = 0; step < STEPS; step++) await scheduler.ask.step(step, LAST);
  expect(await bitsOf({ ...run, scheduler })).toEqual(expected);
});
