/**
 * Runs over real processes whose devices are killed, stopped, cut off or slow: they go on, tell of it, and end with the
 * weights of a run that was spared.
 */

import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readCheckpoint } from "../../actors/checkpoint.ts";
import { takeover } from "../../actors/recovery/takeover.ts";
import { textReport } from "../../cli/text-report.ts";
import { gptModel } from "../../nn/models/gpt.ts";
import { files } from "../../runtime/platform/files.ts";
import { planOf } from "../actors/plans.ts";
import { type Event, TINY, Troupe } from "./troupe.ts";

const STEPS = 6;
const RUN = ["--layers", "2", "--steps", `${STEPS}`, "--seed", "7", "--sample", "0"];

let folder: string;
let running: Troupe[] = [];
let runs = 0;
/** Of a run that was spared. */
let spared: Ended;

interface Ended {
  readonly events: readonly Event[];
  readonly done: Event;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "troupe-recovery-"));
  spared = await train("--devices", "4");
}, 180_000);
afterEach(() => {
  for (const each of running) each.destroy();
  running = [];
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function start(...args: readonly string[]): Troupe {
  const each = new Troupe(["train", "--json", ...TINY.slice(2), ...args, "--out", join(folder, `${runs++}`)]);
  running.push(each);
  return each;
}

/** Runs to a good end. */
async function train(...args: readonly string[]): Promise<Ended> {
  const each = start(...RUN, ...args);
  const { code, err, events } = await each.ended();
  expect([code, err, each.living()]).toEqual([0, "", []]);
  return { events, done: events.at(-1)! };
}

const named = (events: readonly Event[], name: string) => events.filter(({ event }) => event === name);

test("devices are killed, in a micro-batch's way back and at a commit: the weights are the same to the bit", async () => {
  const faults = "kill device-3 at step 3 micro-batch 2 backward; kill device-1 at step 5 commit";
  const { events, done } = await train("--devices", "4", "--chaos", faults);
  expect(done.weights_sha256).toBe(spared.done.weights_sha256);
  const losses = (of: Ended) => named(of.events, "step").map(({ step, loss }) => [step, loss]);
  expect(losses({ events, done })).toEqual(losses(spared));

  expect(named(events, "device_left").map(({ name, reason }) => [name, reason])).toEqual([
    ["device-3", "its process ended with SIGKILL"],
    ["device-1", "its process ended with SIGKILL"],
  ]);
  const recovered = named(events, "recovered");
  expect(recovered.map(({ lost }) => lost)).toEqual([["device-3"], ["device-1"]]);
  for (const event of recovered) {
    expect(event.from_checkpoint).toBe(false);
    expect(event.steps_lost).toBeWithin(0, 3);
    expect(event.resume_ms).toBeGreaterThan(0);
    const left = events.findIndex(
      ({ name, event: what }) => what === "device_left" && name === event.lost[0],
    );
    expect(left).toBeLessThan(events.indexOf(event));
  }
  expect(done.devices_lost).toEqual(["device-1", "device-3"]);
  expect(done.devices.map(({ name }: { name: string }) => name)).toEqual(["device-2", "device-4"]);
}, 180_000);

test("one is stopped, another cut off, a third is slow: two are given up after the patience, the third is not", async () => {
  const faults = ["slow device-3 2x at step 2", "stop device-2 at step 3", "cut device-4 at step 5 forward"];
  const { events, done } = await train(
    ...["--devices", "4", "--patience", "1500"],
    ...faults.flatMap((fault) => ["--chaos", fault]),
  );
  expect(done.weights_sha256).toBe(spared.done.weights_sha256);
  const left = named(events, "device_left");
  expect(left.map(({ name }) => name)).toEqual(["device-2", "device-4"]);
  for (const { reason } of left) expect(reason).toMatch(/^it has been silent for \d+ ms$/);
  expect(named(events, "recovered").map(({ lost }) => lost)).toEqual([["device-2"], ["device-4"]]);
}, 180_000);

test("one of those who share the data is killed: weights are within 1e-5", async () => {
  const shared = ["--devices", "2", "--strategy", "data"];
  const ends: Ended[] = [];
  for (const faults of [[], ["--chaos", "kill device-2 at step 4"]])
    ends.push(await train(...shared, ...faults));
  expect(named(ends[1]!.events, "recovered")).toHaveLength(1);
  const [whole, own] = await Promise.all(
    ends.map(async ({ done }) => (await readCheckpoint(files, done.checkpoint)).parameters),
  );
  for (const [name, tensor] of whole!) {
    // What is added to all keys changes no attention: its gradient is rounding alone, which AdamW makes whole steps of.
    if (name.endsWith(".attn.k.bias")) continue;
    const [a, b] = [tensor.f32(), own!.get(name)!.f32()];
    expect(Math.max(...a.map((value, i) => Math.abs(value - b[i]!)))).toBeLessThan(1e-5);
  }
}, 180_000);

test("nobody is left: one line says so, with the way to go on", async () => {
  const two = ["--devices", "2", "--steps", "20", "--checkpoint-every", "2"];
  // That another fault would pass does not bring back whom these have come over.
  const kills = "kill device-1 at step 6; kill device-2 at step 6; stop device-1 at step 19 for 1s";
  const each = start(...two, "--chaos", kills);
  const { code, err, events } = await each.ended();
  expect([code, each.living()]).toEqual([1, []]);
  expect(err).toMatch(
    /^troupe: device-\d is gone: its process ended with SIGKILL, and nobody is left; the last checkpoint is \S+, go on with: npx bun run train --resume [^\n]+\n$/,
  );
  expect(named(events, "device_left")).toHaveLength(2);
}, 180_000);

test("a node that was not started for it is not broken by others", async () => {
  const node = new Troupe(["node", "--json", "--listen", "tcp://127.0.0.1:0", "--name", "desk"]);
  running.push(node);
  const { address } = await node.until(({ event }) => event === "listening");
  const each = start("--layers", "1", "--join", address, "--steps", "2", "--chaos", "kill desk at step 1");
  const { code, err } = await each.ended();
  expect([code, err]).toEqual([
    1,
    "troupe: desk was not started to be broken: start it with troupe node --chaos\n",
  ]);
}, 180_000);

test("people are told who left, what it cost, who does what now, and who is missing at the end", () => {
  const model = gptModel({ layers: 2, width: 8, heads: 2, context: 8, vocabulary: 256 }, 2);
  const by = planOf(model, { microBatches: 4, stages: [2, 3, 6].map((to) => ({ to: [to] })) });
  const plan = { ...by, strategy: "pipeline" } as const;
  const left = ["0", "2"].map((id) => ({ id, name: `device-${id}` }));
  let said = "";
  const terminal = { terminal: false, colours: false, columns: () => 80 };
  const report = textReport(
    { ...terminal, write: () => {} },
    {
      ...terminal,
      write: (text) => {
        said += text;
      },
    },
    { steps: STEPS, out: "runs/1" },
  );
  const about = { unit: "bytes", data: "a book", data_bytes: null };
  report.show({ event: "plan", plan, parameters: 1, frozen_bytes: 0, ...about });
  said = "";
  report.show({ event: "device_left", name: "device-1", reason: "its process ended with SIGKILL" });
  const next = takeover(plan, new Set(["1"]), left, () => ["2"])!;
  const moved = { ready_ms: 10, kept_every: 1, operations_replayed: 49, moved_bytes: 1_500_000 };
  const recovered = { event: "recovered", lost: ["device-1"], ...moved, plan: next } as const;
  report.show({ ...recovered, detect_ms: 12, resume_ms: 1234, steps_lost: 1, from_checkpoint: false });
  expect(said.split("\n")).toEqual([
    "  device-1 left: its process ended with SIGKILL",
    "  went on without device-1: noticed in 12 ms, next step 1.2 s later, 1 step done again, 1.5 MB moved",
    "  now pipeline of 3, 1f1b: device-0 stage 1, device-2 stages 2 and 3",
    "",
  ]);
  said = "";
  report.show({ ...recovered, detect_ms: 12, resume_ms: 345, steps_lost: 20, from_checkpoint: true });
  expect(said).toContain("20 steps done again from the beginning, for copies are lost");
  said = "";
  const ofNobody = { lost: [], why: "devices have lost each other: the cable is cut" };
  report.show({
    ...{ ...recovered, ...ofNobody },
    ...{ detect_ms: 0, resume_ms: 30, steps_lost: 0, from_checkpoint: false },
  });
  const cause = { cause: "lost", old_step_ms: 50, new_step_ms: 30, plan_ms: 4 } as const;
  report.show({
    event: "replanned",
    ...cause,
    why: "it is better",
    moved_bytes: 512,
    prepared_ms: 900,
    move_ms: 40,
    plan: next,
  });
  report.show({ event: "paused", reason: "device-0 gone: no device is left" });
  expect(said.split("\n").filter((_, i) => i !== 2)).toEqual([
    "  devices have lost each other: the cable is cut",
    "  went on behind that: noticed in 0 ms, next step 30 ms later, no step done again, 1.5 MB moved",
    "  another plan: it is better",
    "  512 B moved in 40 ms, made ready for 900 ms before",
    "  now pipeline of 3, 1f1b: device-0 stage 1, device-2 stages 2 and 3",
    "  waits for a device: device-0 gone: no device is left",
    "",
  ]);
  const stage = { kernelMs: 30, copyMs: 0, waitMs: 10, reduceMs: 0, totalMs: 40, spans: [] };
  const step = { event: "step", step: 1, loss: 1, grad_norm: 1, learning_rate: 1, step_ms: 40 } as const;
  report.show({ ...step, tokens_per_s: 1, stages: [stage, { ...stage, kernelMs: 10 }, stage] });
  said = "";
  report.show({
    ...{ event: "done", steps: STEPS, final_loss: 1, validation_loss: 1, loss_unit: "nats per byte" },
    ...{ tokens_per_s: 1, weights_sha256: "0", checkpoint: "runs/1/checkpoint", energy: null },
    devices: left.map((device) => ({ ...device, peak_bytes: 0, tensor_bytes: 0 })),
    devices_lost: ["device-1"],
    copies: { points: 7, every: 3, bytes: 12_000_000, cost: 0.031 },
  });
  expect(said).toMatch(/device-0 +75 %/);
  expect(said).toMatch(/device-2 +50 %/);
  expect(said).toContain("  ended on 2 of 3 devices, without device-1\n");
  expect(said).toContain(
    "  copies   after every 3 steps, 7 so far with 12.0 MB to others: 3.1 % of the time, as measured\n",
  );
});
