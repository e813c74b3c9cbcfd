/**
 * Lives simulated runs: `bun test/actors/recovery/sim/live.ts 17` lives that of seed 17 and prints what happened in it;
 * with two numbers it lives all from the first to the second, and prints one line of JSON for each that broke a promise.
 *
 * The promise: whatever is done to devices, a run ends with the bits of the same run undisturbed, tells each step once and
 * with the same loss, waits for nothing that will never come, and leaves nothing behind on devices that are alive.
 */

import { seededRandom } from "../../../../runtime/random.ts";
import { type Lived, liveSeeds } from "../../../sim/seeds.ts";
import { drawFaults, type Fault } from "./faults.ts";
import { mostCopies } from "./phases.ts";
import { pick, type Shape, shapeOf } from "./shapes.ts";
import { type Outcome, TrainingWorld } from "./world.ts";

/** Runs to disturb; each has to be made undisturbed once. */
const SHAPES = 60;

/** Of steps that somebody has at once: one on its way, one that is kept, and one that is left from an earlier deployment. */
const MOST_COPIES = 3;

export interface Disturbed extends Lived {
  /** What was done, in words. */
  readonly faults: readonly Fault[];
  readonly recoveries: number;
}

interface Undisturbed extends Outcome {
  readonly shape: Shape;
  readonly ms: number;
}

const undisturbed = new Map<number, Promise<Undisturbed>>();

/** The run of a shape that nothing is done to. */
function expected(number: number): Promise<Undisturbed> {
  const known = undisturbed.get(number) ?? liveUndisturbed(shapeOf(number));
  undisturbed.set(number, known);
  return known;
}

async function liveUndisturbed(shape: Shape): Promise<Undisturbed> {
  const world = new TrainingWorld(shape, 1, 1, 0);
  const outcome = await world.run(world.train([]), shape.name);
  const ms = world.clock.now() - 1_000_000;
  const held = await world.end();
  if (held.length > 0 || world.told.length > 0) throw new Error(`${shape.name}: ${held.join(", ")}`);
  return { ...outcome, shape, ms };
}

/** @param faults in place of those that the seed draws. */
export async function live(seed: number, verbose = false, faults?: readonly Fault[]): Promise<Disturbed> {
  const random = seededRandom(seed + 77);
  const spared = await expected(random.integer(SHAPES));
  const { shape } = spared;
  const copies = pick(random, [1, 1, 2]);
  const spare = pick(random, [0, 0, 1]);
  const devices = shape.plan.devices.length + spare;
  const done = faults ?? drawFaults(random, devices, spared.ms);
  const world = new TrainingWorld(shape, seed, copies, spare, verbose);
  const { trace } = world;
  trace.note(`${shape.name}; ${copies} copies, ${devices} devices, ${JSON.stringify(done)}`);
  const breaches: string[] = [];
  mostCopies();
  try {
    const outcome = await world.run(world.train(done), "the run");
    breaches.push(...differences(outcome, spared));
    if (world.stepped.some((step, i) => step !== i)) breaches.push(`steps were told as ${world.stepped}`);
  } catch (error) {
    const { code, message, stack } = error as Error & { code?: string };
    const left = world.struck.size < devices;
    if (left || code !== "DEVICE_LOST") breaches.push(`it ended with ${code ?? stack}: ${message}`);
  }
  const kept = mostCopies();
  if (kept > MOST_COPIES) breaches.push(`somebody had copies of ${kept} steps`);
  const untold = world.untold();
  if (untold.length > 0) breaches.push(`nobody was told that ${untold} is gone`);
  const isSafe = world.wasKept === true && world.struck.size <= Math.min(copies, devices - 1);
  if (isSafe && world.told.some(({ fromCheckpoint }) => fromCheckpoint)) {
    breaches.push(`it went back to a checkpoint; lost ${[...world.struck]}, and there were ${copies} copies`);
  }
  try {
    breaches.push(...(await world.end()));
  } catch (error) {
    breaches.push((error as Error).message);
  }
  return {
    ...{ breaches, lines: trace.lines, digest: trace.digest, faults: done },
    recoveries: world.told.length,
  };
}

function differences(outcome: Outcome, wanted: Outcome): string[] {
  const found: string[] = [];
  outcome.losses.forEach((loss, step) => {
    if (loss !== wanted.losses[step])
      found.push(`the loss of step ${step} is ${loss}, not ${wanted.losses[step]}`);
  });
  if (outcome.validation !== wanted.validation) {
    found.push(`the validation loss is ${outcome.validation}, not ${wanted.validation}`);
  }
  const names = new Set([...Object.keys(outcome.state), ...Object.keys(wanted.state)]);
  for (const name of names) {
    const [own, other] = [outcome.state[name]?.bytes, wanted.state[name]?.bytes];
    if (!own || !other || Buffer.compare(own, other) !== 0) found.push(`${name} has other bits`);
  }
  return found;
}

if (import.meta.main) await liveSeeds(live);
