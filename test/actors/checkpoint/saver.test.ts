/** Runs that save while they go on: nobody waits, nothing of what is saved is of another step, and what fails is told. */

import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readCheckpoint, weightsSha256 } from "../../../actors/checkpoint.ts";
import { Device, type TrainEvent, type TrainOptions, train } from "../../../actors/index.ts";
import { Stage } from "../../../actors/stage.ts";
import { DEFAULT_ADAMW } from "../../../nn/index.ts";
import { gptModel } from "../../../nn/models/gpt.ts";
import {
  MemoryNetwork,
  memory,
  NodeRuntime,
  type Ref,
  seededRandom,
  systemClock,
} from "../../../runtime/index.ts";
import { FileError, type Files, files } from "../../../runtime/platform/files.ts";
import { NatsError } from "../../../runtime/platform/nats.ts";
import { planOf } from "../plans.ts";

const GPT = { layers: 2, width: 8, heads: 2, context: 8, vocabulary: 256 };
const STEPS = 6;

let root = "";
let nodes: NodeRuntime[] = [];
/** A run that nothing happens to, and that saves while its stages wait. */
let whole: Run;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "troupe-saver-"));
  whole = await run("whole", { copies: 0, keepCheckpoints: 9 });
}, 180_000);
afterEach(async () => {
  for (const node of nodes) await node.close();
  nodes = [];
});
afterAll(() => rm(root, { recursive: true, force: true }));

interface Run {
  readonly events: TrainEvent[];
  readonly checkpoint: string;
  readonly weights: string;
}

interface Given extends Partial<TrainOptions> {
  readonly files?: Files;
  readonly seen?: (event: TrainEvent, hosts: readonly NodeRuntime[], checkpoint: string) => unknown;
}

/** A pipeline of three devices with the reference engine, which saves every second step. */
async function run(name: string, { files: through = files, seen = () => {}, ...given }: Given): Promise<Run> {
  const network = new MemoryNetwork();
  const create = (own: string) => {
    const node = new NodeRuntime({
      ...{ name: own, transports: [memory(network)], actors: { Device, Stage }, log: () => {} },
    });
    nodes.push(node);
    return node;
  };
  const coordinator = create("coordinator");
  const hosts: NodeRuntime[] = [];
  const devices: Ref<Device>[] = [];
  for (let i = 0; i < 3; i++) {
    const host = create(`device-${i}`);
    hosts.push(host);
    await host.spawn(Device, [`device-${i}`, "reference", { host: `machine-${i}` }], { name: "device" });
    const peer = await coordinator.connect(await host.listen(`memory://${host.name}`));
    devices.push((await coordinator.lookup<Device>(peer.id, "device"))!);
  }
  const stages = [2, 3, 6].map((to) => ({ to: [to], members: 1 }));
  const checkpoint = join(root, name);
  const options: TrainOptions = {
    data: join(import.meta.dir, "../../fixtures/text.txt"),
    model: { kind: "gpt", ...GPT },
    ...{ batch: 8, microBatches: 4, steps: STEPS, seed: 7 },
    ...{ strategy: "pipeline", schedule: "1f1b", recompute: false },
    plan: planOf(gptModel(GPT, 2), { microBatches: 4, stages }),
    optimizer: { ...DEFAULT_ADAMW, warmup: 1, steps: STEPS },
    ...{ checkpoint, resume: null, exportTo: null, validateEvery: 100, checkpointEvery: 2 },
    ...{ sampleBytes: 0, prompt: "\n" },
    ...given,
  };
  const events: TrainEvent[] = [];
  const random = seededRandom(7);
  const done = await train(options, {
    ...{ node: coordinator, devices, files: through, clock: systemClock },
    emit: (event) => {
      events.push(event);
      return seen(event, hosts, options.checkpoint);
    },
    random: () => random.next(),
  });
  return { events, checkpoint: options.checkpoint, weights: done.weights_sha256 };
}

const saved = ({ events }: Run) =>
  events.flatMap((event) => (event.event === "checkpoint" ? [event.step] : []));

/** `files` of which the first write to a checkpoint waits. */
function held(): { readonly files: Files; readonly reached: Promise<void>; release(): void } {
  const gate = Promise.withResolvers<void>();
  const reached = Promise.withResolvers<void>();
  const write: Files["write"] = async (path, chunks) => {
    if (path.includes("-of-00003.safetensors")) {
      reached.resolve();
      await gate.promise;
    }
    await files.write(path, chunks);
  };
  return { files: { ...files, write }, reached: reached.promise, release: gate.resolve };
}

test("steps go on while a checkpoint is written, which is of its step to the bit", async () => {
  expect(saved(whole)).toEqual([2, 4, 6]);
  const gate = held();
  let stepsMeanwhile = 0;
  const own = await run("gated", {
    keepCheckpoints: 9,
    files: gate.files,
    seen: ({ event }) => {
      if (event !== "step") return;
      // The one at step 2 is not written before the one at step 4 is due.
      if (++stepsMeanwhile === 3) gate.release();
    },
  });
  const order = own.events.map((event) => `${event.event} ${"step" in event ? event.step : ""}`);
  expect(order.indexOf("checkpoint 2")).toBeGreaterThan(order.indexOf("step 3"));
  expect(saved(own)).toEqual([2, 4, 6]);
  expect(own.weights).toBe(whole.weights);
  for (const step of [2, 4]) {
    const [a, b] = await Promise.all(
      [whole, own].map(({ checkpoint }) => readCheckpoint(files, `${checkpoint}.step-${step}`)),
    );
    expect(b).toEqual(a!);
  }
  const last = await readCheckpoint(files, own.checkpoint);
  expect(weightsSha256(last.parameters)).toBe(own.weights);
  // On one device, in another number of shards.
  const resumed = await run("resumed", {
    resume: `${own.checkpoint}.step-4`,
    plan: planOf(gptModel(GPT, 2), { microBatches: 4, stages: [{ to: [6], members: 1 }] }),
    strategy: "single",
  });
  expect(resumed.weights).toBe(whole.weights);
  expect(await files.list(resumed.checkpoint)).toContain("model.safetensors");
});

test("what is lost with a device while it is written is made up for, and the run ends as if spared", async () => {
  const gate = held();
  let begun = false;
  const own = await run("lost", {
    files: gate.files,
    seen: async ({ event }, hosts) => {
      if (event !== "step" || begun) return;
      begun = true;
      await gate.reached;
      await hosts[2]!.close();
      gate.release();
    },
  });
  const kinds = own.events.map(({ event }) => event);
  expect(kinds).toContain("recovered");
  expect(own.weights).toBe(whole.weights);
  const [first, ...rest] = saved(own);
  expect(first).toBeGreaterThan(2);
  expect(rest.at(-1)).toBe(STEPS);
  expect((await readCheckpoint(files, own.checkpoint)).step).toBe(STEPS);
});

test("a place that does not answer for a while costs that checkpoint, and no more", async () => {
  let away = true;
  const write: Files["write"] = async (path, chunks) => {
    if (away && path.includes("optimizer-00002")) {
      away = false;
      throw new NatsError("nobody answers", true);
    }
    await files.write(path, chunks);
  };
  const own = await run("away", { files: { ...files, write } });
  expect(saved(own)[0]).toBeGreaterThan(2);
  expect(saved(own).at(-1)).toBe(STEPS);
  expect(own.weights).toBe(whole.weights);
});

test("a disk that is full ends the run, in one line", async () => {
  const write: Files["write"] = async (path, chunks) => {
    if (path.includes("optimizer-00002"))
      throw new FileError("full", path, `cannot write ${path}: the disk is full`);
    await files.write(path, chunks);
  };
  const error = await run("full", { files: { ...files, write } }).catch((reason) => reason);
  expect(error.message).toMatch(/^cannot write \S+optimizer-00002-of-00003\.safetensors: the disk is full$/);
});

test("where copies are lost and the newest checkpoint is damaged, the run goes on from the one before it", async () => {
  const own = await run("damaged", {
    keepCheckpoints: 2,
    seen: async (event, hosts, checkpoint) => {
      if (event.event !== "checkpoint" || event.step !== 4) return;
      const path = join(checkpoint, "optimizer-00001-of-00003.safetensors");
      const bytes = await readFile(path);
      bytes[bytes.length - 1]! ^= 1;
      await writeFile(path, bytes);
      await Promise.all([hosts[0]!.close(), hosts[1]!.close()]);
    },
  });
  expect(own.events).toContainEqual({
    event: "checkpoint_damaged",
    path: own.checkpoint,
    why: expect.stringContaining("optimizer-00001-of-00003.safetensors is truncated or was changed"),
    used: `${own.checkpoint}.step-2`,
    step: 2,
  });
  expect(own.events.find(({ event }) => event === "recovered")).toMatchObject({ from_checkpoint: true });
  expect(own.weights).toBe(whole.weights);
  expect((await readCheckpoint(files, own.checkpoint)).step).toBe(STEPS);
});
