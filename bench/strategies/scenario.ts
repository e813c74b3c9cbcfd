/**
 * One scenario from beginning to end: its testbed opened and profiled, every strategy planned, and each plan run. Those
 * that may be the best have further turns while there is time, so that what else the machine does falls on all of them.
 */

import type { Engine } from "../../nn/engine/engine.ts";
import { DEFAULT_ADAMW } from "../../nn/optim/adamw.ts";
import type { Testbed } from "../testbed/testbed.ts";
import { Bench } from "./bench.ts";
import { candidate, type StrategyName } from "./candidates.ts";
import { predictEnergy } from "./energy.ts";
import { within } from "./limit.ts";
import { measuredOf } from "./measure.ts";
import { runReference } from "./reference.ts";
import type { ScenarioResult, StrategyResult } from "./result.ts";
import type { RunSteps, Training } from "./run.ts";
import type { Scenario } from "./scenarios.ts";
import type { ScenarioModel } from "./scenarios-models.ts";
import { select, standIn } from "./selection.ts";

export interface ScenarioOptions extends RunSteps {
  /** Turns of the plans that may be the best; others have one. */
  readonly repeats: number;
  readonly strategies: readonly StrategyName[];
  /** Milliseconds of runs that each device is profiled for. */
  readonly profileMs: number;
  /** Milliseconds in which it ends, whatever has been measured by then. */
  readonly limitMs: number;
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
/** The share of the time that profiling may take. */
const PROFILE_SHARE = 0.6;

/**
 * @param model what the scenario trains, by its name.
 * @throws LimitError when there is no time even for a profile.
 */
export async function runScenario(
  scenario: Scenario,
  model: ScenarioModel & { readonly name: string },
  options: ScenarioOptions,
): Promise<ScenarioResult> {
  const { batch, microBatches } = model;
  const { warmUp, steps, repeats, limitMs } = options;
  const until = performance.now() + limitMs;
  const note = (line: string) => options.note(`${scenario.name}: ${line}`);
  const optimizer = { ...DEFAULT_ADAMW, steps: STEPS };
  const training: Training = { ...(await model.open(SEED)), optimizer, seed: SEED, microBatches };
  const bench = new Bench(scenario, training, { ...options, note });
  try {
    const inputs = await within(limitMs * PROFILE_SHARE, async () => {
      await bench.open();
      return bench.profile();
    });
    note("planning");
    const candidates = options.strategies.map((name) => candidate(name, inputs));
    // Devices of one class on lines alike are one as good as the other.
    const kinds = Object.fromEntries(
      scenario.devices.map(({ class: named, line }, i) => [i, `${named} ${JSON.stringify(line)}`]),
    );
    const { selected, skipped } = select(candidates, { warmUp, steps }, kinds);
    note("reference");
    const reference = await within(until - performance.now(), () =>
      runReference(training, { warmUp, steps }, options.engine),
    );
    const runs = await bench.run(selected, repeats, until);
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
        const same = standIn(each, candidates, kinds);
        const found = runs.get(same?.name ?? name);
        const measured =
          plan && found?.runs.length
            ? measuredOf(same?.plan ?? plan, found.runs, reference, scenario, batch)
            : null;
        return {
          ...{ name, role, plan, refused: refused ?? (measured ? null : (found?.failed ?? null)) },
          skipped: measured ? null : (skipped.get(same?.name ?? name) ?? found?.stopped ?? null),
          ...{ sameAs: same?.name ?? null, measured },
        };
      }),
      energy: predictEnergy(inputs, batch),
    };
  } finally {
    await bench.close();
  }
}
