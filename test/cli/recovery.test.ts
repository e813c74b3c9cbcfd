/**
 * Runs over real processes whose devices are killed, stopped or cut off: they go on, tell of it, and end with the weights of
 * a run that was spared.
 */

import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readCheckpoint } from "../../actors/checkpoint.ts";
import { files } from "../../runtime/platform/files.ts";
import { type Event, TINY, Troupe } from "./troupe.ts";

const STEPS = 8;
const RUN = ["--devices", "4", "--layers", "2", "--steps", `${STEPS}`, "--seed", "7", "--sample", "0"];

let folder: string;
let running: Troupe[] = [];
let runs = 0;
/** By strategy, a run that was spared. */
const spared = new Map<string, Promise<Ended>>();

interface Ended {
  readonly events: readonly Event[];
  readonly done: Event;
  readonly err: string;
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "troupe-recovery-"));
});
afterEach(() => {
  for (const each of running) each.destroy();
  running = [];
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function start(...args: readonly string[]): Troupe {
  const each = new Troupe([
    "train",
    "--json",
    ...TINY.slice(2),
    ...RUN,
    "--out",
    join(folder, `${runs++}`),
    ...args,
  ]);
  running.push(each);
  return each;
}

/** Runs to a good end. */
async function train(...args: readonly string[]): Promise<Ended> {
  const each = start(...args);
  const { code, err, events } = await each.ended();
  expect([code, err, each.living()]).toEqual([0, "", []]);
  return { events, done: events.at(-1)!, err };
}

function undisturbed(strategy: string): Promise<Ended> {
  const known = spared.get(strategy) ?? train("--strategy", strategy);
  spared.set(strategy, known);
  return known;
}

const named = (events: readonly Event[], name: string) => events.filter(({ event }) => event === name);

test.each([
  ["at the beginning of a step", "kill device-2 at step 5", ["device-2"]],
  [
    "in the middle of a micro-batch's way back",
    "kill device-3 at step 4 micro-batch 2 backward",
    ["device-3"],
  ],
  ["at a commit", "kill device-1 at step 4 commit", ["device-1"]],
  ["one after the other", "kill device-2 at step 3; kill device-4 at step 6", ["device-2", "device-4"]],
])(
  "devices that are killed %s",
  async (_, faults, lost) => {
    const { done: expected } = await undisturbed("pipeline");
    const { events, done } = await train("--strategy", "pipeline", "--chaos", faults);
    expect(done.weights_sha256).toBe(expected.weights_sha256);
    expect(named(events, "step").map(({ step }) => step)).toEqual(
      Array.from({ length: STEPS }, (_, i) => i + 1),
    );
    expect(named(events, "device_left").map(({ name, reason }) => [name, reason])).toEqual(
      lost.map((name) => [name, "its process ended with SIGKILL"]),
    );
    const recovered = named(events, "recovered");
    expect(recovered.map((event) => event.lost)).toEqual(lost.map((name) => [name]));
    for (const event of recovered) {
      expect(event).toMatchObject({ from_checkpoint: false });
      expect(event.steps_lost).toBeWithin(0, 3);
      expect(event.resume_ms).toBeGreaterThan(0);
      const left = events.findIndex(
        ({ name, event: what }) => what === "device_left" && name === event.lost[0],
      );
      expect(left).toBeLessThan(events.indexOf(event));
    }
    expect(done.devices_lost).toEqual(lost);
    expect(done.devices).toHaveLength(4 - lost.length);
  },
  60_000,
);

test("one of those who share the data is killed: weights are within 1e-5", async () => {
  const { done: expected } = await undisturbed("data");
  const { events, done } = await train("--strategy", "data", "--chaos", "kill device-2 at step 5");
  expect(named(events, "recovered")).toHaveLength(1);
  const [whole, own] = await Promise.all(
    [expected, done].map(({ checkpoint }) => readCheckpoint(files, checkpoint)),
  );
  for (const [name, tensor] of whole!.parameters) {
    const [a, b] = [tensor.f32(), own!.parameters.get(name)!.f32()];
    expect(Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))).toBeLessThan(1e-5);
  }
}, 60_000);

test.each([
  ["stopped", "stop device-2 at step 4"],
  ["cut off", "cut device-2 at step 4"],
])(
  "a device that is %s is given up when it has been silent for the patience",
  async (_, fault) => {
    const { done: expected } = await undisturbed("pipeline");
    const { events, done } = await train("--strategy", "pipeline", "--patience", "1500", "--chaos", fault);
    expect(done.weights_sha256).toBe(expected.weights_sha256);
    const [left] = named(events, "device_left");
    expect(left).toMatchObject({
      name: "device-2",
      reason: expect.stringMatching(/^it has been silent for \d+ ms$/),
    });
    const [recovered] = named(events, "recovered");
    expect(recovered!.detect_ms).toBeWithin(750, 30_000);
  },
  60_000,
);

test("a slow device is not a dead one", async () => {
  const { done: expected } = await undisturbed("pipeline");
  const { events, done } = await train("--strategy", "pipeline", "--chaos", "slow device-1 3x at step 2");
  expect(done.weights_sha256).toBe(expected.weights_sha256);
  expect(named(events, "device_left")).toEqual([]);
}, 60_000);

test("people are told who left, what it cost and who does what now", async () => {
  const each = new Troupe([
    ...["train", ...TINY.slice(2), ...RUN, "--out", join(folder, `${runs++}`)],
    ...["--chaos", "kill device-2 at step 5"],
  ]);
  running.push(each);
  const { code, err } = await each.ended();
  expect(code).toBe(0);
  expect(err).toMatch(/^ {2}device-2 left: its process ended with SIGKILL$/m);
  expect(err).toMatch(
    /^ {2}went on without device-2: noticed in \d+ ms, next step [\d.]+ m?s later, (no step|1 step|2 steps) done again, [\d.]+ [kM]?B moved$/m,
  );
  expect(err).toMatch(/^ {2}now pipeline of 4, 1f1b: .*device-\d stages \d and \d/m);
  expect(err).toMatch(/^ {2}ended on 3 of 4 devices, without device-2$/m);
}, 60_000);

test("nobody is left: one line says so, with the way to go on", async () => {
  const all = [1, 2, 3, 4].map((i) => `kill device-${i} at step 5`).join(";");
  const each = start("--checkpoint-every", "2", "--chaos", all);
  const { code, err, events } = await each.ended();
  expect([code, each.living()]).toEqual([1, []]);
  expect(err).toMatch(
    /^troupe: device-\d is gone: its process ended with SIGKILL, and nobody is left; the last checkpoint is \S+, go on with: npx bun run train --resume [^\n]+\n$/,
  );
  expect(named(events, "device_left")).toHaveLength(4);
}, 60_000);

test("a node that was not started for it is not broken by others", async () => {
  const node = new Troupe(["node", "--json", "--listen", "tcp://127.0.0.1:0", "--name", "desk"]);
  running.push(node);
  const { address } = await node.until(({ event }) => event === "listening");
  const run = (faults: string) => {
    const args = [
      ...TINY,
      "--join",
      address,
      "--steps",
      "2",
      "--chaos",
      faults,
      "--out",
      join(folder, `${runs++}`),
    ];
    const each = new Troupe(["train", ...args]);
    running.push(each);
    return each.ended();
  };
  const unknown = await run("kill disk at step 1");
  expect([unknown.code, unknown.err]).toEqual([
    2,
    expect.stringMatching(/troupe: --chaos: there is no device "disk"; the nearest is desk, all are desk\n$/),
  ]);
  const refused = await run("kill desk at step 1");
  expect([refused.code, refused.err]).toEqual([
    1,
    expect.stringMatching(/troupe: desk was not started to be broken: start it with troupe node --chaos\n$/),
  ]);
}, 60_000);
