/** What a coordinator that was held up may still do to the checkpoints of a run that another one leads: nothing. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openStore } from "../../../actors/checkpoint/store.ts";
import { CheckpointWriter, type Draft } from "../../../actors/checkpoint/writer.ts";
import { readCheckpoint } from "../../../actors/checkpoint.ts";
import { LeaderLease } from "../../../actors/journal/leader-lease.ts";
import { LedJournal } from "../../../actors/journal/led.ts";
import { MemoryJournal } from "../../../actors/journal/memory.ts";
import { RunJournal } from "../../../actors/journal/run-journal.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { VirtualClock } from "../../../runtime/index.ts";
import { files } from "../../../runtime/platform/files.ts";
import { LeaseServer } from "../journal/lease-server.ts";
import { S3Server } from "./s3-server.ts";

const TTL_MS = 1000;

let root = "";
let server: S3Server;
let leases: LeaderLease[] = [];
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "troupe-fencing-"));
  server = new S3Server().open();
});
afterEach(async () => {
  for (const lease of leases) await lease.release();
  leases = [];
  await server.close();
  await rm(root, { recursive: true, force: true });
});

const draft = (step: number, by = 1): Draft => ({
  ...{ step, seed: 7, model: {}, training: {} },
  shards: [{ model: ["w"], optimizer: ["m.w"] }],
  values: async () => ({ w: Tensor.f32([2], [step, by]), "m.w": Tensor.f32([1], [0]) }),
  onnx: async () => null,
});

/** A run's journal in memory, led by whoever takes the lease; each has a clock that stands still while it is held up. */
function coordinators(place: string) {
  const [register, journal] = [new LeaseServer(), new MemoryJournal()];
  return async (id: string, clock: VirtualClock, from = 0) => {
    const taken = LeaderLease.take(
      { register: register.line(), clock, ttlMs: TTL_MS, holder: id, id, tell: () => {} },
      () => {},
    );
    await clock.advance(3 * TTL_MS);
    const lease = await taken;
    leases.push(lease);
    const run = await RunJournal.begin(new LedJournal(journal, lease), "run", {}, lease.epoch);
    const store = openStore(files, place, run.epoch);
    return { run, store, writer: new CheckpointWriter(store, { keep: 2, from, held: () => run.held() }) };
  };
}

describe.each(["in a folder", "in a bucket"])("%s", (where) => {
  const inBucket = where === "in a bucket";
  const placeOf = () => (inBucket ? "s3://mine/run" : join(root, "checkpoint"));
  const steps = async () => {
    const found: number[] = [];
    for (const { path } of await openStore(files, placeOf()).list()) {
      found.push((await readCheckpoint(files, path)).step);
    }
    return found;
  };
  const everything = async () =>
    inBucket ? [...server.objects.keys()].sort() : (await readdir(root, { recursive: true })).sort();

  test("what it was writing is never completed, and nothing is removed, by its own clock", async () => {
    const lead = coordinators(placeOf());
    const [stopped, clock] = [new VirtualClock(), new VirtualClock()];
    const old = await lead("a", stopped);
    await old.writer.write(draft(4));
    // It is stopped behind the last shard.
    const { promise: goesOn, resolve: goOn } = Promise.withResolvers<null>();
    const inIt = Promise.withResolvers<void>();
    let settled = false;
    const settle = () => {
      settled = true;
    };
    const onnx = () => {
      inIt.resolve();
      return goesOn;
    };
    old.writer.write({ ...draft(8), onnx }).then(settle, settle);
    await inIt.promise;

    const next = await lead("b", clock, 4);
    expect(next.run.epoch).toBeGreaterThan(old.run.epoch);
    await next.writer.write(draft(6));
    expect(await steps()).toEqual([6, 4]);
    const before = await everything();
    await stopped.advance(TTL_MS);
    goOn(null);
    for (let turn = 0; turn < 20; turn++) await Bun.sleep(1);
    expect(settled).toBe(false);
    expect(await everything()).toEqual(before);
    await next.writer.write(draft(8));
    expect(await steps()).toEqual([8, 6]);
    expect((await everything()).filter((name) => name.includes("partial"))).toEqual([]);
  });

  test("the place refuses it as well, whatever its clock says", async () => {
    const place = placeOf();
    const old = openStore(files, place, 3);
    await new CheckpointWriter(old).write(draft(5));
    await old.begin(6);
    await old.write("model.safetensors", (async function* () {})());
    const next = openStore(files, place, 8);
    await new CheckpointWriter(next, { keep: 2, from: 5 }).write(draft(6, 2));
    const [newest] = await next.list();
    const before = await everything();
    const tried = [
      () => old.begin(7),
      () => old.complete("state.json", new Uint8Array(1)),
      () => old.remove(newest!.path),
      () => new CheckpointWriter(old).write(draft(6)),
    ];
    for (const each of tried) {
      expect(await each().catch((error) => error)).toMatchObject({
        code: "DEPOSED",
        message: expect.stringContaining(place),
      });
    }
    expect(await everything()).toEqual(before);
    const found = await readCheckpoint(files, place);
    expect([found.step, ...found.parameters.get("w")!.f32()]).toEqual([6, 6, 2]);
    // Who leads a run that nobody else may lead tidies up behind all of them.
    await new CheckpointWriter(openStore(files, place), { from: 6 }).write(draft(9));
    expect(await steps()).toEqual([9]);
  });
});

test("of two checkpoints of a step in a bucket, the one of the later epoch counts, whichever was there last", async () => {
  const place = "s3://mine/run";
  await new CheckpointWriter(openStore(files, place, 8)).write(draft(6, 2));
  const later = new Map(server.objects);
  server.objects.clear();
  await new CheckpointWriter(openStore(files, place, 3)).write(draft(6, 1));
  for (const [key, bytes] of later) server.objects.set(key, bytes);
  expect((await openStore(files, place).list()).map(({ path }) => path)).toEqual([
    `${place}/step-6.epoch-8`,
    `${place}/step-6.epoch-3`,
  ]);
  expect([...(await readCheckpoint(files, place)).parameters.get("w")!.f32()]).toEqual([6, 2]);
  await new CheckpointWriter(openStore(files, place, 8), { keep: 3, from: 6 }).write(draft(7));
  expect((await openStore(files, place).list()).map(({ path }) => path)).toEqual([
    `${place}/step-7.epoch-8`,
    `${place}/step-6.epoch-8`,
  ]);
});
