/** What a run says at its end of what it was to have and has not: devices, and steps that were of no use. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Device, type TrainEvent, train } from "../../actors/index.ts";
import { endedOn } from "../../actors/train-devices.ts";
import { textReport } from "../../cli/text-report.ts";
import { DEFAULT_ADAMW } from "../../nn/index.ts";
import { gptModel } from "../../nn/models/gpt.ts";
import { NodeRuntime, seededRandom, systemClock } from "../../runtime/index.ts";
import { files } from "../../runtime/platform/files.ts";
import { planOf } from "./plans.ts";

const MODEL = { layers: 1, width: 8, heads: 2, context: 8, vocabulary: 256 };
const STEPS = 4;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "troupe-end-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

test("steps whose gradients overflowed are told, each and all together", async () => {
  const node = new NodeRuntime({ name: "alone", log: () => {} });
  const events: TrainEvent[] = [];
  const random = seededRandom(7);
  try {
    const device = await node.spawn(Device, ["device", "reference"]);
    const options = {
      data: join(import.meta.dir, "../fixtures/text.txt"),
      model: { kind: "gpt" as const, ...MODEL },
      ...{ batch: 8, microBatches: 4, steps: STEPS, seed: 7 },
      ...{ strategy: "single", schedule: "1f1b", recompute: false },
      plan: planOf(gptModel(MODEL, 2), { stages: [{ to: [4] }], microBatches: 4 }),
      // So large that the first steps overflow.
      optimizer: { ...DEFAULT_ADAMW, warmup: 1, steps: STEPS, lossScale: 2 ** 127, lossScaleGrowth: 1000 },
      ...{ checkpoint: join(folder, "checkpoint"), resume: null, exportTo: null },
      ...{ validateEvery: 100, checkpointEvery: 100, sampleBytes: 0, prompt: "\n" },
    };
    const world = { node, devices: [device], files, clock: systemClock, random: () => random.next() };
    const done = await train(options, { ...world, emit: (event) => void events.push(event) });
    const skipped = events.flatMap((event) => (event.event === "step" && event.skipped ? [event.step] : []));
    expect(skipped[0]).toBe(1);
    expect(done.steps_skipped).toBe(skipped.length);
    let said = "";
    const output = { terminal: false, colours: false, columns: () => 80, write: () => {} };
    const write = (text: string) => {
      said += text;
    };
    const report = textReport(output, { ...output, write }, { steps: STEPS, out: folder });
    for (const event of events) report.show(event);
    expect(said).toMatch(/^ {2}\d steps? (has|have) changed nothing: gradients overflowed/m);
  } finally {
    await node.close();
  }
});

test("who was in the run and is not there is named once, also where another coordinator had led it", () => {
  const known = (id: string, name: string) => ({
    ...{ id, name, host: "desk", cores: 1, memoryBytes: 0, engine: "reference", pid: 0 },
    class: "laptop" as const,
  });
  const used = { peakBytes: 1, tensorBytes: 0 };
  const everyone = [known("0", "a"), known("1", "b"), known("2", "a"), known("3", "c"), known("4", "g")];
  const unknown = { lost: ["c", "e", "f"], coming: ["f", "g"] };
  const { devices, devices_lost } = endedOn(everyone, [null, null, used, used, null], unknown, {
    planned: {
      ...{ plan: planOf(gptModel(MODEL, 2), { stages: [{ to: [4] }], microBatches: 4 }), generation: 1 },
      devices: ["a", "c", "d"].map((name, i) => ({ id: `${i}`, name, address: `tcp://${name}:1` })),
    },
  });
  expect(devices.map(({ id, name }) => [id, name])).toEqual([
    ["2", "a"],
    ["3", "c"],
  ]);
  expect(devices_lost.toSorted()).toEqual(["b", "d", "e"]);
});
