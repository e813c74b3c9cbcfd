/**
 * One scenario from beginning to end: its testbed opened and profiled, every strategy planned, and each plan run, in
 * rounds in which all of them have a turn, so that what else the machine does falls on all.
 */

import { profileCluster } from "../../actors/profile.ts";
import { DEVICE_CLASSES } from "../../actors/scheduler/device-classes.ts";
import { shardedSegments } from "../../actors/scheduler/sharding.ts";
import type { Engine } from "../../nn/engine/engine.ts";
import { DEFAULT_ADAMW } from "../../nn/optim/adamw.ts";
import { findSegments } from "../../nn/segments.ts";
import { SHARD_KINDS } from "../../nn/shards/plan.ts";
import { TestbedError } from "../testbed/error.ts";
import type { Testbed } from "../testbed/testbed.ts";
import { type Candidate, candidate, type Inputs, isSame, type StrategyName } from "./candidates.ts";
import { type BedRun, measuredOf, runOnBed } from "./measure.ts";
import { runReference } from "./reference.ts";
import type { ScenarioResult, StrategyResult } from "./result.ts";
import type { RunSteps, Training } from "./run.ts";
import type { Scenario } from "./scenarios.ts";
import type { ScenarioModel } from "./scenarios-models.ts";

export interface ScenarioOptions extends RunSteps {
  readonly repeats: number;
  readonly strategies: readonly StrategyName[];
  /** Milliseconds of runs that each device is profiled for. */
  readonly profileMs: number;
  /** Of the reference: others than the devices' have other bits. The fastest that works when left out. */
  readonly engine?: Engine["name"];
  /** Opened once, and again when a device has died of a plan. */
  openBed(): Promise<Testbed>;
  /** Told how far it is. */
  note(line: string): void;
}

const SEED = 1;
/** Only the learning rate depends on it. */
const STEPS = 300;

/** @param model what the scenario trains, by its name. */
export async function runScenario(
  scenario: Scenario,
  model: ScenarioModel & { readonly name: string },
  options: ScenarioOptions,
): Promise<ScenarioResult> {
  const { batch, microBatches } = model;
  const optimizer = { ...DEFAULT_ADAMW, steps: STEPS };
  const training: Training = { ...(await model.open(SEED)), optimizer, seed: SEED, microBatches };
  const bench = new Bench(scenario, training, options);
  try {
    await bench.open();
    const inputs = await bench.profile();
    const candidates = options.strategies.map((name) => candidate(name, inputs));
    const { warmUp, steps, repeats } = options;
    options.note(`${scenario.name}: reference`);
    const reference = await runReference(training, { warmUp, steps }, options.engine);
    const runs = await bench.run(candidates);
    const { bed } = bench;
    return {
      ...{ name: scenario.name, about: scenario.about },
      model: { name: model.name, about: model.about, kind: model.kind },
      ...{ testbed: bed.kind, aboutTestbed: bed.about },
      devices: scenario.devices.map((device, i) => ({
        ...{ name: device.name, class: device.class, ...device.line },
        memoryBytes: bed.devices[i]!.spec.memoryBytes,
        share: bed.devices[i]!.share,
      })),
      ...{ batch, microBatches, warmUp, steps, repeats },
      referenceLosses: reference.losses,
      strategies: candidates.map((each): StrategyResult => {
        const { name, role, plan, refused } = each;
        const found = runs.get(standIn(each, candidates)?.name ?? name);
        const failed = refused ?? found?.failed ?? null;
        const same = standIn(each, candidates);
        const measured =
          plan && !failed && found?.runs.length
            ? measuredOf(plan, found.runs, reference, scenario, batch)
            : null;
        return { name, role, plan, refused: failed, sameAs: same?.name ?? null, measured };
      }),
    };
  } finally {
    await bench.close();
  }
}

/** The first candidate that has the same plan, where that is not itself. */
function standIn(own: Candidate, candidates: readonly Candidate[]): Candidate | undefined {
  if (!own.plan || own.refused !== null) return undefined;
  const first = candidates.find(({ plan, refused }) => plan && refused === null && isSame(plan, own.plan!));
  return first === own ? undefined : first;
}

interface Found {
  readonly runs: BedRun[];
  /** Why there are no more. */
  failed: string | null;
}

class Bench {
  bed!: Testbed;
  private readonly scenario: Scenario;
  private readonly training: Training;
  private readonly options: ScenarioOptions;

  constructor(scenario: Scenario, training: Training, options: ScenarioOptions) {
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
    options.note(`${scenario.name}: profiling ${bed.devices.length} devices`);
    const devices = bed.devices.map(({ ref }) => ref);
    const segments = findSegments(model);
    return bed.guard(async () => {
      const descriptions = await Promise.all(devices.map((device) => device.ask.describe()));
      const found = await profileCluster(devices, descriptions, {
        ...{ model, segments, microBatches, optimizer, budgetMs: options.profileMs },
        ...{ split: true, sharings: SHARD_KINDS, now: () => performance.now() },
      });
      const sharded = shardedSegments(
        model,
        segments,
        found.segments.map(({ stashBytes }) => stashBytes),
      );
      return {
        microBatches,
        profile: found.profile,
        segments: found.segments.map((segment, i) => ({ ...segment, sharded: sharded[i]! })),
        devices: descriptions.map(({ name, memoryBytes }, i) => ({
          ...{ id: `${i}`, name, memoryBytes },
          power: DEVICE_CLASSES[scenario.devices[i]!.class].power,
        })),
      };
    });
  }

  /** All plans, each once where several have the same, in as many rounds as there are repeats. */
  async run(candidates: readonly Candidate[]): Promise<ReadonlyMap<string, Found>> {
    const { scenario, training, options } = this;
    const distinct = candidates.filter((each) => each.refused === null && !standIn(each, candidates));
    const found = new Map(distinct.map(({ name }): [string, Found] => [name, { runs: [], failed: null }]));
    for (let round = 0; round < options.repeats; round++) {
      for (const { name, plan } of distinct) {
        const own = found.get(name)!;
        if (own.failed !== null) continue;
        options.note(`${scenario.name}: ${name}, ${round + 1} of ${options.repeats}`);
        try {
          own.runs.push(await runOnBed(this.bed, plan!, training, options));
        } catch (error) {
          // A plan whose prediction was wrong is a finding, and the others still have their turn.
          own.failed = (error as Error).message;
          options.note(`${scenario.name}: ${name} failed: ${own.failed}`);
          if (error instanceof TestbedError) await this.reopen();
        }
      }
    }
    return found;
  }

  private async reopen(): Promise<void> {
    await this.bed.close();
    await this.open();
  }
}
