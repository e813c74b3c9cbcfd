/** A whole run that nobody is left for: it waits, a device is handed in, and the weights are those of a run that was spared. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Device, type TrainEvent, type TrainOptions, train } from "../../actors/index.ts";
import { Stage } from "../../actors/stage.ts";
import { DEFAULT_ADAMW } from "../../nn/index.ts";
import { gptModel } from "../../nn/models/gpt.ts";
import {
  Actor,
  MemoryNetwork,
  memory,
  NodeRuntime,
  type Ref,
  seededRandom,
  systemClock,
} from "../../runtime/index.ts";
import { files } from "../../runtime/platform/files.ts";
import { planOf } from "./plans.ts";

const MODEL = { layers: 1, width: 8, heads: 2, context: 8, vocabulary: 256 };
const STEPS = 4;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "troupe-join-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const options = (name: string): TrainOptions => ({
  data: join(import.meta.dir, "../fixtures/text.txt"),
  model: { kind: "gpt", ...MODEL },
  ...{ batch: 8, microBatches: 4, steps: STEPS, seed: 7 },
  ...{ strategy: "pipeline", schedule: "1f1b", recompute: false },
  plan: planOf(gptModel(MODEL, 2), { stages: [{ to: [4] }], microBatches: 4 }),
  optimizer: { ...DEFAULT_ADAMW, warmup: 1, steps: STEPS },
  ...{ checkpoint: join(folder, name), resume: null, exportTo: null },
  ...{ validateEvery: 100, checkpointEvery: 2, sampleBytes: 0, prompt: "\n" },
});

/** One that is there, and says nothing until then. */
class Silent extends Actor {
  readonly until: Promise<void>;
  constructor(until: Promise<void>) {
    super();
    this.until = until;
  }

  describe(): Promise<void> {
    return this.until;
  }
}

/**
 * @param comes whether a second device comes to it, which keeps copies. @param returns whether the one that was lost comes again
 *   before the end, and is not taken in by then.
 */
async function run(name: string, disturbed: boolean, comes = false, returns = false): Promise<TrainEvent[]> {
  const network = new MemoryNetwork();
  const coordinator = new NodeRuntime({ name: "coordinator", transports: [memory(network)] });
  const hosts: NodeRuntime[] = [];
  const device = async (): Promise<Ref<Device>> => {
    const own = `device-${hosts.length}`;
    const host = new NodeRuntime({ name: own, transports: [memory(network)], actors: { Device, Stage } });
    hosts.push(host);
    await host.spawn(Device, [own, "reference"], { name: "device" });
    const peer = await coordinator.connect(await host.listen(`memory://${own}`));
    return (await coordinator.lookup<Device>(peer.id, "device"))!;
  };
  const events: TrainEvent[] = [];
  let hand: ((device: Ref<Device>) => Promise<void>) | undefined;
  const over = Promise.withResolvers<void>();
  const random = seededRandom(7);
  try {
    await train(options(name), {
      ...{ node: coordinator, devices: [await device()], files, clock: systemClock },
      random: () => random.next(),
      called: () => "device-0",
      emit: (event) => {
        events.push(event);
        if (disturbed && event.event === "checkpoint" && event.step === 2) void hosts[0]!.close();
        // A checkpoint waits for it, and the run for its checkpoints.
        if (comes && event.event === "checkpoint" && event.step === 2)
          return device().then((joining) => hand!(joining));
        if (returns && event.event === "recovered")
          void coordinator
            .spawn(Silent, [over.promise])
            .then((back) => hand!(back as Ref<any>).catch(() => {}));
        if (event.event === "done") over.resolve();
        if (event.event === "paused") void device().then((joining) => hand!(joining));
        return undefined;
      },
      onDevice: (join) => {
        hand = join;
        return () => {
          hand = undefined;
        };
      },
    });
    expect(hand).toBeUndefined();
    return events;
  } finally {
    await coordinator.close();
    for (const host of hosts) await host.close();
  }
}

test("a run waits for a device, and goes on from its checkpoint", async () => {
  const [spared, disturbed] = [await run("spared", false), await run("disturbed", true)];
  const weights = (events: readonly TrainEvent[]) =>
    events.flatMap((event) => (event.event === "done" ? [event.weights_sha256] : []));
  expect(weights(disturbed)).toEqual(weights(spared));
  const told = (name: TrainEvent["event"]) => disturbed.filter(({ event }) => event === name);
  expect(told("paused")).toEqual([{ event: "paused", reason: "device-0 gone: no device is left" }]);
  expect(told("recovered")).toMatchObject([{ lost: ["device-0"], from_checkpoint: true }]);
  expect(told("done")).toMatchObject([{ devices: [{ name: "device-1" }], devices_lost: ["device-0"] }]);
});

test("who was lost and is there again is not lost, though the end comes before it is taken in", async () => {
  const events = await run("returning", true, false, true);
  expect(events.at(-1)).toMatchObject({ devices: [{ name: "device-1" }], devices_lost: [] });
});

test("a run that was begun by one device alone tells of copies where another one has come", async () => {
  const [alone, joined] = [await run("alone", false), await run("joined", false, true)];
  expect(alone.at(-1)).not.toHaveProperty("copies");
  expect(joined.at(-1)).toMatchObject({ event: "done", copies: { every: 1 }, devices_lost: [] });
});
