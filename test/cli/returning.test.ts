/** Processes of a run that are broken for a while: they are there again, and the run ends as if nothing had been. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Event, TINY, Troupe } from "./troupe.ts";

let folder: string;
const running: Troupe[] = [];

/** Weights of a run that was spared. */
let weights: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "troupe-returning-"));
  weights = (await train("spared")).at(-1)!.weights_sha256;
}, 180_000);
afterAll(() => {
  for (const each of running) each.destroy();
  rmSync(folder, { recursive: true, force: true });
});

async function train(name: string, ...args: readonly string[]): Promise<readonly Event[]> {
  const run = ["--layers", "2", "--steps", "40", "--seed", "7", "--sample", "0", "--out", join(folder, name)];
  const each = new Troupe(["train", "--json", ...TINY.slice(2), ...run, "--devices", "2", ...args]);
  running.push(each);
  const { code, err, events } = await each.ended();
  expect([code, err, each.living()]).toEqual([0, "", []]);
  return events;
}

const named = (events: readonly Event[], name: string) => events.filter(({ event }) => event === name);

const FAULTS = "kill device-1 at step 3 for 200ms; random every 9 steps seed 4 for 500ms";

test("killed, and at random: each fault is told in words, whoever is lost comes back, and the weights are the same", async () => {
  const events = await train("random", "--chaos", FAULTS);
  // By a later one its device may not be there again, or may have nothing to do.
  const faults = ["fault", "fault_missed"].flatMap((name) => named(events, name));
  expect([...new Set(faults.map(({ fault }) => fault))]).toEqual([
    "kill device-1 at step 3 for 200ms",
    "kill device-2 at step 9 backward for 500ms",
    "stop device-1 at step 18 commit for 500ms",
    "kill device-1 at step 27 backward for 500ms",
    "slow device-1 3x at step 36 for 500ms",
  ]);
  const killed = named(events, "fault").flatMap(({ fault }) => /^kill (\S+)/.exec(fault)?.[1] ?? []);
  expect(killed.slice(0, 2)).toEqual(["device-1", "device-2"]);
  expect(named(events, "device_left").map(({ name }) => name)).toEqual(killed);
  // Both at its beginning, and one at least that was there again.
  expect(named(events, "device_joined").length).toBeGreaterThanOrEqual(3);
  // Who left is told before what follows from it.
  for (const [i, { event, reason }] of events.entries()) {
    const gone = event === "paused" && /^(\S+) gone: /.exec(reason)?.[1];
    if (gone) expect(named(events.slice(0, i), "device_left").map(({ name }) => name)).toContain(gone);
  }
  expect(events.at(-1)!.weights_sha256).toBe(weights);
}, 180_000);
