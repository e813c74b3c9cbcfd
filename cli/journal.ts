/**
 * A run's journal in its folder, and what follows from finding one: the same command, or --resume, goes on with a run whose
 * coordinator was lost, with the options that it was given then.
 */

import { hasCheckpoints } from "../actors/checkpoint.ts";
import { CheckpointError } from "../actors/checkpoint-state.ts";
import { historyOf, type RunHistory } from "../actors/journal/history.ts";
import type { Journal } from "../actors/journal/journal.ts";
import { RunJournal } from "../actors/journal/run-journal.ts";
import { SqliteJournal } from "../actors/journal/sqlite.ts";
import type { Random } from "../runtime/index.ts";
import type { Files } from "../runtime/platform/files.ts";
import { lock } from "../runtime/platform/lock.ts";
import { UsageError } from "./command.ts";
import { withoutSlash } from "./model-options.ts";
import { list, Options } from "./options.ts";

/** In the folder of a run. */
export const JOURNAL_FILE = "journal.sqlite";
/** What does not belong to a run, but to whoever looks at it or wants it broken; and secrets. */
const NOT_THE_RUNS: readonly string[] = [
  ...["resume", "out", "json", "trace", "print", "print-to"],
  ...["fresh-profile", "chaos", "token", "journal"],
];

/** A run that is not done, and nobody leads. */
export interface Abandoned {
  /** Its own, with those that were given now. */
  readonly options: Options;
  readonly history: RunHistory;
}

/**
 * The run to go on with that these options mean: that of --resume, unless something is given anew, which makes it another
 * run behind a checkpoint; or that of --out, by the same command.
 * @param tell is told of damage.
 * @returns null where there is none.
 * @throws UsageError for a folder with a run by another command, CheckpointError for one with nothing to go on with, FileError
 *   where somebody leads it.
 */
export async function abandonedRun(
  given: Options,
  files: Files,
  tell: (damage: string) => void,
): Promise<Abandoned | null> {
  const named = given.text("resume") ?? given.text("out");
  const folder = named === undefined ? undefined : withoutSlash(named).replace(/\/checkpoint$/, "");
  if (folder === undefined || !(await files.exists(`${folder}/${JOURNAL_FILE}`))) return null;
  const release = await lock(`${folder}/.lock`);
  try {
    const journal = await openJournal(folder, files, tell);
    const history = historyOf((await journal.read()).records);
    await journal.close();
    const path = `${folder}/${JOURNAL_FILE}`;
    const planned = history?.planned ?? null;
    if (planned === null && given.has("resume") && !(await hasCheckpoints(files, `${folder}/checkpoint`))) {
      const nothing = `${path} has no run that has begun, and there is no checkpoint: start the run anew`;
      throw new CheckpointError("missing", `${folder} has nothing to go on with: ${nothing}`);
    }
    // A run that has begun leaves its plan in the folder.
    if (history === null && (await files.exists(`${folder}/plan.json`)))
      tell(`${path} has no run in it: what that had come to behind its last checkpoint is lost`);
    if (history === null || planned === null || history.done) return null;
    const recorded = recordedOptions(history);
    const other = otherOptions(history, given);
    if (given.has("resume")) {
      if (other.some((name) => given.has(name))) return null;
    } else if (other.length > 0) {
      throw new UsageError(
        `${folder} holds a run that is not done, with another ${list(other.map((name) => `--${name}`))}: ` +
          `choose another folder, or go on with --resume ${folder}`,
      );
    }
    const all = new Map([...recorded, ...given.given]);
    all.delete("resume");
    all.set("out", [folder]);
    for (const name of ["checkpoint", "checkpoint.previous"]) {
      if (await files.exists(`${folder}/${name}`)) all.set("resume", [folder]);
    }
    return { options: new Options(all), history };
  } finally {
    await release();
  }
}

/**
 * Opens the journal of a run that goes on, or begins one. The folder's lock is held.
 * @param led the journal in another place, and the epoch of whoever leads the run there; null for that of the folder.
 */
export async function runJournal(
  folder: string,
  files: Files,
  options: Options,
  abandoned: Abandoned | null,
  random: Random,
  led: { readonly journal: Journal; readonly epoch: number } | null,
): Promise<RunJournal> {
  const { journal, epoch } = led ?? { journal: await openJournal(folder, files, () => {}), epoch: 0 };
  try {
    if (abandoned) return await RunJournal.goOn(journal, epoch);
    const settings = { options: Object.fromEntries(ofTheRun(options)) };
    return await RunJournal.begin(journal, uniqueName(random), settings, epoch);
  } catch (error) {
    await journal.close();
    throw error;
  }
}

/** Of so many bytes that no two are the same. */
const NAME_BYTES = 8;

export function uniqueName(random: Random): string {
  return [...random.bytes(NAME_BYTES)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function openJournal(folder: string, files: Files, tell: (damage: string) => void): Promise<Journal> {
  const journal = await SqliteJournal.open(files, `${folder}/${JOURNAL_FILE}`);
  const { damage } = await journal.read();
  if (damage !== null) tell(damage);
  return journal;
}

/** What a run was given when it began. */
export function recordedOptions({ settings }: RunHistory): Map<string, readonly string[]> {
  return new Map(Object.entries(settings.options as Record<string, readonly string[]>));
}

/** Names of the run's options that are others now. */
export function otherOptions(history: RunHistory, given: Options): string[] {
  const [recorded, now] = [recordedOptions(history), ofTheRun(given)];
  const isSame = (name: string) => JSON.stringify(recorded.get(name)) === JSON.stringify(now.get(name));
  return [...new Set([...recorded.keys(), ...now.keys()])].filter((name) => !isSame(name));
}

function ofTheRun(options: Options): Map<string, readonly string[]> {
  return new Map([...options.given].filter(([name]) => !NOT_THE_RUNS.includes(name)));
}
