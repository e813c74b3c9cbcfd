/**
 * `state.json` of a checkpoint: what it says, and the checks when it is read. Plain data; `checkpoint.ts` knows
 * the files around it.
 *
 * Format 1 had all parameters in one file and all of the optimiser's state in another. Since format 2 there may be several
 * of both, and the state has a SHA-256 of its own.
 */

import { sha256 } from "../runtime/platform/hash.ts";

/** Settings by name. Spread an interface into it: `{ ...config }`. */
export type Config = Readonly<Record<string, string | number | boolean>>;

export interface State {
  readonly step: number;
  readonly seed: number;
  readonly model: Config;
  readonly training: Config;
  /** SHA-256 of each of the checkpoint's other files. */
  readonly files: Readonly<Record<string, string>>;
  readonly weightsSha256: string;
  /** Of the coordinator that wrote it, where several may lead the run; left out where nobody else may. */
  readonly epoch?: number;
}

export type CheckpointReason = "missing" | "damaged" | "format" | "other-model" | "occupied";

/** A checkpoint that cannot be read, used or written; `message` is one line for people. */
export class CheckpointError extends Error {
  readonly code = "CHECKPOINT";
  override readonly name = "CheckpointError";
  readonly reason: CheckpointReason;

  constructor(reason: CheckpointReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** How a message ends that says of a checkpoint that it is damaged. */
export const REMEDY = "; use another checkpoint";

/** Raised when an older Troupe could not read what a newer one writes. */
export const FORMAT = 2;
const FORMATS: readonly unknown[] = [1, FORMAT];

export function stateJson(state: State): string {
  const { step, seed, model, training, files, weightsSha256, epoch } = state;
  const json = {
    ...{ format: FORMAT, step, seed, model, training, files, weights_sha256: weightsSha256 },
    ...(epoch !== undefined && { epoch }),
  };
  return `${JSON.stringify({ ...json, sha256: digestOf(json) }, null, 2)}\n`;
}

/** Of the values, however they are laid out. */
function digestOf(json: object): string {
  return sha256([JSON.stringify(json)]);
}

/** @throws CheckpointError when it is not a state, is truncated, or is of another format. `source` names it. */
export function parseState(bytes: Uint8Array, source: string): State {
  const json = parseObject(bytes);
  if (json === undefined) {
    throw new CheckpointError("damaged", `${source} is truncated or not JSON${REMEDY}`);
  }
  if (!FORMATS.includes(json.format)) {
    throw new CheckpointError(
      "format",
      `${source} is of format ${json.format}, this version reads ${FORMATS.join(" and ")}`,
    );
  }
  const { sha256: digest, ...rest } = json;
  if (json.format !== 1 && digest !== digestOf(rest)) {
    throw new CheckpointError(
      "damaged",
      `${source} was changed: its values are not those its SHA-256 is of${REMEDY}`,
    );
  }
  const { step, seed, model, training, files, weights_sha256: weightsSha256 } = json;
  const isState =
    isCount(step) &&
    isCount(seed) &&
    isConfig(model) &&
    isConfig(training) &&
    isConfig(files) &&
    typeof weightsSha256 === "string";
  if (!isState) {
    throw new CheckpointError(
      "damaged",
      `${source} lacks one of step, seed, model, training, files and weights_sha256${REMEDY}`,
    );
  }
  const known = { step, seed, model, training, files: files as Record<string, string>, weightsSha256 };
  return isCount(json.epoch) ? { ...known, epoch: json.epoch } : known;
}

function parseObject(bytes: Uint8Array): Record<string, unknown> | undefined {
  try {
    const json: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return typeof json === "object" && json !== null ? (json as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isConfig(value: unknown): value is Config {
  return (
    typeof value === "object" &&
    value !== null &&
    Object.values(value).every((entry) => ["string", "number", "boolean"].includes(typeof entry))
  );
}
