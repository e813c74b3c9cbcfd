/**
 * Faults in words, for `--chaos`: `kill device-2 at step 20`, `kill device-2 at step 20 micro-batch 3 backward`,
 * `slow device-1 4x at step 5`, several separated by `;`. Steps count from 1, as a run tells them, and micro-batches from 0,
 * as timelines do.
 */

import { ACTIONS, type Fault, MICRO_BATCH_PHASES, PHASES, type Phase } from "../actors/chaos/fault.ts";
import { UsageError } from "./command.ts";
import { nearest } from "./nearest.ts";
import { list, type OptionSpec } from "./options.ts";

const EXAMPLE = "kill device-2 at step 20";

export const CHAOS_OPTION: OptionSpec = {
  value: "faults",
  help: `break devices to see what a run survives: "${EXAMPLE}"; also stop, hang, cut, slow device-1 4x, and micro-batch 3 backward behind the step`,
  repeated: true,
};

/** What a run has that faults can be at. */
export interface FaultRange {
  /** Steps that are done already. */
  readonly done: number;
  readonly steps: number;
  readonly microBatches: number;
}

/** @throws UsageError in one line that quotes the fault. */
export function readFaults(texts: readonly string[], range: FaultRange): Fault[] {
  return texts
    .flatMap((text) => text.split(";"))
    .map((text) => text.trim().replace(/\s+/g, " "))
    .filter((text) => text !== "")
    .map((text) => readFault(text, range));
}

/** @throws UsageError for a fault of a device that there is not. */
export function requireDevices(faults: readonly Fault[], names: readonly string[]): void {
  const other = faults.find(({ device }) => !names.includes(device));
  if (!other) return;
  throw new UsageError(
    `--chaos: there is no device "${other.device}"; the nearest is ${nearest(other.device, names)}, all are ${list(names)}`,
  );
}

function readFault(text: string, range: FaultRange): Fault {
  const wrong = (what: string) => new UsageError(`--chaos "${text}": ${what}`);
  // Names may have spaces: a device's ends at the last "at".
  const parts = /^(\S+) (.+?)(?: ([\d.]+)x)? at ((?!.* at ).*)$/.exec(text) ?? [];
  const [, , device, times, where] = parts;
  const [first = ""] = text.split(" ");
  if (!isOneOf(ACTIONS, first)) {
    throw wrong(
      `"${first}" is nothing to do to a device; the nearest is ${nearest(first, ACTIONS)}, all are ${list(ACTIONS)}`,
    );
  }
  if (device === undefined || where === undefined)
    throw wrong(`expected what, which device and when, as in "${EXAMPLE}"`);
  const action = first;
  const point = readPoint(where, range, wrong);
  if (action !== "slow") {
    if (times !== undefined) throw wrong(`${times}x is for slow: ${action} has no factor`);
    return { action, device, ...point };
  }
  const factor = Number(times);
  if (!(factor > 1 && factor <= 1000)) {
    throw wrong(
      `how slow? A factor above 1 and at most 1000 is needed, as in "slow ${device} 4x at step ${point.step + 1}"`,
    );
  }
  return { action, device, factor, ...point };
}

type Wrong = (what: string) => UsageError;

/** What stands behind "at". */
function readPoint(
  text: string,
  range: FaultRange,
  wrong: Wrong,
): Pick<Fault, "step" | "microBatch" | "phase"> {
  const { done, steps, microBatches } = range;
  const words = text.split(" ");
  const point: { step: number; microBatch?: number; phase?: Phase } = { step: -1 };
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (word === "step") {
      point.step = whole(words.shift(), "steps", done + 1, steps, wrong) - 1;
    } else if (word === "micro-batch") {
      point.microBatch = whole(words.shift(), "micro-batches", 0, microBatches - 1, wrong);
    } else if (isOneOf(PHASES, word)) {
      point.phase = word;
    } else {
      const words = ["step", "micro-batch", ...PHASES];
      throw wrong(
        `"${word}" is no point of a run; the nearest is ${nearest(word, words)}, all are ${list(words)}`,
      );
    }
  }
  if (point.step < 0) throw wrong(`at which step? As in "${EXAMPLE}"`);
  if (point.microBatch !== undefined && point.phase && !MICRO_BATCH_PHASES.includes(point.phase)) {
    throw wrong(`${point.phase} is of no micro-batch: it comes once a step at most`);
  }
  return point;
}

function whole(word: string | undefined, what: string, from: number, to: number, wrong: Wrong): number {
  const value = /^\d+$/.test(word ?? "") ? Number(word) : Number.NaN;
  if (value >= from && value <= to) return value;
  throw wrong(`${what} of this run are ${from} to ${to}${word === undefined ? "" : `, not ${word}`}`);
}

function isOneOf<T extends string>(all: readonly T[], word: string): word is T {
  return (all as readonly string[]).includes(word);
}
