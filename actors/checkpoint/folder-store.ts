/**
 * Checkpoints in folders: the newest is in the store's own place, older ones beside it as `<place>.step-<N>`.
 *
 * A new one is made as `<place>.partial`. When it is complete the old one becomes `<place>.previous`, the new one takes
 * its place, and the old one gets its name. Whenever the process is killed, either the old or the new checkpoint is
 * whole; it is found even between the two renames.
 *
 * Where several coordinators may lead the run, each makes its own as `<place>.partial-<epoch>`, and one of an earlier epoch
 * than the newest checkpoint's changes nothing.
 */

import type { Chunks, Files } from "../../runtime/platform/files.ts";
import { CheckpointError, parseState, type State } from "../checkpoint-state.ts";
import { isPart, STATE, stepOf } from "./file-names.ts";
import type { Kept, Store } from "./store.ts";
import { supersededAt } from "./superseded.ts";

export class FolderStore implements Store {
  readonly place: string;
  readonly epoch: number;
  private readonly files: Files;
  private readonly partial: string;
  private readonly previous: string;

  constructor(files: Files, folder: string, epoch = 0) {
    this.files = files;
    this.place = folder.replace(/(?<=.)[/\\]+$/, "");
    this.epoch = epoch;
    this.partial = `${this.place}.partial${epoch > 0 ? `-${epoch}` : ""}`;
    this.previous = `${this.place}.previous`;
  }

  async prepare(): Promise<void> {
    const { files, place, partial } = this;
    await this.requireLead();
    await this.settle();
    if (await files.exists(place)) {
      const stranger = (await files.list(place)).find((name) => !isPart(name));
      if (stranger !== undefined) {
        throw new CheckpointError(
          "occupied",
          `${place} holds ${stranger}, which is no part of a checkpoint: choose a new or an empty folder`,
        );
      }
    }
    for (const each of await this.beside("partial")) {
      // One of a later epoch is being written by whoever leads the run now.
      const epoch = Number(/\.partial-(\d+)$/.exec(each)?.[1] ?? 0);
      if (this.epoch === 0 || epoch <= this.epoch) await files.remove(each);
    }
    await files.makeFolder(partial);
    await files.write(`${partial}/${STATE}`, []);
    await files.remove(partial);
  }

  async list(): Promise<readonly Kept[]> {
    const { files, place, previous } = this;
    const newest = [];
    for (const path of [place, previous]) if (await files.exists(path)) newest.push({ path, step: null });
    const older = (await this.beside("step-"))
      .map((path) => ({ path, step: stepOf(path) }))
      .filter(({ step }) => step !== null);
    return [...newest, ...older.sort((a, b) => b.step! - a.step!)];
  }

  /** Paths of what is called as the place is, and so on. */
  private async beside(rest: string): Promise<readonly string[]> {
    const { files, place } = this;
    const [, folder = "", name = place] = /^(.*[/\\])?([^/\\]+)$/.exec(place) ?? [];
    const parent = folder || ".";
    if (!(await files.isFolder(parent))) return [];
    const names = await files.list(parent);
    return names.filter((each) => each.startsWith(`${name}.${rest}`)).map((each) => `${folder}${each}`);
  }

  async read(path: string, name: string): Promise<Uint8Array | null> {
    const file = `${path}/${name}`;
    return (await this.files.exists(file)) ? this.files.read(file) : null;
  }

  async begin(): Promise<void> {
    await this.prepare();
    await this.files.makeFolder(this.partial);
  }

  write(name: string, chunks: Chunks): Promise<void> {
    return this.files.write(`${this.partial}/${name}`, chunks);
  }

  async complete(name: string, bytes: Uint8Array): Promise<string> {
    const { files, place, partial, previous } = this;
    await this.requireLead();
    await this.write(name, [bytes]);
    if (await files.exists(place)) await files.rename(place, previous);
    await files.rename(partial, place);
    await this.settle();
    return place;
  }

  async remove(path: string): Promise<void> {
    await this.requireLead();
    await this.files.remove(path);
  }

  /** @throws Deposed where the newest is of a later epoch. */
  private async requireLead(): Promise<void> {
    if (this.epoch === 0) return;
    for (const path of [this.place, this.previous]) {
      const state = await this.stateIn(path);
      if (state && (state.epoch ?? 0) > this.epoch) throw supersededAt(this.place);
    }
  }

  /** The one before the newest gets its name; where a writer was killed and there is no newest, it is that again. */
  private async settle(): Promise<void> {
    const { files, place, previous } = this;
    if (!(await files.exists(previous))) return;
    if (!(await files.exists(place))) return files.rename(previous, place);
    const state = await this.stateIn(previous);
    if (state === null) return files.remove(previous);
    const older = `${place}.step-${state.step}`;
    await files.remove(older);
    await files.rename(previous, older);
  }

  /** Null where there is no state, or a damaged one: nobody can use that any more. */
  private async stateIn(path: string): Promise<State | null> {
    const bytes = await this.read(path, STATE);
    if (bytes === null) return null;
    try {
      return parseState(bytes, path);
    } catch {
      return null;
    }
  }
}
