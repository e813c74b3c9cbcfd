/** Checkpoints as the user of `troupe train` meets them: kept, damaged, killed in the middle, and far away. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readCheckpoint } from "../../actors/checkpoint.ts";
import { files } from "../../runtime/platform/files.ts";
import { S3Server } from "../actors/checkpoint/s3-server.ts";
import { type Event, TINY, Troupe } from "./troupe.ts";

let folder: string;
let running: Troupe[];
const at = (name: string) => join(folder, name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "troupe-checkpoints-"));
  running = [];
});

afterEach(() => {
  for (const each of running) each.destroy();
  rmSync(folder, { recursive: true, force: true });
});

function start(...args: readonly string[]): Troupe {
  const each = new Troupe(["train", "--json", "--sample", "0", ...args]);
  running.push(each);
  return each;
}

async function ended(...args: readonly string[]): Promise<{ code: number; err: string; events: Event[] }> {
  return start(...args).ended();
}

const ALONE = [...TINY, "--strategy", "single"];

test("the newest of those that are kept is damaged: a run goes on from the one before it, and says so", async () => {
  const often = ["--checkpoint-every", "2"];
  const first = await ended(
    ...ALONE,
    ...often,
    "--keep-checkpoints",
    "2",
    "--steps",
    "6",
    "--out",
    at("run"),
  );
  expect([first.code, first.err]).toEqual([0, ""]);
  const left = readdirSync(at("run")).filter((name) => name.startsWith("checkpoint"));
  expect(left.sort()).toEqual(["checkpoint", "checkpoint.step-4"]);
  truncateSync(at("run/checkpoint/model.safetensors"), 1000);
  const second = await ended("--resume", at("run"), "--strategy", "single", "--steps", "8", ...often);
  expect([second.code, second.err]).toEqual([0, ""]);
  expect(second.events[0]).toEqual({
    event: "checkpoint_damaged",
    path: at("run/checkpoint"),
    why: expect.stringContaining("model.safetensors is truncated or was changed"),
    used: at("run/checkpoint.step-4"),
    step: 4,
  });
  expect(second.events.find(({ event }) => event === "step")?.step).toBe(5);
  expect((await readCheckpoint(files, at("run/checkpoint"))).step).toBe(8);
  // So many are kept as before.
  expect((await readCheckpoint(files, at("run/checkpoint.step-6"))).step).toBe(6);
}, 180_000);

test("a process that is killed in the middle of a checkpoint leaves the one before it, which is gone on from", async () => {
  const place = at("kept");
  const run = start(
    ...ALONE,
    "--steps",
    "100000",
    "--checkpoint-every",
    "1",
    "--checkpoint",
    place,
    "--out",
    at("a"),
  );
  await run.until(({ event }) => event === "checkpoint");
  const isWriting = () => {
    try {
      return readdirSync(`${place}.partial`).length > 1;
    } catch {
      return false;
    }
  };
  while (!isWriting()) await Bun.sleep(0);
  run.process.kill("SIGKILL");
  await run.allGone();
  const { step } = await readCheckpoint(files, place);
  expect(step).toBeGreaterThan(0);
  const settings = ["--steps", `${step + 1}`, "--checkpoint", place, "--out", at("b")];
  const resumed = await ended("--resume", place, "--strategy", "single", ...settings);
  expect([resumed.code, resumed.err]).toEqual([0, ""]);
  expect((await readCheckpoint(files, place)).step).toBe(step + 1);
  expect(existsSync(`${place}.partial`)).toBe(false);
}, 180_000);

test("checkpoints go to a store like S3 and come from there", async () => {
  const server = new S3Server().open();
  try {
    const place = "s3://mine/runs/first";
    const settings = ["--checkpoint", place, "--checkpoint-every", "2"];
    const first = await ended(...ALONE, ...settings, "--steps", "4", "--out", at("a"));
    expect([first.code, first.err]).toEqual([0, ""]);
    expect(first.events.at(-1)).toMatchObject({ event: "done", checkpoint: place });
    expect([...server.objects.keys()]).toContain("mine/runs/first/step-4/state.json");
    const again = await ended(
      "--resume",
      place,
      "--strategy",
      "single",
      ...settings,
      "--steps",
      "6",
      "--out",
      at("c"),
    );
    expect([again.code, again.err]).toEqual([0, ""]);
    expect(again.events.find(({ event }) => event === "step")?.step).toBe(5);
    const other = await ended(...ALONE, ...settings, "--out", at("b"));
    expect(other.code).not.toBe(0);
    expect(other.err).toBe(
      `troupe: ${place} has checkpoints of another run: choose another place, or go on with --resume ${place}\n`,
    );
  } finally {
    await server.close();
  }
}, 180_000);
