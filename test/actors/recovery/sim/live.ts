/**
 * Lives simulated runs: `bun test/actors/recovery/sim/live.ts 17` lives that of seed 17 and prints what happened in it;
 * with two numbers it lives all from the first to the second, and prints one line of JSON for each that broke a promise.
 *
 * The promise: whatever is done to devices and coordinators, and whoever comes, a run ends with the result of the same run
 * undisturbed, tells what has happened and nothing else, waits for nothing that will never come, and leaves nothing behind
 * on devices that are alive.
 */

import { readCheckpoint } from "../../../../actors/checkpoint.ts";
import { isShort } from "../../../../actors/scheduler/dealt.ts";
import type { Plan } from "../../../../actors/scheduler/plan.ts";
import { seededRandom } from "../../../../runtime/random.ts";
import { type Lived, liveSeeds } from "../../../sim/seeds.ts";
import type { Chronicle } from "./chronicle.ts";
import { GRACE_MS } from "./cluster.ts";
import { CHECKPOINT } from "./coordinator.ts";
import { drawFate } from "./fates.ts";
import type { Event, Fault, Harm } from "./faults.ts";
import { committedSteps, fewestWorkers, mostCopies, strays, timesLoaded } from "./phases.ts";
import { pick, type Shape, shapeOf } from "./shapes.ts";
import { differences, type Outcome, outcomeOf, untruths } from "./truth.ts";
import { TrainingWorld } from "./world.ts";

/** Runs to disturb; each has to be made undisturbed once. */
const SHAPES = 60;

/**
 * Of steps that somebody has at once: one that is kept, one on its way to others, one that is saved, one that is about to be
 * given up, and one that is kept because the coordinator is gone.
 */
const MOST_COPIES = 5;

/** Likewise of what others hold: one that is kept, one on its way, and one that is about to be given up. */
const MOST_REPLICAS = 3;

/** Of devices that have little memory, so many times as much as the plan needs that it begins with. */
const ROOM = 1.5;

/** What costs no step, besides one for a coordinator that is killed. */
const CALM: readonly (Harm | Event)["kind"][] = ["slow", "coordinator", "migrate", "join", "return"];

export interface Disturbed extends Lived {
  /** What was done, in words. */
  readonly faults: readonly Fault[];
  /** By recovery. */
  readonly lost: readonly (readonly string[])[];
}

interface Undisturbed extends Outcome {
  readonly shape: Shape;
  /** That its plan needs on the device where it needs most. */
  readonly needsBytes: number;
}

const undisturbed = new Map<number, Promise<Undisturbed>>();

/** The run of a shape that nothing is done to. */
function expected(number: number): Promise<Undisturbed> {
  const known = undisturbed.get(number) ?? liveUndisturbed(shapeOf(number));
  undisturbed.set(number, known);
  return known;
}

async function liveUndisturbed(shape: Shape): Promise<Undisturbed> {
  const world = new TrainingWorld({ shape, seed: 1, copies: 1, spare: 0, waits: false });
  await world.run(world.train([]), shape.name);
  const outcome = await resultOf(world);
  const held = await world.end();
  if (held.length > 0 || world.record.of("recovered").length > 0) {
    throw new Error(`${shape.name}: ${held.join(", ")}`);
  }
  const { copies } = world.record.of("done")[0]!;
  if (copies?.points === 0) throw new Error(`${shape.name}: copies were never complete`);
  return { ...outcome, shape, needsBytes: Math.max(...needsOf(world.record.plan!).values()) };
}

/** @param faults in place of those that the seed draws. */
export async function live(seed: number, verbose = false, faults?: readonly Fault[]): Promise<Disturbed> {
  const random = seededRandom(seed + 77);
  const spared = await expected(random.integer(SHAPES));
  const { shape } = spared;
  const copies = pick(random, [1, 1, 2]);
  const spare = shape.plan ? pick(random, [0, 0, 1]) : 0;
  const waits = random.next() < 0.7;
  const isTight = !shape.plan && random.next() < 0.5;
  const devices = shape.devices + spare;
  const fate = drawFate(random, { devices, steps: shape.steps, workers: shape.workers, waits });
  const { faults: done, early } = faults ? { faults, early: false } : fate;
  const world = new TrainingWorld({
    ...{ shape, seed, copies, spare, waits, verbose },
    // Where many are gone the others have no room for all of the model.
    ...(isTight && { memoryBytes: Math.ceil(ROOM * spared.needsBytes) }),
  });
  const { cluster, record } = world;
  const { trace, struck } = cluster;
  trace.note(`${shape.name}; ${copies} copies, ${devices} devices, waits ${waits}, ${JSON.stringify(done)}`);
  const breaches: string[] = [];
  mostCopies();
  committedSteps();
  fewestWorkers();
  timesLoaded();
  strays();
  try {
    if (await world.run(world.train(done, early), "the run")) {
      const result = await resultOf(world);
      // A checkpoint has the mean of members that train on their own: from there the run is another one.
      // A coordinator that was killed has not told that it went back to one.
      const isAnother = shape.isLocal && (goesBack(record) || (world.killed > 0 && timesLoaded() > 1));
      // Who does a lost member's part beside others of a stage adds up in another order, and so do more members.
      const hasMany = shape.plan?.stages.some((stage) => isShort(stage)) ?? false;
      const exact = shape.exact && !world.hasGrown && !(hasMany && fewestWorkers() < shape.workers);
      if (!isAnother) breaches.push(...differences(result, spared, exact));
      const { killed } = world;
      const { steps } = shape;
      // Such members meet in a commit: where that is broken off, nobody has what they held before, and it goes back further.
      const isCalm =
        !shape.isLocal && world.longestMs < GRACE_MS && done.every(({ what }) => CALM.includes(what.kind));
      breaches.push(...untruths(record, { struck, killed, steps, isCalm, committed: committedSteps() }));
      breaches.push(...world.untold());
    }
  } catch (error) {
    const { code, message, stack } = error as Error & { code?: string };
    breaches.push(`it ended with ${code ?? stack}: ${message}`);
  }
  const kept = mostCopies();
  if (kept.stages > MOST_COPIES) breaches.push(`somebody had copies of ${kept.stages} steps`);
  if (kept.replicas > MOST_REPLICAS) breaches.push(`a replica had copies of ${kept.replicas} steps`);
  // Where there is little memory there is no room for copies.
  const isSafe = !isTight && world.wasKept === true && struck.size <= Math.min(copies, devices - 1);
  if (isSafe && world.longestMs < GRACE_MS && goesBack(record)) {
    breaches.push(`it went back to a checkpoint; lost ${[...struck]}, and there were ${copies} copies`);
  }
  try {
    breaches.push(...(await world.end()));
  } catch (error) {
    breaches.push((error as Error).message);
  }
  const { early: undone, untaken } = strays();
  breaches.push(...undone);
  // One that was given up, and lives, ends later than the run.
  const isGivenUp = cluster.machines.some(({ name, host }) => host.alive && struck.has(name));
  if (!isGivenUp) breaches.push(...untaken);
  return {
    ...{ breaches, lines: trace.lines, digest: trace.digest, faults: done },
    lost: record.of("recovered").map((event) => event.lost),
  };
}

/** Whether it went on from a checkpoint. */
function goesBack(record: Chronicle): boolean {
  return [...record.of("recovered"), ...record.of("resumed")].some((each) => each.from_checkpoint);
}

/** Bytes that a plan needs, by device. */
function needsOf({ stages, devices }: Plan): Map<string, number> {
  const needs = new Map(devices.map(({ id, copyBytes = 0 }) => [id, copyBytes]));
  for (const { device, memoryBytes } of stages.flatMap(({ members }) => members)) {
    needs.set(device, (needs.get(device) ?? 0) + memoryBytes);
  }
  return needs;
}

/** Of a run that is over. */
async function resultOf(world: TrainingWorld): Promise<Outcome> {
  return outcomeOf(world.record, await world.run(readCheckpoint(world.files, CHECKPOINT), "the checkpoint"));
}

if (import.meta.main) await liveSeeds(live);
