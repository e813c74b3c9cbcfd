/** Where a run's checkpoints go, how many are kept, and which one it goes on from: the options that say so. */

import { isRemotePlace } from "../actors/checkpoint/store.ts";
import { hasCheckpoints } from "../actors/checkpoint.ts";
import { CheckpointError } from "../actors/checkpoint-state.ts";
import { isNatsPlace, type NatsPlace, natsPlace, PlaceError } from "../actors/journal/nats-place.ts";
import type { TrainOptions } from "../actors/train.ts";
import type { Files } from "../runtime/platform/files.ts";
import { UsageError } from "./command.ts";
import { JOURNAL_FILE } from "./journal.ts";
import { withoutSlash } from "./model-options.ts";
import type { Options, OptionTable } from "./options.ts";

const DEFAULTS = { checkpointEvery: 250, keepCheckpoints: 1 } as const;

export const CHECKPOINT_OPTIONS: OptionTable = {
  "checkpoint-every": {
    value: "N",
    help: `steps between checkpoints (default: ${DEFAULTS.checkpointEvery})`,
  },
  "keep-checkpoints": {
    value: "N",
    help: `checkpoints that are kept, with the newest (default: ${DEFAULTS.keepCheckpoints}, or as before the resume)`,
  },
  checkpoint: {
    value: "place",
    help: "where checkpoints go: a folder, s3://<bucket>/<prefix> or nats://<host>/<name> (default: checkpoint, where results go; with --journal where that is)",
  },
  journal: {
    value: "nats://host:port/name",
    help: "keep the run's journal on a NATS server with JetStream: the same command again stands by, and takes the run over when its coordinator has been silent for the --patience",
  },
};

/**
 * @param out folder of the results. @param resume the checkpoint that the run goes on from, and how many were kept then.
 * @throws UsageError where there are checkpoints that it does not go on from.
 */
export async function checkpointsOf(
  options: Options,
  out: string,
  { resume, kept }: { readonly resume: string | null; readonly kept: number | undefined },
  files: Files,
): Promise<Pick<TrainOptions, "checkpoint" | "checkpointEvery" | "keepCheckpoints">> {
  const asked = options.text("checkpoint");
  const journal = options.text("journal");
  const usual = journal === undefined ? `${out}/checkpoint` : natsPlaceOf("journal", journal).address;
  if (asked !== undefined && isNatsPlace(asked)) natsPlaceOf("checkpoint", asked);
  const place = asked === undefined ? usual : withoutSlash(asked);
  if (asked !== undefined && place !== resume && (await hasCheckpoints(files, place))) {
    throw new UsageError(
      `${place} has checkpoints of another run: choose another place, or go on with --resume ${place}`,
    );
  }
  return {
    checkpoint: place,
    checkpointEvery: options.whole("checkpoint-every", { from: 1 }) ?? DEFAULTS.checkpointEvery,
    keepCheckpoints: options.whole("keep-checkpoints", { from: 1 }) ?? kept ?? DEFAULTS.keepCheckpoints,
  };
}

/** @throws UsageError for an address that an option was given and that names no place. */
export function natsPlaceOf(option: "journal" | "checkpoint" | "resume", address: string): NatsPlace {
  try {
    return natsPlace(address);
  } catch (error) {
    throw error instanceof PlaceError ? new UsageError(`--${option} ${error.message}`) : error;
  }
}

/** How a run is gone on with that has checkpoints: `--resume` and what belongs to it. */
export function resumeArguments(checkpoint: string, out: string, run: TrainOptions): string[] {
  const { keepCheckpoints = DEFAULTS.keepCheckpoints } = run;
  const keep =
    keepCheckpoints === DEFAULTS.keepCheckpoints ? [] : ["--keep-checkpoints", `${keepCheckpoints}`];
  if (checkpoint !== run.checkpoint) return ["--resume", checkpoint, ...keep];
  if (checkpoint === `${out}/checkpoint`) return ["--resume", out, ...keep];
  return ["--resume", checkpoint, "--checkpoint", checkpoint, "--out", out, ...keep];
}

/** The checkpoint of a run's folder, or the place itself. @throws CheckpointError when it is not there, UsageError. */
export async function checkpointPlace(files: Files, from: string): Promise<string> {
  const place = withoutSlash(from);
  if (isNatsPlace(place)) natsPlaceOf("resume", place);
  if (isRemotePlace(place)) return place;
  const inside = `${place}/checkpoint`;
  if ((await files.exists(inside)) || (await hasCheckpoints(files, inside))) return inside;
  if ((await files.isFolder(place)) && !(await files.exists(`${place}/state.json`))) {
    const journalled = await files.exists(`${place}/${JOURNAL_FILE}`);
    throw new CheckpointError(
      "missing",
      journalled
        ? `${place} has no checkpoint yet: --resume ${place} with nothing else goes on from its journal`
        : `${place} is neither a run nor a checkpoint: it has no checkpoint folder`,
    );
  }
  return place;
}

/** The run a checkpoint belongs to by its place; undefined for one that stands alone. */
export function runFolder(checkpoint: string): string | undefined {
  return isRemotePlace(checkpoint) ? undefined : /^(.+)\/checkpoint$/.exec(checkpoint)?.[1];
}
