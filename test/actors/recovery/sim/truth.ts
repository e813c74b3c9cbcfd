/**
 * What a disturbed run promises, held against what it has told and made: pure. Its result is that of the same run
 * undisturbed, and its events say what has happened.
 */

import type { Checkpoint } from "../../../../actors/checkpoint.ts";
import type { TrainEvent } from "../../../../actors/train-events.ts";
import type { Tensor } from "../../../../protocols/tensor.ts";
import { isNoise } from "../noise.ts";
import type { Chronicle, Told } from "./chronicle.ts";

/** What a run came to. */
export interface Outcome {
  readonly losses: ReadonlyMap<number, number>;
  readonly validations: ReadonlyMap<number, number>;
  /** All that training has changed, by name. */
  readonly state: ReadonlyMap<string, Tensor>;
}

/** What runs whose devices share stages differ by, where they go over to other ones. */
const TOLERANCE = 1e-5;

export function outcomeOf(record: Chronicle, { parameters, optimizer }: Checkpoint): Outcome {
  return {
    losses: new Map(record.of("step").map(({ step, loss }) => [step, loss])),
    validations: new Map(record.of("validation").map(({ step, loss }) => [step, loss])),
    state: new Map([...parameters, ...optimizer]),
  };
}

/** @param exact whether nothing may differ by a bit. */
export function differences(outcome: Outcome, wanted: Outcome, exact: boolean): string[] {
  const found: string[] = [];
  const differs = (own: number, other: number) =>
    exact ? own !== other : !(Math.abs(own - other) <= TOLERANCE * Math.max(1, Math.abs(other)));
  for (const what of ["losses", "validations"] as const) {
    for (const [step, value] of outcome[what]) {
      const other = wanted[what].get(step);
      if (other !== undefined && differs(value, other)) {
        found.push(`of the ${what} that of step ${step} is ${value}, not ${other}`);
      }
    }
  }
  for (const name of new Set([...outcome.state.keys(), ...wanted.state.keys()])) {
    const [own, other] = [outcome.state.get(name), wanted.state.get(name)];
    if (!own || !other) found.push(`${name} is in one of both states`);
    else if (!exact && isNoise(name)) continue;
    else if (exact || own.dtype !== "f32") {
      if (Buffer.compare(own.bytes, other.bytes) !== 0) found.push(`${name} has other bits`);
    } else if (own.f32().some((value, i) => differs(value, other.f32()[i]!))) {
      found.push(`${name} has other values`);
    }
  }
  return found;
}

export interface Circumstances {
  /** Names of devices that something has happened to that may have taken them away. */
  readonly struck: ReadonlySet<string>;
  /** Steps that all stages have committed, in order. */
  readonly committed: readonly number[];
  /** Steps of the run. */
  readonly steps: number;
  readonly killed: number;
  /** Whether nothing was done to devices and lines that could cost a step. */
  readonly isCalm: boolean;
}

/** What of that which a run has told is not so. */
export function untruths(
  record: Chronicle,
  { struck, committed, steps, killed, isCalm }: Circumstances,
): string[] {
  const found: string[] = [];
  let hasStepped = false;
  for (const [life, events] of record.lives.entries()) {
    const told = events.filter((event): event is Told<"step"> => event.event === "step");
    const taken = takenOver(events);
    const begin = taken?.step ?? 0;
    const said = told.map(({ step }) => step);
    // One that has made its plan may be killed before it has said anything else.
    if (hasStepped && !taken && events.some(({ event }) => event !== "plan"))
      found.push(`coordinator ${life + 1} did not go on with the run`);
    hasStepped ||= told.length > 0;
    if (isCalm && taken && taken.steps_lost > 1)
      found.push(`coordinator ${life + 1} repeats ${taken.steps_lost} steps`);
    if (said.some((step, i) => step !== begin + i + 1)) {
      found.push(`coordinator ${life + 1}, which begins behind step ${begin}, told of steps ${said}`);
    }
  }
  const done = record.of("done");
  if (done.length !== 1) found.push(`it said ${done.length} times that it is done`);
  for (const { steps: said } of done) if (said !== steps) found.push(`it made ${said} steps of ${steps}`);
  const lost = [...record.of("recovered").flatMap((event) => event.lost), ...(done[0]?.devices_lost ?? [])];
  for (const name of new Set(lost)) {
    // One that was lost before it said its name is told of by its number.
    if (!struck.has(name) && !/^device \d+$/.test(name)) found.push(`${name} is said to be lost`);
  }
  const taken = record.lives.flatMap((events) => takenOver(events) ?? []);
  const told = [...record.of("recovered"), ...taken].reduce((sum, { steps_lost }) => sum + steps_lost, 0);
  const repeated = committed.length - new Set(committed).size;
  // Of a step that a coordinator was killed at, nobody knows whether it was committed; nor what it would have told.
  if (killed > 0 ? repeated > told : repeated !== told) {
    found.push(`${repeated} steps were repeated, and ${told} told of`);
  }
  return found;
}

/** What a coordinator has told of the run that it went on with; what it tells behind a pause is another thing. */
function takenOver(events: readonly TrainEvent[]): Told<"resumed"> | undefined {
  const first = events.find(({ event }) => event === "resumed" || event === "paused");
  return first?.event === "resumed" ? first : undefined;
}
