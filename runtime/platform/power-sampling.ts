/** What sensors share: looking now and then, and making joules of watts. */

import type { Clock, Timer } from "../clock.ts";
import { FileError, type Files } from "./files.ts";

/** Joules from samples of power: between two, the mean of both (the trapezoidal rule). */
export class PowerIntegral {
  private total = 0;
  private last: { readonly watts: number; readonly atMs: number } | undefined;

  /** @param atMs not before the last sample's. */
  add(watts: number, atMs: number): void {
    if (this.last) this.total += (((this.last.watts + watts) / 2) * (atMs - this.last.atMs)) / 1000;
    this.last = { watts, atMs };
  }

  /** Until `atMs`, as if power had stayed since the last sample. */
  joules(atMs: number): number {
    if (!this.last) return 0;
    return this.total + (this.last.watts * Math.max(0, atMs - this.last.atMs)) / 1000;
  }
}

/** Looks every so often, and when asked; one look at a time. After the first that fails there are no more. */
export class Sampling {
  private readonly clock: Clock;
  private readonly everyMs: number;
  private readonly look: () => Promise<void>;
  private timer: Timer;
  private last: Promise<void> = Promise.resolve();
  private released = false;

  constructor(clock: Clock, everyMs: number, look: () => Promise<void>) {
    this.clock = clock;
    this.everyMs = everyMs;
    this.look = look;
    this.schedule();
  }

  /** A look now. @throws what a look threw, this one or any before it. */
  now(): Promise<void> {
    this.last = this.last.then(() => (this.released ? undefined : this.look()));
    return this.last;
  }

  /** Ends the timer and waits for a look that is under way. Idempotent. */
  async release(): Promise<void> {
    this.released = true;
    this.clock.clearTimer(this.timer);
    await this.last.catch(() => {});
  }

  private schedule(): void {
    if (this.released) return;
    const again = () => this.schedule();
    // Whoever asks next hears of a failure.
    this.timer = this.clock.setTimer(() => this.now().then(again, () => {}), this.everyMs);
  }
}

/** The text of a small file, without white space around it. @throws FileError */
export async function readText(files: Pick<Files, "read">, path: string): Promise<string> {
  return new TextDecoder().decode(await files.read(path)).trim();
}

/** The same, undefined where the file cannot be read. */
export function readMaybe(files: Pick<Files, "read">, path: string): Promise<string | undefined> {
  return readText(files, path).catch((error) => {
    if (error instanceof FileError) return undefined;
    throw error;
  });
}

/** Names in a folder, sorted; none where there is no such folder. */
export async function listMaybe(files: Pick<Files, "list">, folder: string): Promise<string[]> {
  const names = await files.list(folder).catch((error) => {
    if (error instanceof FileError) return [];
    throw error;
  });
  return names.sort();
}

/** A whole number of a file's text, negative ones included; undefined for anything else. */
export function integer(text: string | undefined): number | undefined {
  return text !== undefined && /^-?\d+$/.test(text) ? Number(text) : undefined;
}
