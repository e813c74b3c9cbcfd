/** The strategies bench on a tiny cluster in this process: what it records, what it concludes, and that the report stands. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { splitText } from "../../../actors/data/corpus.ts";
import { TextFeed } from "../../../actors/data/text.ts";
import { Device } from "../../../actors/device.ts";
import { Stage } from "../../../actors/stage.ts";
import {
  alike,
  type Candidate,
  candidate,
  type Inputs,
  isSame,
  type StrategyName,
} from "../../../bench/strategies/candidates.ts";
import { energyRows } from "../../../bench/strategies/energy-rows.ts";
import { within } from "../../../bench/strategies/limit.ts";
import {
  RESULT_FORMAT,
  readResult,
  type ScenarioResult,
  type StrategiesResult,
} from "../../../bench/strategies/result.ts";
import { runScenario } from "../../../bench/strategies/scenario.ts";
import type { Scenario } from "../../../bench/strategies/scenarios.ts";
import { select } from "../../../bench/strategies/selection.ts";
import { summarise } from "../../../bench/strategies/summary.ts";
import { sectionsOf } from "../../../bench/strategies/tables.ts";
import { writeReport } from "../../../bench/strategies.ts";
import { TestbedError } from "../../../bench/testbed/error.ts";
import type { BedDevice, Testbed } from "../../../bench/testbed/testbed.ts";
import { gptModel } from "../../../nn/models/gpt.ts";
import { MemoryNetwork, memory, NodeRuntime, type Ref } from "../../../runtime/index.ts";

const CONFIG = { layers: 1, width: 8, heads: 2, context: 8, vocabulary: 256 };
const ROWS = 2;
const TEXT = new TextEncoder().encode("the quick brown fox jumps over the lazy dog. ".repeat(40));
const line = { megabits: 100, latencyMs: 0 };

const SCENARIO: Scenario = {
  name: "tiny",
  about: "two <devices> in one process",
  devices: [
    { name: "one", class: "jetson-nano", line },
    { name: "two", class: "raspberry-pi-4", line },
  ],
  model: "gpt",
  memoryScale: 1,
};

const MODEL = {
  ...({ name: "gpt", about: "a tiny GPT", kind: "transformer", batch: 2 * ROWS, microBatches: 2 } as const),
  open: async (seed: number) => ({
    model: gptModel(CONFIG, ROWS),
    feed: new TextFeed(splitText({ name: "foxes", bytes: TEXT }, CONFIG.context), {
      ...{ seed, context: CONFIG.context, rows: ROWS },
    }),
  }),
};

let opened = 0;

/** As a testbed, without emulating anything. `fails` is what a run ends with, once. */
async function openBed(fails?: Error): Promise<Testbed> {
  opened++;
  let failure = fails;
  const network = new MemoryNetwork();
  const create = (name: string) =>
    new NodeRuntime({ name, transports: [memory(network)], actors: { Device, Stage }, log: () => {} });
  const node = create("coordinator");
  const hosts: NodeRuntime[] = [];
  const devices: BedDevice[] = [];
  for (const { name, line: wire } of SCENARIO.devices) {
    const host = create(name);
    hosts.push(host);
    await host.spawn(Device, [name, "reference", { host: name, memoryBytes: 1e8 }], { name: "device" });
    const address = await host.listen(`memory://${name}-${opened}`);
    const ref = (await node.lookup<Device>((await node.connect(address)).id, "device")) as Ref<Device>;
    const spec = { name, speed: 1, memoryBytes: 1e8, line: wire };
    devices.push({ spec, ref, pid: process.pid, address, share: 0.5 });
  }
  let guarded = 0;
  return {
    ...{ kind: "shaped", about: ["nothing is emulated"], node, devices },
    usage: async () =>
      devices.map(() => ({ sentBytes: 1000, receivedBytes: 500, peakBytes: 0, busyMs: 3, lateMs: null })),
    guard: async (work) => {
      // The first is the profile.
      if (failure && guarded++ > 0) {
        const error = failure;
        failure = undefined;
        throw error;
      }
      return work();
    },
    unshaped: (work) => work(),
    close: async () => {
      for (const each of [node, ...hosts]) await each.close();
    },
  };
}

let scenario: ScenarioResult;
let result: StrategiesResult;
let folder: string;

beforeAll(async () => {
  scenario = await runScenario(SCENARIO, MODEL, {
    ...{ warmUp: 1, steps: 1, repeats: 1, profileMs: 50, limitMs: 60_000 },
    strategies: ["single", "data", "1f1b", "hybrid", "auto", "even-split"],
    engine: "reference",
    openBed: () => openBed(),
    note: () => {},
  });
  const setting = { date: "2026-01-01", machine: "a machine", versions: "some", command: "a command" };
  result = { format: RESULT_FORMAT, ...setting, scenarios: [scenario], failures: [] };
  folder = mkdtempSync(join(tmpdir(), "troupe-test-"));
  writeReport(folder, result);
}, 180_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("every strategy that runs has one device's losses and weights", () => {
  expect(scenario.referenceLosses).toHaveLength(2);
  const byName = new Map(scenario.strategies.map((strategy) => [strategy.name, strategy]));
  for (const name of ["single", "data", "1f1b", "even-split"]) {
    const { refused, measured } = byName.get(name)!;
    expect([name, refused]).toEqual([name, null]);
    expect(measured!.weightsDifference.byNorm).toBeLessThan(1e-5);
    expect(measured!.lossDifference).toBeLessThan(1e-5);
    expect(measured!.timeline.length).toBeGreaterThan(0);
  }
  // A pipeline has the very bits.
  expect(byName.get("1f1b")!.measured!.weightsDifference.byElement).toBe(0);
  expect(byName.get("auto")!.measured).not.toBeNull();
});

test("a device that dies of a plan is told there, and the testbed is opened again for the others", async () => {
  const before = opened;
  const found = await runScenario(SCENARIO, MODEL, {
    ...{ warmUp: 0, steps: 1, repeats: 1, profileMs: 50, limitMs: 60_000, strategies: ["single", "1f1b"] },
    engine: "reference",
    openBed: () =>
      openBed(opened === before ? new TestbedError("one was killed at its memory limit") : undefined),
    note: () => {},
  });
  expect(found.strategies[0]).toMatchObject({
    refused: "one was killed at its memory limit",
    measured: null,
  });
  expect(found.strategies[1]!.measured).not.toBeNull();
  expect(opened - before).toBe(2);
}, 180_000);

describe("the report", () => {
  test("is one HTML file without anything from elsewhere, and names are escaped", () => {
    const html = readFileSync(join(folder, "report.html"), "utf8");
    expect(html).toStartWith("<!doctype html>");
    expect(html).not.toMatch(/<script|src=|href=|@import|url\(/);
    expect(html).toContain("two &#60;devices&#62; in one process");
    for (const tag of ["svg", "table", "details", "figure"]) {
      const count = (mark: string) => html.split(mark).length;
      expect([tag, count(`<${tag}`)]).toEqual([tag, count(`</${tag}>`)]);
    }
  });

  test("comes with JSON that is read back and a trace of every plan measured", () => {
    expect(readResult(readFileSync(join(folder, "result.json"), "utf8"))).toEqual(
      JSON.parse(JSON.stringify(result)),
    );
    expect(() => readResult("{}")).toThrow("has format 2");
    const traces = readdirSync(folder).filter((name) => name.endsWith(".trace.json"));
    const measured = scenario.strategies.filter(({ measured: found, sameAs }) => found && sameAs === null);
    expect(traces.sort()).toEqual(measured.map(({ name }) => `tiny-${name}.trace.json`).sort());
  });
});

/** A result with these step times, predicted a tenth too short. */
function made(times: Readonly<Record<string, number | null>>): ScenarioResult {
  const [template] = scenario.strategies.filter(({ measured }) => measured);
  return {
    ...scenario,
    strategies: Object.entries(times).map(([name, stepMs]) => ({
      ...template!,
      ...{ name, sameAs: null, refused: stepMs === null ? "too large" : null },
      role: name === "auto" ? "planner" : name === "even-split" ? "rival" : "strategy",
      measured: stepMs === null ? null : { ...template!.measured!, stepMs, predictionError: 0.1 },
    })),
  };
}

describe("the summary", () => {
  test("holds the choice against the best measured, the fastest device and the rivals", () => {
    const { scenarios, predictionError } = summarise([
      made({ single: 300, data: 100, auto: 104, "even-split": 520 }),
    ]);
    expect(scenarios[0]).toMatchObject({
      best: { name: "data", ms: 100 },
      ...{
        overBest: 1.04,
        isClose: true,
        times: { single: { times: 300 / 104 }, "even-split": { times: 5 }, "blind-hybrid": null },
      },
    });
    expect(predictionError).toEqual({ median: 0.1, p90: 0.1, most: 0.1, count: 4 });
    expect(summarise([made({ data: 100, auto: 106 })]).scenarios[0]!.isClose).toBe(false);
  });

  test("nothing that did not run is counted, and a choice that did not run is not close", () => {
    const { scenarios, predictionError } = summarise([made({ data: null, auto: null })]);
    expect(scenarios[0]).toMatchObject({ chosenMs: null, best: null, isClose: null });
    expect(predictionError).toBeNull();
    const rows = sectionsOf({ scenarios: [made({ data: null, auto: null })], failures: [] }).at(-1)!.table!
      .rows;
    expect(rows.map(([, plan]) => plan)).toEqual(["does not run: too large", "does not run: too large"]);
  });

  test("energy: by parallelism, with the least named", () => {
    const [row] = energyRows([scenario]);
    expect(row).toMatchObject({ devices: "jetson-nano, raspberry-pi-4", megabits: 100 });
    expect(row!.joules.tensor).toBeNull();
    expect(row!.joules.data).toBeGreaterThan(0);
    const least = Math.min(...Object.values(row!.joules).filter((joules) => joules !== null));
    expect(row!.joules[row!.least!]).toBe(least);
  });
});

describe("rivals", () => {
  const times = (ms: number) => ({
    forwardMs: [ms, ms, ms, ms],
    backwardMs: [ms, ms, ms, ms],
    stepMs: [0, 0, 0, 0],
  });
  const link = (bytesPerMs: number) => ({ latencyMs: 0, bytesPerMs });
  const inputs: Inputs = {
    segments: [0, 1, 2, 3].map((i) => ({
      ...{ name: `segment ${i}`, parameterBytes: 100, activationBytes: 100, stashBytes: 100 },
    })),
    devices: [
      { id: "0", name: "fast", memoryBytes: 1e6 },
      { id: "1", name: "slow", memoryBytes: 1e6 },
    ],
    profile: {
      devices: { 0: times(3), 1: times(9) },
      links: { 0: { 1: link(1e6) }, 1: { 0: link(3e6) } },
    },
    microBatches: 8,
  };

  test("a profile of devices that are alike has means everywhere", () => {
    const { devices, links } = alike(inputs.profile);
    expect([devices[0]!.forwardMs, devices[1]!.forwardMs]).toEqual([times(6).forwardMs, times(6).forwardMs]);
    expect(links[0]![1]!.bytesPerMs).toBe(2e6);
  });

  test("an even split gives a slow device as much as a fast one, and is foretold by the true profile", () => {
    const even = candidate("even-split", inputs).plan!;
    expect(even.stages.map(({ ranges }) => ranges.map(({ from, to }) => to - from))).toEqual([[2], [2]]);
    expect(even.predictedStepMs).toBeGreaterThan(8 * 36);
    const own = candidate("1f1b", inputs).plan!;
    expect(own.predictedStepMs).toBeLessThan(even.predictedStepMs);
    expect([isSame(even, even), isSame(even, own)]).toEqual([true, false]);
    const shares = (plan: typeof even) =>
      plan.stages[0]!.members.map(({ microBatches }) => microBatches.length);
    expect(shares(candidate("equal-data", inputs).plan!)).toEqual([4, 4]);
    expect(shares(candidate("data", inputs).plan!)[0]).toBeGreaterThan(4);
  });

  test("a device stands for another of its kind, and for none of another", () => {
    const alone = (device: string) => {
      const { plan } = candidate("single", inputs);
      const stages = plan!.stages.map((stage) => ({
        ...stage,
        members: stage.members.map((member) => ({ ...member, device })),
      }));
      return { ...plan!, stages };
    };
    expect(isSame(alone("0"), alone("1"))).toBe(false);
    expect(isSame(alone("0"), alone("1"), { 0: "nano", 1: "nano" })).toBe(true);
    expect(isSame(alone("0"), alone("1"), { 0: "nano", 1: "tx2" })).toBe(false);
  });

  test("what is hopeless is not run unless a ratio needs it, and long runs have fewer steps", () => {
    const given = (name: StrategyName, predictedStepMs: number): Candidate => {
      const own = candidate(name, inputs);
      return { ...own, plan: { ...own.plan!, predictedStepMs, digest: name } };
    };
    const most = { warmUp: 1, steps: 5 };
    const { selected, skipped } = select(
      [given("single", 1000), given("gpipe", 7000), given("even-split", 7000)],
      most,
    );
    expect(selected.map(({ candidate: { name }, steps }) => [name, steps.steps])).toEqual([
      ["single", 5],
      ["even-split", 2],
    ]);
    expect([...skipped]).toEqual([["gpipe", "7.0 times the best"]]);
    expect(select([given("data", 60_000)], most).skipped.get("data")).toBe("3 steps would take 180 s");
  });

  test("work that takes too long is left", async () => {
    await expect(within(1, () => new Promise(() => {}))).rejects.toThrow("stopped after 0 s");
    expect(await within(60_000, async () => 7)).toBe(7);
  });

  test("what fits nowhere has a reason", () => {
    const small = { ...inputs, devices: inputs.devices.map((device) => ({ ...device, memoryBytes: 10 })) };
    expect(candidate("single", small)).toMatchObject({ plan: null });
    expect(candidate("single", small).refused).toMatch(/\d/);
  });
});
