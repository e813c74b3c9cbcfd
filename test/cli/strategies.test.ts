/** Plans on the command line: made, looked at, carried out; and what is said of results that are not one device's. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readCheckpoint } from "../../actors/checkpoint.ts";
import { readPlan } from "../../actors/scheduler/plan-json.ts";
import { caveats, planTable, planTitle } from "../../cli/plan-words.ts";
import { gptModel } from "../../nn/models/gpt.ts";
import { files } from "../../runtime/platform/files.ts";
import { type HandPlan, planOf } from "../actors/plans.ts";
import { TINY, troupe } from "./troupe.ts";

let folder: string;
const at = (name: string) => join(folder, name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "troupe-strategies-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function good(...args: readonly string[]) {
  const { code, out, err, events, left } = await troupe(...args);
  expect([code, left], err).toEqual([0, []]);
  return { out, err, events };
}

async function parameters(run: string) {
  return (await readCheckpoint(files, at(`${run}/checkpoint`))).parameters;
}

test("a plan is printed, kept, and carried out to the weights of one device", async () => {
  const devices = ["--devices", "2"];
  const made = await good(
    ...["plan", ...TINY, ...devices, "--strategy", "data"],
    ...["--out", at("plan.json"), "--trace", at("trace.json")],
  );
  expect(made.out).toMatch(/^data on 2 devices, 4 micro-batches\n/);
  expect(made.out).toMatch(/device +segments +share +parameters +micro-batch +memory +copies +reason\n/);
  expect(made.out).toMatch(/device-1 .* data \d of 4 .* of 4 micro-batches/);
  expect(made.out).toMatch(/predicted: [\d.]+ ms a step/);
  const plan = readPlan(readFileSync(at("plan.json"), "utf8"));
  expect(plan.strategy).toBe("data");
  expect(JSON.parse(readFileSync(at("trace.json"), "utf8")).traceEvents.length).toBeGreaterThan(0);

  // Not adamw: of gradients that are nothing but rounding it makes steps.
  const steps = ["--steps", "2", "--sample", "0", "--json", "--optimizer", "sgd"];
  const carried = await good(
    ...["train", ...TINY, ...steps, ...devices, "--plan", at("plan.json"), "--out", at("data")],
  );
  expect(carried.events.find(({ event }) => event === "plan")!.plan).toEqual(plan);
  const { energy } = carried.events.at(-1)!;
  expect(energy.joules_per_step).toBeGreaterThan(0);
  expect(energy.what).toHaveLength(1); // One machine.

  await good("train", ...TINY, ...steps, "--strategy", "single", "--out", at("single"));
  const [data, single] = [await parameters("data"), await parameters("single")];
  expect(single.size).toBeGreaterThan(10);
  for (const [name, tensor] of single) {
    if (name.endsWith("attn.k.bias")) continue; // Softmax takes it away: nothing but rounding moves it.
    const [expected, given] = [tensor.f32(), data.get(name)!.f32()];
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const off = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - given[i]!)), 0);
    expect(off, name).toBeLessThanOrEqual(1e-5 * largest);
  }
}, 180_000);

test("a plan that is not for these devices ends the run, and leaves nothing", async () => {
  await good("plan", ...TINY, "--devices", "2", "--strategy", "pipeline", "--out", at("plan.json"));
  const plan = readFileSync(at("plan.json"), "utf8");
  writeFileSync(at("plan.json"), plan.replaceAll('"1"', '"7"'));
  const { code, err, left } = await troupe(
    ...["train", ...TINY, "--json", "--devices", "2", "--plan", at("plan.json"), "--out", at("run")],
  );
  expect(err).toMatch(
    /^troupe: stage 1 of the plan is on device "7" \(device-2\), which is not there: [^\n]+\n$/,
  );
  expect([code, left]).toEqual([1, []]);
  expect(existsSync(at("run/checkpoint/state.json"))).toBe(false);
}, 180_000);

describe("in words", () => {
  const model = gptModel({ layers: 1, width: 16, heads: 2, context: 8, vocabulary: 256 }, 1);
  const plan = (given: Omit<HandPlan, "microBatches">) => planOf(model, { ...given, microBatches: 4 });
  const dealt = [[0, 1, 2], [3]];

  test("what a plan is", () => {
    const title = (
      given: Omit<HandPlan, "microBatches">,
      strategy: "data" | "pipeline" | "hybrid" | "local",
    ) => planTitle({ ...plan(given), strategy });
    expect(title({ stages: [{ to: [4] }] }, "data")).toBe("single device");
    expect(title({ stages: [{ to: [4], sharing: "data", members: dealt }] }, "data")).toBe(
      "data on 2 devices",
    );
    expect(title({ stages: [{ to: [2] }, { to: [4] }], schedule: "gpipe" }, "pipeline")).toBe(
      "pipeline of 2, gpipe",
    );
    expect(title({ stages: [{ to: [2], sharing: "tensor", members: 2 }, { to: [4] }] }, "hybrid")).toBe(
      "hybrid of 2 stages on 3 devices, 1f1b",
    );
    const local = { stages: [{ to: [4], sharing: "local" as const, members: dealt }], localSteps: 5 };
    expect(title(local, "local")).toBe("local on 2 devices, meeting every 5 steps");
  });

  test("results that are not one device's", () => {
    const not = /; the result is not that of one device$/;
    expect(caveats(plan({ stages: [{ to: [2] }, { to: [4] }] }))).toEqual([]);
    const stages = [{ to: [2] }, { to: [4] }];
    expect(caveats(plan({ stages, schedule: "pipedream" }))[0]).toMatch(not);
    expect(caveats(plan({ stages: [{ to: [4], sharing: "local", members: dealt }] }))[0]).toMatch(not);
    const codecs = { activations: "f16", gradients: "int8" };
    expect(caveats(plan({ stages, codecs }))).toEqual([
      "on the wire: activations as f16, gradients as int8; the result is not that of one device",
    ]);
  });

  test("who has what", () => {
    const stages: HandPlan["stages"] = [
      { to: [2], sharing: "data", members: dealt, shares: [3, 1] },
      { to: [3], sharing: "tensor", members: 2, shares: [3, 1] },
      { to: [4] },
    ];
    const given = plan({ stages });
    const devices = [{ id: "x", name: "idle", used: false, reason: "left out" }, ...given.devices];
    const { columns, rows, more } = planTable({ ...given, devices }, { most: 5 });
    expect(columns.map(({ title }) => title).slice(0, 4)).toEqual(["device", "stage", "segments", "share"]);
    expect(rows.map((row) => row.slice(0, 4))).toEqual([
      ["device-0", "1", "0-1", "data 3 of 4"],
      ["device-1", "1", "0-1", "data 1 of 4"],
      ["device-2", "2", "2", "tensor 75 %"],
      ["device-3", "2", "2", "tensor 25 %"],
      ["device-4", "3", "3", "all"],
    ]);
    expect(more).toBe(1);
  });
});
