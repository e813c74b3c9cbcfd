/**
 * Profiles that were measured before, by device and model, in one file of the user's cache folder: a model that was
 * trained here yesterday is planned for at once.
 *
 * A profile is found again only for the same device (its machine, name, engine, cores and version of Troupe) and the
 * same work (the graph of a micro-batch with its rows, the roles of its inputs, optimiser, micro-batches, and what was
 * asked for); how fast it is to learn, and for how long, is nothing to it. What may have changed all the same, such as how
 * much else the machine does, shows as drift (`drift.ts`): then the profile is corrected, and marked so that the next run
 * measures anew.
 *
 * The file can be lost or damaged at any time and nothing but time is lost. Several processes may write it: each replaces
 * it whole, with what it finds there and what it adds.
 */

import type { OptimizerConfig } from "../nn/optim/optimizer.ts";
import type { ModelProfile } from "../nn/profile.ts";
import pkg from "../package.json" with { type: "json" };
import { FileError, type Files } from "../runtime/platform/files.ts";
import { sha256 } from "../runtime/platform/hash.ts";
import type { DeviceDescription, ProfileRequest } from "./device.ts";

/** Those measured last are kept; one has some 10 kB. */
const MOST_PROFILES = 200;
const FILE = "profiles.json";
const FORMAT = 1;

interface Entry {
  readonly key: string;
  readonly profile: ModelProfile;
}

export class ProfileCache {
  private readonly files: Files;
  private readonly folder: string;
  private readonly note: (line: string) => void;

  /** @param note told in a line when the file cannot be used or written. */
  constructor(files: Files, folder: string, note: (line: string) => void) {
    this.files = files;
    this.folder = folder;
    this.note = note;
  }

  /** The profile of that key, or undefined. */
  async get(key: string): Promise<ModelProfile | undefined> {
    return (await this.entries()).find((entry) => entry.key === key)?.profile;
  }

  /** Keeps a profile in place of an earlier one. A file that cannot be written is noted, and no error. */
  async put(key: string, profile: ModelProfile): Promise<void> {
    const others = (await this.entries()).filter((entry) => entry.key !== key);
    await this.write([{ key, profile }, ...others]);
  }

  /** Forgets a profile: what it says is not so any more. */
  async drop(key: string): Promise<void> {
    const entries = await this.entries();
    const others = entries.filter((entry) => entry.key !== key);
    if (others.length < entries.length) await this.write(others);
  }

  private async write(entries: readonly Entry[]): Promise<void> {
    const text = JSON.stringify({ format: FORMAT, entries: entries.slice(0, MOST_PROFILES) });
    try {
      await this.files.makeFolder(this.folder);
      await this.files.write(this.path, [new TextEncoder().encode(text)]);
    } catch (error) {
      if (!(error instanceof FileError)) throw error;
      this.note(`profiles are not kept for the next run: ${error.message}`);
    }
  }

  private async entries(): Promise<readonly Entry[]> {
    try {
      const text = new TextDecoder().decode(await this.files.read(this.path));
      const entries = readEntries(text);
      if (entries) return entries;
      this.note(`${this.path} is damaged or of another version, and is not used: devices are measured anew`);
    } catch (error) {
      if (!(error instanceof FileError)) throw error;
      if (error.reason !== "missing") this.note(`devices are measured anew: ${error.message}`);
    }
    return [];
  }

  private get path(): string {
    return `${this.folder}/${FILE}`;
  }
}

/** What a profile is found again by. */
export function profileKey(device: DeviceDescription, request: ProfileRequest): string {
  const { graph, optimizer, ...work } = request;
  const { host, name, engine, cores } = device;
  const key = [pkg.version, host, name, engine, cores, { ...work, optimizer: paceless(optimizer) }];
  return sha256([JSON.stringify(key), graph.bytes]);
}

/** An optimiser but for the numbers of its rate's schedule, which differ from run to run and change no time. */
function paceless(optimizer: OptimizerConfig): Partial<OptimizerConfig> {
  const { learningRate, warmup, steps, floor, ...others } = optimizer;
  return others;
}

/** Null for a text that is no list of profiles. */
function readEntries(text: string): Entry[] | null {
  try {
    const { format, entries } = JSON.parse(text);
    if (format !== FORMAT || !Array.isArray(entries)) return null;
    return entries.every(({ key, profile }) => typeof key === "string" && isProfile(profile))
      ? entries
      : null;
  } catch {
    return null;
  }
}

/** Whether all figures are where they belong; an entry is not trusted further than that. */
function isProfile(value: ModelProfile): boolean {
  const isTime = (figure: unknown) => typeof figure === "number" && Number.isFinite(figure) && figure >= 0;
  const { forwardMs, backwardMs, jointMs, stepMs, otherMs } = value.chunk;
  return (
    [forwardMs, backwardMs, jointMs, stepMs, otherMs].every(isTime) &&
    value.segments.length > 0 &&
    value.segments.every((segment) =>
      [
        ...[segment.forwardMs, segment.backwardMs, segment.jointMs, segment.stepMs],
        ...[segment.stashBytes, segment.workingBytes],
      ].every(isTime),
    )
  );
}
