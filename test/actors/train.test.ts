/**
 * A whole run in one process, over the memory transport: what pipelining promises, that it changes nothing.
 * The same seed gives the same losses and the same weights, to the bit, on one device and on several, in every
 * schedule, whether activations are stashed or recomputed.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Device, ProfileCache, type TrainEvent, type TrainOptions, train } from "../../actors/index.ts";
import { Stage } from "../../actors/stage.ts";
import type { EngineOptions } from "../../nn/engine/create.ts";
import { DEFAULT_ADAMW } from "../../nn/index.ts";
import {
  MemoryNetwork,
  memory,
  NodeRuntime,
  type Ref,
  seededRandom,
  systemClock,
} from "../../runtime/index.ts";
import { files } from "../../runtime/platform/files.ts";

const MODEL = { layers: 2, width: 32, heads: 2, context: 16, vocabulary: 256 };
/** The reference engine is plain TypeScript: it gets less to do. */
const TINY = { layers: 1, width: 8, heads: 2, context: 8, vocabulary: 256 };
const STEPS = 3;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "troupe-train-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

interface Variant {
  readonly devices: number;
  readonly engine: EngineOptions["engine"];
  readonly schedule?: string;
  readonly recompute?: boolean;
  readonly strategy?: string;
  readonly steps?: number;
  readonly resume?: string;
  readonly microBatches?: number;
}

let runs = 0;

/** Trains the small model; the events of the run. */
async function run(variant: Variant): Promise<{ events: TrainEvent[]; checkpoint: string }> {
  const network = new MemoryNetwork();
  const hosts: NodeRuntime[] = [];
  const coordinator = new NodeRuntime({ name: "coordinator", transports: [memory(network)] });
  const checkpoint = join(folder, `run-${runs++}`);
  try {
    const devices: Ref<Device>[] = [];
    for (let i = 0; i < variant.devices; i++) {
      const host = new NodeRuntime({
        name: `device-${i}`,
        transports: [memory(network)],
        actors: { Device, Stage },
      });
      hosts.push(host);
      const address = await host.listen(`memory://device-${i}`);
      await host.spawn(Device, [host.name, variant.engine], { name: "device" });
      const peer = await coordinator.connect(address);
      devices.push((await coordinator.lookup<Device>(peer.id, "device"))!);
    }
    const events: TrainEvent[] = [];
    const options: TrainOptions = {
      data: join(import.meta.dir, "../fixtures/text.txt"),
      model: { kind: "gpt", ...(variant.engine === "reference" ? TINY : MODEL) },
      batch: 8,
      microBatches: variant.microBatches ?? 4,
      steps: variant.steps ?? STEPS,
      seed: 7,
      strategy: variant.strategy ?? "pipeline",
      schedule: variant.schedule ?? "1f1b",
      recompute: variant.recompute ?? false,
      optimizer: { ...DEFAULT_ADAMW, warmup: 1, steps: STEPS },
      checkpoint,
      resume: variant.resume ?? null,
      exportTo: null,
      validateEvery: 100,
      checkpointEvery: 100,
      sampleBytes: 0,
      prompt: "\n",
    };
    const random = seededRandom(7);
    await train(options, {
      node: coordinator,
      devices,
      files,
      clock: systemClock,
      emit: (event) => events.push(event),
      random: () => random.next(),
      // One measurement serves all runs: who holds what must not matter anyway.
      profiles: new ProfileCache(files, folder, () => {}),
    });
    return { events, checkpoint };
  } finally {
    await coordinator.close();
    for (const host of hosts) await host.close();
  }
}

/** What must not depend on how the run was carried out. */
function outcome(events: readonly TrainEvent[]) {
  const losses = events.flatMap((event) => (event.event === "step" ? [[event.loss, event.grad_norm]] : []));
  const [done] = events.flatMap((event) => (event.event === "done" ? [event] : []));
  return { losses, validation: done?.validation_loss, weights: done?.weights_sha256 };
}

describe.each(["native", "reference"] as const)("pipelining changes nothing: %s engine", (engine) => {
  let alone: ReturnType<typeof outcome>;
  beforeAll(async () => {
    alone = outcome((await run({ devices: 1, engine, strategy: "single" })).events);
  });

  test("one device trains: the loss falls", () => {
    expect(alone.losses.length).toBe(STEPS);
    expect(alone.losses.at(-1)![0]!).toBeLessThan(alone.losses[0]![0]!);
    expect(alone.weights).toMatch(/^[0-9a-f]{64}$/);
  });

  const variants: Variant[] = [];
  for (const devices of engine === "native" ? [2, 3] : [3]) {
    for (const schedule of ["1f1b", "gpipe"]) {
      for (const recompute of [false, true]) variants.push({ devices, engine, schedule, recompute });
    }
  }
  // A device for every segment.
  if (engine === "native") variants.push({ devices: 6, engine, schedule: "1f1b", recompute: true });
  test.each(variants)("$devices devices, $schedule, recompute $recompute", async (variant) => {
    const { events } = await run(variant);
    const plan = events.find((event) => event.event === "plan")!.plan;
    expect(plan.stages.length).toBe(variant.devices);
    expect(outcome(events)).toEqual(alone);
  });
});

test("a checkpoint goes on where it was, on another number of devices", async () => {
  const whole = outcome((await run({ devices: 1, engine: "native", strategy: "single" })).events);
  const { checkpoint } = await run({ devices: 3, engine: "native", steps: 2 });
  const rest = outcome((await run({ devices: 2, engine: "native", resume: checkpoint })).events);
  expect(rest.weights).toBe(whole.weights);
  expect(rest.losses).toEqual(whole.losses.slice(2));
});

test("a plan that cannot be is refused in one line", async () => {
  const many = run({ devices: 9, engine: "reference" });
  await expect(many).rejects.toThrow(
    /^9 devices are more than the model's \d segments: use at most \d devices$/,
  );
});
