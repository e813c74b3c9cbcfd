/** A testbed with what is trained on it: profiled, and one plan after the other run. */

import { profileCluster } from "../../actors/profile.ts";
import { DEVICE_CLASSES } from "../../actors/scheduler/device-classes.ts";
import { findSegments } from "../../nn/segments.ts";
import { SHARD_KINDS } from "../../nn/shards/plan.ts";
import { median } from "../statistics.ts";
import { TestbedError } from "../testbed/error.ts";
import type { Testbed } from "../testbed/testbed.ts";
import type { Inputs } from "./candidates.ts";
import { LimitError, within } from "./limit.ts";
import { type BedRun, runOnBed } from "./measure.ts";
import type { Training } from "./run.ts";
import type { Scenario } from "./scenarios.ts";
import type { Selected } from "./selection.ts";

/** Plans within so many times the fastest measured may be the best, and have further turns. */
const CONTENDER = 1.25;
/** A run is not begun with less time than this. */
const LEAST_MS = 5000;

/** What came of a plan. */
export interface Found {
  readonly runs: BedRun[];
  /** Why it cannot run. */
  failed: string | null;
  /** Why it was not run, or not to its end. */
  stopped: string | null;
}

interface BenchOptions {
  readonly profileMs: number;
  openBed(): Promise<Testbed>;
  note(line: string): void;
}

export class Bench {
  bed!: Testbed;
  /** Why there is no testbed any more. */
  private broken: string | null = null;
  private readonly scenario: Scenario;
  private readonly training: Training;
  private readonly options: BenchOptions;

  constructor(scenario: Scenario, training: Training, options: BenchOptions) {
    this.scenario = scenario;
    this.training = training;
    this.options = options;
  }

  async open(): Promise<void> {
    this.bed = await this.options.openBed();
  }

  async close(): Promise<void> {
    await this.bed?.close();
  }

  /** What the planner knows of the devices, and their classes' power. */
  async profile(): Promise<Inputs> {
    const { bed, scenario, training, options } = this;
    const { model, microBatches, optimizer } = training;
    options.note(`profiling ${bed.devices.length} devices`);
    const devices = bed.devices.map(({ ref }) => ref);
    return bed.guard(async () => {
      const descriptions = await Promise.all(devices.map((device) => device.ask.describe()));
      const { profile, segments } = await profileCluster(devices, descriptions, {
        ...{ model, segments: findSegments(model), microBatches, optimizer, budgetMs: options.profileMs },
        ...{ split: true, sharings: SHARD_KINDS, now: () => performance.now() },
      });
      return {
        ...{ microBatches, profile, segments },
        devices: descriptions.map(({ name, memoryBytes }, i) => ({
          ...{ id: `${i}`, name, memoryBytes },
          power: DEVICE_CLASSES[scenario.devices[i]!.class].power,
        })),
      };
    });
  }

  /** One turn for every plan, and further ones for those that may be the best, while there is time. */
  async run(
    selected: readonly Selected[],
    repeats: number,
    until: number,
  ): Promise<ReadonlyMap<string, Found>> {
    const found = new Map(
      selected.map(({ candidate }): [string, Found] => [
        candidate.name,
        { runs: [], failed: null, stopped: null },
      ]),
    );
    for (let round = 0; round < repeats; round++) {
      const fastest = Math.min(...[...found.values()].map(stepMs));
      for (const each of selected) {
        const own = found.get(each.candidate.name)!;
        if (round > 0 && !(stepMs(own) <= CONTENDER * fastest)) continue;
        await this.turn(each, own, until);
      }
    }
    return found;
  }

  private async turn({ candidate, steps, limitMs }: Selected, own: Found, until: number): Promise<void> {
    const { bed, training, options } = this;
    const { name, plan } = candidate;
    if (this.broken !== null) {
      if (own.runs.length === 0) own.stopped ??= this.broken;
      return;
    }
    const left = until - performance.now();
    if (left < Math.max(LEAST_MS, steps.warmUp * plan!.predictedStepMs)) {
      if (own.runs.length === 0) own.stopped ??= "the scenario's time was up";
      return;
    }
    options.note(name);
    const ends = performance.now() + Math.min(left, limitMs);
    try {
      own.runs.push(
        await within(ends - performance.now(), () =>
          // Steps in time, then the weights.
          runOnBed(bed, plan!, training, steps, ends - 2 * plan!.predictedStepMs - LEAST_MS),
        ),
      );
    } catch (error) {
      // A plan whose prediction was wrong is a finding, and the others still have their turn.
      const { message } = error as Error;
      options.note(`${name}: ${message}`);
      if (error instanceof LimitError) own.stopped = message;
      else own.failed = message;
      // Devices that are dead, or still at it.
      if (error instanceof TestbedError || error instanceof LimitError) await this.reopen();
    }
  }

  private async reopen(): Promise<void> {
    try {
      await this.bed.close();
      await this.open();
    } catch (error) {
      // What has been measured is kept.
      this.broken = (error as Error).message;
    }
  }
}

/** Infinity where nothing has been measured. */
function stepMs({ runs }: Found): number {
  const times = runs.flatMap(({ steps }) => steps.map(({ ms }) => ms));
  return times.length === 0 ? Number.POSITIVE_INFINITY : median(times);
}
