/**
 * Faults in words, for `--chaos`: `kill device-2 at step 20`, `kill device-2 at step 20 micro-batch 3 backward`,
 * `slow device-1 4x at step 5 for 10s`, `random every 20s seed 7`, several separated by `;`. Steps count from 1, as a run tells
 * them, and micro-batches from 0, as timelines do.
 */

import { ACTIONS, type Fault, MICRO_BATCH_PHASES, PHASES, type Phase } from "../actors/chaos/fault.ts";
import type { FaultSeries } from "../actors/chaos/series.ts";
import { UsageError } from "./command.ts";
import { nearest } from "./nearest.ts";
import { list, type OptionSpec } from "./options.ts";

const EXAMPLE = "kill device-2 at step 20";
const SERIES_EXAMPLE = "random every 20s seed 7";
/** How long each fault of a series lasts, and what its seed is, where that is not said. */
const SERIES_DEFAULTS = { forMs: 10_000, seed: 1 } as const;

export const CHAOS_OPTION: OptionSpec = {
  value: "faults",
  help:
    `break devices to see what a run survives: "${EXAMPLE}", once, also where that step is made again; also stop, hang, cut, ` +
    `slow device-1 4x; behind the step micro-batch 3 backward, and for 10s, after which it is over and a device that was started here is started again; and "${SERIES_EXAMPLE}", or every 30 steps: each over after 10s`,
  repeated: true,
};

/** What a run has that faults can be at. */
export interface FaultRange {
  readonly steps: number;
  readonly microBatches: number;
}

export interface ChaosSettings {
  readonly faults: readonly Fault[];
  readonly series: readonly FaultSeries[];
}

/** @throws UsageError in one line that quotes the fault. */
export function readChaos(texts: readonly string[], range: FaultRange): ChaosSettings {
  const all = texts.flatMap((text) => {
    const parts = text.split(";").map((part) => part.trim().replace(/\s+/g, " "));
    const named = parts.filter((part) => part !== "");
    if (named.length === 0)
      throw new UsageError(`--chaos "${text}": it names no fault, as "${EXAMPLE}" does`);
    return named;
  });
  const isSeries = (text: string) => text.split(" ")[0] === "random";
  return {
    faults: all.filter((text) => !isSeries(text)).map((text) => readFault(text, range)),
    series: all.filter(isSeries).map(readSeries),
  };
}

/** @throws UsageError for a fault of a device that there is not. */
export function requireDevices(faults: readonly Fault[], names: readonly string[]): void {
  const other = faults.find(({ device }) => !names.includes(device));
  if (!other) return;
  throw new UsageError(
    `--chaos: there is no device "${other.device}"; the nearest is ${nearest(other.device, names)}, all are ${list(names)}`,
  );
}

/** @param own names of devices that were started here. @throws UsageError for one that is killed for a while and is none. */
export function requireOwn(faults: readonly Fault[], own: readonly string[]): void {
  const other = faults.find(
    ({ action, device, forMs }) => action === "kill" && forMs !== undefined && !own.includes(device),
  );
  if (!other) return;
  throw new UsageError(
    `--chaos "${faultText(other)}": ${other.device} was not started here, and is not started again from here: leave "for" out`,
  );
}

/** A fault in words, as it may be given to `--chaos`. */
export function faultText({ action, device, factor, step, microBatch, phase, forMs }: Fault): string {
  return [
    ...[action, device, ...(factor === undefined ? [] : [`${factor}x`]), `at step ${step + 1}`],
    ...(microBatch === undefined ? [] : [`micro-batch ${microBatch}`]),
    ...(phase === undefined ? [] : [phase]),
    ...(forMs === undefined ? [] : [`for ${forMs % 1000 === 0 ? `${forMs / 1000}s` : `${forMs}ms`}`]),
  ].join(" ");
}

function readFault(text: string, range: FaultRange): Fault {
  const wrong = (what: string) => new UsageError(`--chaos "${text}": ${what}`);
  const [, rest = "", time] = /^(.*?)(?: for (\S+))?$/.exec(text)!;
  // Names may have spaces: a device's ends at the last "at".
  const parts = /^(\S+) (.+?)(?: ([\d.]+)x)? at ((?!.* at ).*)$/.exec(rest) ?? [];
  const [, , device, times, where] = parts;
  const [first = ""] = text.split(" ");
  if (!isOneOf(ACTIONS, first)) {
    throw wrong(
      `"${first}" is nothing to do to a device; the nearest is ${nearest(first, ACTIONS)}, all are ${list(ACTIONS)}, and random`,
    );
  }
  if (device === undefined || where === undefined)
    throw wrong(`expected what, which device and when, as in "${EXAMPLE}"`);
  const action = first;
  const passing = time === undefined ? {} : { forMs: milliseconds(time, wrong) };
  const point = { ...readPoint(where, range, wrong), ...passing };
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

function readSeries(text: string): FaultSeries {
  const wrong = (what: string) => new UsageError(`--chaos "${text}": ${what}`);
  const [, every, steps, seed, time] =
    /^random every (\S+?)(?: (steps?))?(?: seed (\S+))?(?: for (\S+))?$/.exec(text) ?? [];
  if (every === undefined) {
    throw wrong(`expected how often, as in "${SERIES_EXAMPLE}" or "random every 30 steps seed 7 for 5s"`);
  }
  return {
    every: steps ? { steps: whole(every, "steps", 1, MOST, wrong) } : { ms: milliseconds(every, wrong) },
    seed: seed === undefined ? SERIES_DEFAULTS.seed : whole(seed, "seeds", 0, MOST, wrong),
    forMs: time === undefined ? SERIES_DEFAULTS.forMs : milliseconds(time, wrong),
  };
}

const MOST = 2 ** 32 - 1;
const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, min: 60_000 };
const MOST_MS = 86_400_000;

function milliseconds(text: string, wrong: Wrong): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)(ms|s|min)$/.exec(text) ?? [];
  const ms = Math.round(Number(number) * (UNITS[unit ?? ""] ?? Number.NaN));
  if (Number.isNaN(ms)) throw wrong(`"${text}" is no time, such as 500ms, 20s or 2min`);
  if (ms < 1) throw wrong(`${text} is too short: 1ms is the least`);
  if (ms > MOST_MS)
    throw wrong(`${text} is too long: ${MOST_MS / UNITS.min!}min, which is a day, is the most`);
  return ms;
}

type Wrong = (what: string) => UsageError;

/** What stands behind "at". */
function readPoint(
  text: string,
  range: FaultRange,
  wrong: Wrong,
): Pick<Fault, "step" | "microBatch" | "phase"> {
  const { steps, microBatches } = range;
  const words = text.split(" ");
  const point: { step: number; microBatch?: number; phase?: Phase } = { step: -1 };
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (word === "step") {
      // Those of steps that a resumed run has done have come.
      point.step = whole(words.shift(), "steps", 1, steps, wrong) - 1;
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
  const are =
    to === MOST ? `${what} are whole numbers from ${from} up` : `${what} of this run are ${from} to ${to}`;
  throw wrong(`${are}${word === undefined ? "" : `, not ${word}`}`);
}

function isOneOf<T extends string>(all: readonly T[], word: string): word is T {
  return (all as readonly string[]).includes(word);
}
