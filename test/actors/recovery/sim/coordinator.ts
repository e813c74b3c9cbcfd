/**
 * A coordinator of a simulated run, from its start until the run is over or its machine is gone: what `troupe train` does,
 * with devices that are found by their names, a disk and a journal that outlive it, and one that went before it, perhaps.
 */

import { readCheckpoint } from "../../../../actors/checkpoint.ts";
import type { Device } from "../../../../actors/device.ts";
import { historyOf } from "../../../../actors/journal/history.ts";
import type { Journal } from "../../../../actors/journal/journal.ts";
import { RunJournal } from "../../../../actors/journal/run-journal.ts";
import type { Task } from "../../../../actors/tasks/task.ts";
import { type TrainEvent, type TrainOptions, train } from "../../../../actors/train.ts";
import { DEFAULT_ADAMW } from "../../../../nn/optim/adamw.ts";
import { findSegments } from "../../../../nn/segments.ts";
import type { NodeRuntime } from "../../../../runtime/node.ts";
import type { Files } from "../../../../runtime/platform/files.ts";
import { seededRandom } from "../../../../runtime/random.ts";
import type { Ref } from "../../../../runtime/ref.ts";
import type { Host } from "../../../sim/host.ts";
import type { Trace } from "../../../sim/trace.ts";
import { madeUpProfiles } from "./profiles.ts";
import { SEED, type Shape } from "./shapes.ts";

/** Where checkpoints are on the disk. */
export const CHECKPOINT = "run/checkpoint";
/** Milliseconds between attempts to reach somebody who is there. */
const AGAIN_MS = 3000;
const MOST_ATTEMPTS = 10;

/** A device's machine, as it can be found. */
export interface Place {
  readonly name: string;
  readonly host: Host;
}

export interface CoordinatorWorld {
  readonly host: Host;
  readonly node: NodeRuntime;
  readonly shape: Shape;
  readonly copies: number;
  readonly files: Files;
  readonly journal: Journal;
  readonly trace: Trace;
  /** Whether devices may join, and the run waits for one where it has too few. */
  readonly waits: boolean;
  /** Machines that there are now. */
  readonly machines: () => readonly Place[];
  /** Called where nobody could be reached; resolves when there is somebody. */
  readonly nobody: () => Promise<void>;
  /** Told of one that it goes on without. */
  readonly missed: (machine: Place) => void;
  readonly emit: (event: TrainEvent) => void;
}

type Join = (device: Ref<Device>) => Promise<void>;

export class Coordinator {
  readonly host: Host;
  readonly node: NodeRuntime;
  /** By place in the run. */
  readonly places: Place[] = [];
  private readonly world: CoordinatorWorld;
  /** Machines of the run that have not been lost. */
  private readonly here = new Set<Place>();
  private readonly greeted = new Set<Place>();
  private journal: RunJournal | undefined;
  private takeIn: Join | undefined;

  constructor(world: CoordinatorWorld) {
    this.world = world;
    this.host = world.host;
    this.node = world.node;
  }

  /** Begins the run, or goes on with it. Never settles when its machine is gone. */
  async lead(): Promise<TrainEvent & { event: "done" }> {
    const { shape, files, journal, copies, waits, emit } = this.world;
    const { model, feed, plan, microBatches } = shape;
    const before = historyOf((await journal.read()).records)?.planned ?? null;
    const devices = await this.open(before !== null);
    this.journal = before ? await RunJournal.goOn(journal) : await RunJournal.begin(journal, "a run", {});
    this.journal.place(this.places.map(placeOf));
    const isSaved = before !== null && (await files.exists(CHECKPOINT));
    const random = seededRandom(SEED);
    const options: TrainOptions = {
      ...{ data: null, model: SPEC, batch: microBatches, microBatches, steps: shape.steps, seed: SEED },
      ...{ strategy: shape.strategy, schedule: shape.schedule, recompute: false, copies },
      ...(plan && { plan }),
      optimizer: { ...DEFAULT_ADAMW, learningRate: 0.01, warmup: 1, steps: shape.steps },
      ...{ checkpoint: CHECKPOINT, exportTo: null, resume: isSaved ? CHECKPOINT : null },
      ...{ validateEvery: shape.validateEvery, checkpointEvery: shape.saveEvery },
      ...{ sampleBytes: 0, prompt: " " },
    };
    const task: Task = {
      ...{ model, feed, description: {}, source: { name: "chance", bytes: null } },
      ...{ unit: { name: "samples" as const, perMicroBatch: 1 }, lossUnit: "nats" },
    };
    const segments = findSegments(model).length;
    return train(
      options,
      {
        ...{ node: this.node, devices, files, clock: this.host, journal: this.journal },
        emit,
        random: () => random.next(),
        profiles: madeUpProfiles(segments, seededRandom(shape.devices)),
        ...(waits && { onDevice: (join: Join) => this.takesIn(join) }),
      },
      { task, resumed: isSaved ? await readCheckpoint(files, CHECKPOINT) : null, damaged: [] },
    );
  }

  /** Takes in a device that is there, unless it is in the run. */
  async greet(machine: Place): Promise<void> {
    const { takeIn } = this;
    if (!takeIn || this.here.has(machine) || this.greeted.has(machine)) return;
    this.greeted.add(machine);
    for (let attempt = 0; attempt < MOST_ATTEMPTS && machine.host.alive && this.takeIn; attempt++) {
      try {
        const device = await this.find(machine);
        this.places.push(machine);
        this.journal!.place(this.places.map(placeOf));
        await takeIn(device);
        break;
      } catch (error) {
        this.world.trace.note("not taken in", machine.name, (error as Error).message);
        this.here.delete(machine);
        await this.host.sleep(AGAIN_MS);
      }
    }
    this.greeted.delete(machine);
  }

  /** Those that it began with, in their order; of a run that goes on, those that can be reached. */
  private async open(lacks: boolean): Promise<Ref<Device>[]> {
    for (;;) {
      const found = await Promise.all(
        this.world.machines().map(async (machine) => {
          const device = await this.find(machine).catch((error) => {
            if (!lacks) throw error;
            this.world.missed(machine);
            return null;
          });
          return device ? [{ machine, device }] : [];
        }),
      );
      const all = found.flat();
      this.places.push(...all.map(({ machine }) => machine));
      if (all.length > 0) return all.map(({ device }) => device);
      await this.host.sleep(AGAIN_MS);
      await this.world.nobody();
    }
  }

  private async find(machine: Place): Promise<Ref<Device>> {
    const { node } = this;
    await node.connect(`sim://${machine.name}`);
    const device = await node.lookup<Device>(machine.name, machine.name);
    if (!device) throw new Error(`${machine.name} has no device`);
    this.here.add(machine);
    node.monitor(device, () => this.here.delete(machine));
    return device;
  }

  private takesIn(join: Join): () => void {
    this.takeIn = join;
    // Whoever came while nobody was taken in.
    for (const machine of this.world.machines()) void this.greet(machine);
    return () => {
      this.takeIn = undefined;
    };
  }
}

/** It says no more than how data would be read. */
const SPEC = { kind: "gpt", layers: 1, width: 4, heads: 2, context: 4, vocabulary: 8 } as const;

function placeOf({ name }: Place, place: number) {
  return { id: `${place}`, name, address: `sim://${name}` };
}
